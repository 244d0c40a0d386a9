import { expect, test } from 'vitest';
import { loadArt } from './art.js';
import { drawGrid, tilePictures } from './grid.js';
import { renderScene } from './render.js';
import { sampleScene } from './sample.js';

test('a grid holds the pictures at their places', async () => {
  const grid = await drawGrid(3, 2, { seed: 4, gap: 1, scale: 2 });
  expect([grid.width, grid.height]).toEqual([3 * 128 + 4, 2 * 128 + 3]);
  expect(grid.rgb).toHaveLength(grid.width * grid.height * 3);
  expect(grid.captions).toHaveLength(6);
  const picture = renderScene(sampleScene('train', 4, 4), await loadArt('noto')); // row 1, column 1
  const [x, y] = [20, 30];
  const at = ((1 + 129 + 2 * y) * grid.width + 1 + 129 + 2 * x) * 3;
  expect([...grid.rgb.subarray(at, at + 3)]).toEqual([
    ...picture.subarray((y * 64 + x) * 3, (y * 64 + x) * 3 + 3),
  ]);
  expect([...grid.rgb.subarray(0, 3)]).toEqual([128, 128, 128]);
});

test('a last row may be short', () => {
  const white = new Uint8Array(64 * 64 * 3).fill(255);
  const { width, height, rgb } = tilePictures([white, white, white], 2, { gap: 0 });
  expect([width, height]).toEqual([128, 128]);
  expect(rgb.at(-1)).toBe(128);
});

test('an unknown art set is refused by name', async () => {
  await expect(loadArt('apple' as 'noto')).rejects.toThrow(/no art set "apple" — one of noto/);
});
