/** Proves on this machine that a picture depends on its own seed and not on the batch it is drawn in. */

import { type Generated, generate, initialNoiseKeys, type Pipeline, stepNoiseKeys } from '@rldf/models';
import { cat, free, type NoiseKey, noGrad, normal, scope, type Tensor } from '@rldf/torch';
import { type Comparison, compare, firstTensorDifference } from './compare.js';

const prompts = ['a cat', 'two dogs', 'a red car', 'a tree on grass'] as const;
const seeds = prompts.map((_, index) => index);
/** Largest difference of two latents that still counts as equal: kernels of other batch sizes round differently. */
export const tolerance = 1e-4;

export interface SeedVerification {
  equal: boolean;
  batches: [number, number];
  /** The noise, which must be equal bit for bit. */
  noise: Comparison[];
  /** Largest difference of the denoised latents, and the first that is above `tolerance`, if one is. */
  latents: { largest: number; tolerance: number; difference?: string };
  /** Largest difference of the pictures in levels of 255. */
  pictures: number;
}

/** Draws four pictures at once and one at a time, with noise at every step (DDIM, eta 1). */
export async function verifySeed(
  pipeline: Pipeline,
  { steps }: { steps: number },
): Promise<SeedVerification> {
  const options = { steps, eta: 1, scheduler: 'DDIMScheduler' } as const;
  const together = await generate(pipeline, { ...options, prompts, seeds });
  const alone: Generated[] = [];
  for (const [index, prompt] of prompts.entries()) {
    alone.push(await generate(pipeline, { ...options, prompts: [prompt], seeds: [seeds[index] as number] }));
  }
  try {
    return noGrad(() =>
      scope(() => {
        const shape = together.latents.shape.slice(1);
        const noise = [
          compareNoise('initial noise', shape, initialNoiseKeys),
          ...Array.from({ length: steps }, (_, step) =>
            compareNoise(`noise of step ${step + 1}`, shape, (some) => stepNoiseKeys(some, step)),
          ),
        ];
        const one = cat(alone.map(({ latents }) => latents)); // [4, C, h, w]
        const largest = largestDifference(together.latents, one);
        const pictures = largestDifference(together.images, cat(alone.map(({ images }) => images)));
        const difference = firstTensorDifference(
          new Map([['latents', together.latents]]),
          new Map([['latents', one]]),
          tolerance,
        );
        return {
          equal: noise.every(({ equal }) => equal) && difference === undefined,
          batches: [prompts.length, 1] as [number, number],
          noise,
          latents: { largest, tolerance, ...(difference === undefined ? {} : { difference }) },
          pictures,
        };
      }),
    );
  } finally {
    free([together, alone]);
  }
}

function compareNoise(
  what: string,
  shape: readonly number[],
  keys: (seeds: readonly number[]) => NoiseKey[],
): Comparison {
  const together = normal(keys(seeds), shape);
  const alone = cat(seeds.map((seed) => normal(keys([seed]), shape)));
  return compare(what, [together.bytes(), alone.bytes()], () =>
    firstTensorDifference(new Map([['noise', together]]), new Map([['noise', alone]])),
  );
}

const largestDifference = (a: Tensor, b: Tensor): number =>
  Number(a.to('float64').sub(b.to('float64')).abs().amax().item());
