import sharp from 'sharp';
import { expect, test } from 'vitest';
import { readPicture } from './image-source.js';

/** Left half red, right half blue, 24 x 12; told to be turned in the EXIF way `orientation`. */
const photo = (orientation: number) => {
  const rgb = Buffer.from(
    Array.from({ length: 24 * 12 }, (_, i) => (i % 24 < 12 ? [255, 0, 0] : [0, 0, 255])).flat(),
  );
  return sharp(rgb, { raw: { width: 24, height: 12, channels: 3 } })
    .withMetadata({ orientation })
    .png()
    .toBuffer();
};

/** The colours of the corners, from the upper left in reading order. */
async function corners(file: Buffer) {
  const { width, height, data } = await readPicture(file, 'photo');
  const at = (x: number, y: number) => (data[3 * (y * width + x)] === 255 ? 'red' : 'blue');
  return [
    `${width} x ${height}`,
    at(0, 0),
    at(width - 1, 0),
    at(0, height - 1),
    at(width - 1, height - 1),
  ].join(' ');
}

test.each([
  [1, '24 x 12 red blue red blue'],
  [3, '24 x 12 blue red blue red'], // half a turn
  [6, '12 x 24 red red blue blue'], // a quarter clockwise: left goes up
  [8, '12 x 24 blue blue red red'],
])('a photograph held in way %i is read upright', async (orientation, expected) => {
  expect(await corners(await photo(orientation))).toBe(expected);
});
