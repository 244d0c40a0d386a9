import { mkdtempSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { tensor } from '@rldf/torch';
import { expect, test } from 'vitest';
import { loadRatings, pictureHash } from './ratings.js';

const folder = mkdtempSync(join(tmpdir(), 'rldf-ratings-'));
function file(name: string, text: string): string {
  writeFileSync(join(folder, name), text);
  return join(folder, name);
}
const pixels = Uint8Array.from({ length: 2 * 12 }, (_, i) => i);
const batch = (meta: unknown[]) => ({
  images: tensor(pixels, { shape: [2, 2, 2, 3], dtype: 'uint8' }),
  prompts: ['a cat', 'a dog'],
  meta,
});
const hash = pictureHash({ width: 2, height: 2, channels: 3, data: pixels.slice(0, 12) });

test('a picture is found by its hash, or by prompt and seed; several ratings are averaged', async () => {
  const csv = file('a.csv', `prompt,picture,seed,rating\na cat,${hash},,4\na cat,${hash},,1\na dog,,7,-2\n`);
  expect(await loadRatings(csv).score(batch([null, { seed: 7 }]))).toEqual([2.5, -2]);
  const lines = file(
    'a.jsonl',
    `{"prompt":"a cat","picture":"${hash}","rating":3}\n{"prompt":"a dog","seed":7,"rating":5}\n`,
  );
  expect(await loadRatings(lines).score(batch([null, { seed: 7 }]))).toEqual([3, 5]);
});

test('the same bytes in another shape are another picture', () => {
  const data = new Uint8Array(12);
  expect(pictureHash({ width: 4, height: 1, channels: 3, data })).not.toBe(
    pictureHash({ width: 2, height: 2, channels: 3, data }),
  );
});

test('what is missing is said', () => {
  const some = loadRatings(file('b.csv', `prompt,picture,rating\na cat,${hash},4\n`));
  expect(() => some.score(batch([null, { seed: 7 }]))).toThrow(
    /no rating of picture 1 \("a dog", hash [0-9a-f]{64}\)/,
  );
  expect(() => loadRatings(file('c.csv', 'prompt,seed,rating\na cat,1,good\n'))).toThrow(
    'c.csv: rating 1 ("a cat"): rating is "good" — must be a number',
  );
  expect(() => loadRatings(file('d.csv', 'prompt,seed\na cat,1\n'))).toThrow('Add a column "rating"');
  expect(() => loadRatings(file('e.csv', 'prompt,rating\na cat,1\n'))).toThrow('names no picture');
});
