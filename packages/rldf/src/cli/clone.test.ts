import { mkdirSync, mkdtempSync, readFileSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { loadArt, renderScene } from '@rldf/emoji-world';
import sharp from 'sharp';
import { expect, test } from 'vitest';
import { rldf } from './command-line.fixture.js';

const folder = mkdtempSync(join(tmpdir(), 'rldf-cli-clone-'));
const images = join(folder, 'images');

const clone = (...words: string[]) => rldf('clone', ...words);

test('clones a class with the shipped model; a class that cannot be read is left out, with exit code 2', async () => {
  mkdirSync(join(images, 'class-1'), { recursive: true });
  mkdirSync(join(images, 'class-2'));
  writeFileSync(join(images, 'class-2', 'a.png'), 'no picture');
  const objects = [{ noun: 'pizza', size: 48, x: 8, y: 8 }] as const;
  const rgb = renderScene({ objects, background: 'white' }, await loadArt('noto'));
  await sharp(rgb, { raw: { width: 64, height: 64, channels: 3 } })
    .png()
    .toFile(join(images, 'class-1', 'a.png'));
  const out = join(folder, 'clone');
  // one denoising step draws badly and fast
  const fast = [
    '--denoising-steps',
    '1',
    '--guidance',
    '1',
    '--batch-size',
    '2',
    '--steps',
    '2',
    '--per-class',
    '2',
  ];
  const first = await clone('--images', images, '--out', out, ...fast);
  expect(first.code).toBe(2);
  expect(first.out).toMatch(/class-1: "a photo of an? .*".*, 2 pictures\n/);
  expect(first.out).toMatch(/class-2: .*cannot be read as a picture/);
  expect(first.err).toMatch(/clone: 1 of 2 classes left out: class-2/);
  const line = JSON.parse(readFileSync(join(out, 'class-1.jsonl'), 'utf8').split('\n')[0]!);
  expect(line).toMatchObject({ label: 'class-1', file: '00000.png', seed: expect.any(Number) });
  const again = await clone('--images', images, '--out', out, ...fast, '--shard', '0/2');
  expect(again).toMatchObject({ code: 0, out: expect.stringContaining('done before') });
});

test.each([
  ['no data set', ['--images', join(folder, 'none')], /no folders in it/],
  ['a shard outside', ['--images', folder, '--shard', '2/2'], /--shard 2\/2: write i\/n/],
  ['no schedule', ['--images', folder, '--epsilon', '7'], /--epsilon 7/],
])('%s ends with exit code 2', async (_, words, message) => {
  const { code, err } = await clone('--out', join(folder, 'bad'), ...words);
  expect(err).toMatch(message);
  expect(code).toBe(2);
});

test.each([
  ['no input', [], /clone: --images is missing/],
  ['no clone', ['evaluate', join(folder, 'none')], /none: no classes in it/],
  [
    'an unknown arm',
    ['evaluate', folder, '--arms', 'clone,fake'],
    /there is no fake — of clone, class-name, real/,
  ],
  ['a shift without a name', ['evaluate', folder, '--shift', folder], /write NAME=FOLDER/],
  ['unknown features', ['evaluate', folder, '--features', 'vgg'], /--features vgg/],
  ['an option that is none', ['evaluate', folder, '--perclass', '3'], /unknown option '--perclass'/],
])('clone evaluate: %s ends with exit code 2', async (_, words, message) => {
  const { code, err } = await clone(...words);
  expect(err).toMatch(message);
  expect(code).toBe(2);
});

test('clone evaluate: real pictures too few to hold one out end with exit code 2, and are counted', async () => {
  const few = join(folder, 'few');
  for (const noun of ['cat', 'fox']) {
    mkdirSync(join(few, noun), { recursive: true });
    for (let i = 0; i < 4; i++) writeFileSync(join(few, noun, `${i}.png`), 'never read');
  }
  const { code, err } = await clone('evaluate', few, '--real', few, '--arms', 'clone');
  expect(err).toMatch(/--real .*few: 4 pictures of cat — .*every fifth picture .* needs 5 or more/);
  expect(code).toBe(2);
});

test('clone evaluate trains, tests and prints, and writes both files', async () => {
  const nouns = join(folder, 'nouns');
  for (const noun of ['cat', 'fox']) {
    mkdirSync(join(nouns, noun), { recursive: true });
    for (let i = 0; i < 5; i++) {
      const objects = [{ noun, size: 48, x: 2 * i, y: 8 }] as const;
      const rgb = renderScene({ objects, background: 'white' }, await loadArt('noto'));
      const file = join(nouns, noun, `${i}.png`);
      await sharp(rgb, { raw: { width: 64, height: 64, channels: 3 } })
        .png()
        .toFile(file);
    }
  }
  const fast = [
    '--real',
    nouns,
    '--arms',
    'clone',
    '--epochs',
    '1',
    '--seeds',
    '0',
    '--pictures',
    '8',
    '--json',
  ];
  const { code, out, err } = await clone(
    'evaluate',
    nouns,
    ...fast,
    '--shift',
    `same=${nouns}`,
    '--size',
    '32',
  );
  expect(err).toMatch(/training 1 of 1 \(clone, seed 0\): update 1 of 1/);
  expect(code).toBe(0);
  expect(JSON.parse(out)).toMatchObject({
    classes: ['cat', 'fox'],
    accuracy: { same: { clone: { pictures: 10 } } },
  });
});
