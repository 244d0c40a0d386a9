import { mkdtempSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { tensorOfPictures } from '@rldf/common/base/picture';
import sharp from 'sharp';
import { expect, test } from 'vitest';
import { hasPeer } from '../base/peers.js';
import { singleRewardSchema } from '../config/fields.js';
import { loadReward } from './index.js';
import { editDistance, plainText, quotedText, tesseractReader, textReward, textScore } from './text.js';

test.each([
  ['a sign that says "Open now"', 'Open now'],
  ['a sign that says “Open” and a door', 'Open'],
  ["a poster with 'don't panic' on it", "don't panic"],
  ['two signs, "left" and "right"', 'left right'],
])('the quoted text of %s', (prompt, text) => {
  expect(quotedText(prompt)).toBe(text);
});

test('a prompt without quotes is named', () => {
  expect(() => quotedText("a dog's house")).toThrow(
    /^reward text: the prompt 'a dog's house' quotes no text/,
  );
});

test.each([
  ['kitten', 'sitting', 3],
  ['', 'abc', 3],
  ['abc', '', 3],
  ['same', 'same', 0],
  ['über', 'uber', 1],
])('the edit distance of %s and %s', (a, b, distance) => {
  expect(editDistance(a, b)).toBe(distance);
});

test('scores: letters and digits in any case; nothing read is 0', () => {
  expect(plainText('  OPEN —\nnow! ')).toBe('open now');
  expect(textScore('Open now', 'OPEN\nNOW.')).toBe(1);
  expect(textScore('open', 'oben')).toBe(0.75);
  expect(textScore('open', '')).toBe(0);
  expect(textScore('open', 'open open')).toBeCloseTo(4 / 9, 12);
});

const picture = async (text: string) => {
  const svg = `<svg width="320" height="96"><rect width="320" height="96" fill="white"/><text x="24" y="64" font-family="sans-serif" font-size="44">${text}</text></svg>`;
  const { data, info } = await sharp(Buffer.from(svg))
    .removeAlpha()
    .raw()
    .toBuffer({ resolveWithObject: true });
  return { width: info.width, height: info.height, channels: 3 as const, data: new Uint8Array(data) };
};

test('each picture against its own prompt, by whoever reads', async () => {
  const reader = { ready: async () => {}, read: async () => ['STOP', 'hello'] };
  const images = tensorOfPictures([await picture(''), await picture('')]);
  const prompts = ['a sign that says "stop"', 'a sign that says "stop"'];
  expect(await textReward(reader).score({ images, prompts, meta: [null, null] })).toEqual([
    1,
    textScore('stop', 'hello'),
  ]);
});

test('what is not installed, and data that is not there, are told', async () => {
  if (!hasPeer('tesseract.js')) {
    await expect(tesseractReader({ text: 'tesseract', language: 'eng' }).ready()).rejects.toThrow(
      /the package tesseract\.js is not installed — it reads text in pictures, .*`npm install tesseract\.js @tesseract\.js-data\/eng`/,
    );
    return;
  }
  const data = mkdtempSync(join(tmpdir(), 'rldf-none-'));
  await expect(tesseractReader({ text: 'tesseract', language: 'eng', data }).ready()).rejects.toThrow(
    /there is no eng\.traineddata\.gz in .*npm install @tesseract\.js-data\/eng/,
  );
});

test.skipIf(!hasPeer('tesseract.js'))(
  'damaged language data is told, and nothing waits for ever',
  async () => {
    const data = mkdtempSync(join(tmpdir(), 'rldf-bad-'));
    const file = join(data, 'eng.traineddata.gz');
    const ready = () => tesseractReader({ text: 'tesseract', language: 'eng', data }).ready();
    writeFileSync(file, 'garbage');
    await expect(ready()).rejects.toThrow(/^reward text: .*eng\.traineddata\.gz is damaged \(/);
    writeFileSync(file, gzipSync('no language data'));
    await expect(ready()).rejects.toThrow(/is damaged \(it begins otherwise\)/);
    const table = Buffer.alloc(4 + 8 * 2);
    table.writeInt32LE(2);
    table.writeBigInt64LE(20n, 12);
    writeFileSync(file, gzipSync(table));
    await expect(ready()).rejects.toThrow(/is damaged \(it ends too early\)/);
  },
);

// skipped where the optional packages are not installed: npm install --no-save tesseract.js @tesseract.js-data/eng
test.skipIf(!hasPeer('tesseract.js') || !hasPeer('@tesseract.js-data/eng'))(
  'tesseract.js reads printed letters, without a download',
  async () => {
    const reward = await loadReward(singleRewardSchema.parse({ text: 'tesseract' }));
    const images = tensorOfPictures([await picture('OPEN'), await picture('')]);
    const prompts = ['a sign that says "open"', 'a sign that says "open"'];
    expect(await reward.score({ images, prompts, meta: [null, null] })).toEqual([1, 0]);
  },
);
