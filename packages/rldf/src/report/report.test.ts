import { mkdtempSync, readFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Picture } from '@rldf/common/base/picture';
import { contactSheet } from '@rldf/common/drawing/grid';
import { crc32, encodePng, insertTexts, readTexts, settingsTexts } from '@rldf/common/drawing/png';
import { escapeXml, renderSvg } from '@rldf/common/drawing/svg';
import sharp from 'sharp';
import { expect, test } from 'vitest';
import { createRun, openRun } from '../run/run.js';
import { type Evaluation, redrawReport, reportNumbers, writeReport } from './report.js';

const flat = (red: number, green: number, blue: number, size = 8): Picture => ({
  width: size,
  height: size,
  channels: 3,
  data: Uint8Array.from({ length: size * size * 3 }, (_, i) => [red, green, blue][i % 3]!),
});

async function pixels(png: Buffer) {
  const { data, info } = await sharp(png).removeAlpha().raw().toBuffer({ resolveWithObject: true });
  const at = (x: number, y: number) =>
    Array.from(data.subarray((y * info.width + x) * 3, (y * info.width + x) * 3 + 3));
  return { at, width: info.width, height: info.height, data };
}

test('CRC-32 of the standard check string', () => {
  expect(crc32(Buffer.from('123456789'))).toBe(0xcbf43926);
});

test('settings inside a PNG come back, and the picture is untouched', async () => {
  const settings = { prompt: 'a “cat” — <b>\n🐈', seed: 7, guidanceScale: 4.5 };
  const file = await encodePng(flat(10, 20, 30), settingsTexts(settings));
  expect(JSON.parse(readTexts(file).rldf!)).toEqual(settings);
  expect(readTexts(file).parameters).toContain('seed: 7');
  expect((await pixels(file)).at(3, 3)).toEqual([10, 20, 30]);
  expect((await sharp(file).metadata()).format).toBe('png');
});

test('what is not a PNG, or is cut off, is refused', async () => {
  const file = await encodePng(flat(1, 2, 3), { note: 'x' });
  expect(() => readTexts(Buffer.from('GIF89a..'))).toThrow('not a PNG file');
  expect(() => readTexts(file.subarray(0, file.length - 5))).toThrow('cut off');
  expect(() => insertTexts(file, { 'bad\nkey': 'x' })).toThrow('printable ASCII');
});

test('text is drawn with the shipped font alone', async () => {
  const svg = (text: string) =>
    `<svg xmlns="http://www.w3.org/2000/svg" width="200" height="40"><rect width="200" height="40" fill="white"/><text x="4" y="28" font-size="24" font-family="Nonexistent">${text}</text></svg>`;
  const ink = async (text: string) =>
    (await pixels(await renderSvg(svg(text)))).data.filter((value) => value < 128).length;
  expect(await ink('')).toBe(0);
  expect(await ink('reward')).toBeGreaterThan(300);
  expect(await ink('α ≥ 1 → β')).toBeGreaterThan(100);
});

test('a contact sheet has each picture in its place, left to right', async () => {
  const cells = [
    { pictures: [flat(255, 0, 0), flat(0, 255, 0)], label: 'a <cat> & "dog"', detail: '1 → 2' },
    { pictures: [flat(0, 0, 255), flat(0, 0, 0)], label: 'x'.repeat(500) },
  ];
  const sheet = await pixels(await contactSheet(cells, { columns: 1, pictureSize: 32, title: 'grid' }));
  const [left, top, cellHeight] = [16, 16 + 34, 32 + 36 + 4 + 10];
  expect(sheet.at(left + 16, top + 16)).toEqual([255, 0, 0]);
  expect(sheet.at(left + 34 + 16, top + 16)).toEqual([0, 255, 0]);
  expect(sheet.at(left + 16, top + cellHeight + 16)).toEqual([0, 0, 255]);
  expect([sheet.width, sheet.height]).toEqual([2 * 16 + 66, 2 * 16 + 34 + 2 * 72 + 10]);
});

test('XML special characters and control characters cannot break out', () => {
  expect(escapeXml(`<a href="x" id='y'>&\u0000\u0007`)).toBe(
    '&lt;a href=&quot;x&quot; id=&#39;y&#39;&gt;&amp;',
  );
});

const evaluation = (): Evaluation => ({
  reward: 'jpeg-compressibility',
  unit: 'kB',
  pictures: 960,
  seconds: 123,
  pairs: Array.from({ length: 12 }, (_, index) => ({
    prompt: index < 2 ? '<script>alert("x")</script>' : `a cat ${index}`,
    seed: index,
    before: flat(200, 0, index * 10),
    after: flat(0, 200, index * 10),
    rewardBefore: -2 + 0.01 * index,
    rewardAfter: -1.5 + 0.02 * index,
  })),
});

test('report numbers average within prompts first', () => {
  const numbers = reportNumbers(evaluation());
  expect(numbers.prompts).toBe(11);
  // differences 0.5 + 0.01 i; prompts 0 and 1 are one, with 0.505; the mean by hand:
  const expected =
    (0.505 + [2, 3, 4, 5, 6, 7, 8, 9, 10, 11].reduce((sum, i) => sum + 0.5 + 0.01 * i, 0)) / 11;
  expect(numbers.reward.difference).toBeCloseTo(expected, 12);
  expect(numbers.reward.ci95[0]).toBeGreaterThan(0.505);
  expect(numbers.reward.ci95[1]).toBeLessThan(0.61);
  expect(reportNumbers(evaluation())).toEqual(numbers);
});

test('a report is written whole, escaped, and can be drawn again from the folder', async () => {
  const root = mkdtempSync(join(tmpdir(), 'rldf-report-'));
  const run = createRun({ root, name: 'demo', recipe: { method: 'ddpo', note: '</pre><script>' } });
  const metrics = run.metrics(0);
  for (let step = 1; step <= 5; step++) metrics.write({ step, 'reward/mean': -2 + step / 10 });
  metrics.write({ step: 5, 'validation/reward': -1.5 });
  metrics.close();
  const numbers = await writeReport(run, evaluation());
  const read = (name: string) => readFileSync(join(run.reportFolder, name));
  const json = JSON.parse(read('report.json').toString());
  expect(json.reward).toEqual(numbers.reward);
  expect([json.pictures, json.seconds]).toEqual([960, 123]);
  expect(json.note).toContain('over prompts within this one run');
  const html = read('index.html').toString();
  expect(html).not.toContain('<script>');
  expect(html).toContain('&lt;script&gt;alert(&quot;x&quot;)');
  expect(html).toContain('over prompts within this one run');
  expect(read('curve.svg').toString()).toContain('validation');
  expect((await pixels(read('curve.png'))).width).toBe(1280);
  expect((await pixels(read('grid.png'))).width).toBeGreaterThan(200);
  expect(await redrawReport(openRun('demo', root))).toEqual(numbers);
  const empty = createRun({ root, name: 'empty', recipe: {} });
  await expect(redrawReport(empty)).rejects.toThrow('has not come to its final evaluation');
});
