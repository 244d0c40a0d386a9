/** A noun in a colour: does the object have it? The detector finds the object, its pixels tell the colour. */

import type { Picture } from '@rldf/common/base/picture';
import { quantile } from '@rldf/common/base/stats';
import { type Colour, colours, colourTones, type Rgb } from '@rldf/emoji-world';
import type { Detection } from '@rldf/models';
import { type Measure, meanOf } from './measures.js';
import { type JudgedPrompt, share, suite } from './suite.js';

/** Pixels nearer than this to the background's tone, in RGB steps, belong to it. */
const BACKGROUND_DISTANCE = 40;

/**
 * The colour word of what a box holds: the median tone of its pixels that are not background, to the nearest of the
 * world's ten colours. A tinted sprite's median tone is the colour itself, its shades lie on both sides. The background
 * is the median of the picture's edge, for the upper and the lower half by itself, as it has a horizon.
 * @returns null where the box holds nothing but background
 */
export function colourOf(picture: Picture, [x0, y0, x1, y1]: Detection['box']): Colour | null {
  const { width, height } = picture;
  const grounds = [edgeTone(picture, 0, height >> 1), edgeTone(picture, height >> 1, height)];
  const inside: Rgb[] = [];
  for (let y = Math.max(0, Math.round(y0)); y < Math.min(height, Math.round(y1)); y++) {
    const ground = grounds[y < height >> 1 ? 0 : 1]!;
    for (let x = Math.max(0, Math.round(x0)); x < Math.min(width, Math.round(x1)); x++) {
      const pixel = pixelAt(picture, x, y);
      if (distance(pixel, ground) > BACKGROUND_DISTANCE) inside.push(pixel);
    }
  }
  if (inside.length === 0) return null;
  const tone = medianTone(inside);
  return colours.reduce((best, colour) =>
    distance(tone, colourTones[colour]) < distance(tone, colourTones[best]) ? colour : best,
  );
}

function edgeTone(picture: Picture, from: number, to: number): Rgb {
  const pixels: Rgb[] = [];
  for (let y = from; y < to; y++) pixels.push(pixelAt(picture, 0, y), pixelAt(picture, picture.width - 1, y));
  const row = from === 0 ? 0 : to - 1;
  for (let x = 0; x < picture.width; x++) pixels.push(pixelAt(picture, x, row));
  return medianTone(pixels);
}

const pixelAt = ({ width, data }: Picture, x: number, y: number): Rgb => {
  const at = (y * width + x) * 3;
  return [data[at]!, data[at + 1]!, data[at + 2]!];
};

const distance = (a: Rgb, b: Rgb) => Math.hypot(a[0] - b[0], a[1] - b[1], a[2] - b[2]);

/** Median of each channel. */
function medianTone(pixels: readonly Rgb[]): Rgb {
  const median = (channel: 0 | 1 | 2) =>
    quantile(
      pixels.map((pixel) => pixel[channel]).sort((a, b) => a - b),
      0.5,
    );
  return [median(0), median(1), median(2)];
}

export interface ColourVerdict {
  /** Of the best detection of the prompt's noun; null if there is none. */
  colour: Colour | null;
  detections: readonly Detection[];
}

/**
 * - `colourRight`: share of pictures with the noun in its colour;
 * - `colourGivenNoun`: the same among pictures with the noun.
 */
export function colourMeasures(
  judged: readonly JudgedPrompt<Pick<ColourVerdict, 'colour'>>[],
): Record<string, Measure> {
  const each = (missing: 0 | null) =>
    meanOf(
      judged.map(({ prompt, verdicts }) =>
        verdicts.map(({ colour }) =>
          colour === null ? missing : share(colour === prompt.scene.objects[0]?.colour),
        ),
      ),
    );
  return { colourRight: each(0), colourGivenNoun: each(null) };
}

export const colour = suite<ColourVerdict>({
  description: 'a noun in one of ten colours',
  judges: ['detector'],
  sets: [{ set: 'eval-colour', pictures: 4 }],
  look: async ({ images, pictures, prompts }, judges) =>
    (await judges.detect(images)).map((detections, i) => {
      const object = detections.find(({ label }) => label === prompts[i]!.scene.objects[0]?.noun);
      return { colour: object === undefined ? null : colourOf(pictures[i]!, object.box), detections };
    }),
  measure: colourMeasures,
  words: (_, { colour: found }) => found ?? 'not found',
  boxes: ({ detections }) => detections,
});
