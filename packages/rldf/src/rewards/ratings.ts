/** Ratings that people gave, from a file: for pictures that are there already, such as a data set to be learned from. */

import { createHash } from 'node:crypto';
import { type Picture, picturesOf } from '@rldf/common/base/picture';
import { UserError } from '@rldf/torch/errors';
import { readPromptFile } from '../prompts/prompt-files.js';
import type { Reward } from './reward.js';

/** SHA-256, in hex, of "WIDTHxHEIGHT" and the RGB bytes: names a picture whatever file it is kept in. */
export function pictureHash({ width, height, data }: Picture): string {
  return createHash('sha256').update(`${width}x${height}\n`).update(data).digest('hex');
}

/**
 * Ratings by picture: a `.csv`, `.tsv` or `.jsonl` file with `prompt`, `rating` (a number, higher is better) and `picture`
 * (its hash) or `seed`. Pictures are found by hash, else by prompt and the `seed` in their prompt's meta. Several
 * ratings of a picture are averaged.
 * @throws UserError with file and entry when a rating is missing or no number; when scoring, for a picture without a rating
 */
export function loadRatings(file: string): Reward {
  const ratings = new Map<string, { sum: number; count: number }>();
  for (const [index, { text, meta }] of readPromptFile(file).entries()) {
    const where = `${file}: rating ${index + 1} ("${text}")`;
    const fields = (meta ?? {}) as Record<string, unknown>;
    const rating = fields.rating === '' ? Number.NaN : Number(fields.rating ?? Number.NaN);
    if (!Number.isFinite(rating)) {
      throw new UserError(
        `${where}: rating is ${JSON.stringify(fields.rating)} — must be a number. Add a column "rating"`,
      );
    }
    const key = keyOf(text, fields);
    if (key === undefined) {
      throw new UserError(`${where}: names no picture — give its hash under "picture", or its "seed"`);
    }
    const { sum, count } = ratings.get(key) ?? { sum: 0, count: 0 };
    ratings.set(key, { sum: sum + rating, count: count + 1 });
  }
  return {
    name: 'ratings',
    unit: 'points',
    score: ({ images, prompts, meta }) =>
      picturesOf(images).map((picture, i) => {
        const hash = pictureHash(picture);
        const prompt = prompts[i] as string;
        const seeded = keyOf(prompt, { seed: (meta[i] as { seed?: unknown } | null | undefined)?.seed });
        const found = ratings.get(hash) ?? (seeded === undefined ? undefined : ratings.get(seeded));
        if (found === undefined) {
          throw new UserError(
            `reward ratings: ${file} has no rating of picture ${i} ("${prompt}", hash ${hash}) — people's ratings exist for the pictures they saw only. Add it, or train a preference model on the ratings`,
          );
        }
        return found.sum / found.count;
      }),
  };
}

/** A picture's hash, or its prompt and seed; undefined if neither is given. */
function keyOf(prompt: string, { picture, seed }: Record<string, unknown>): string | undefined {
  if (typeof picture === 'string' && picture !== '') return picture.toLowerCase();
  if (seed === undefined || seed === null || seed === '') return undefined;
  return `${prompt}\n${seed}`;
}
