/** How far drawn pictures lie from rendered ones of the same prompts, in the judges' feature network: FID and KID. */

import { featureStatistics, frechetDistance, kernelDistance } from '@rldf/common/base/frechet';
import { HashRandom, loadArt, placePlan, planOf, renderScene, type SetPrompt } from '@rldf/emoji-world';
import { free, type Tensor, tensor } from '@rldf/torch';
import type { Measure } from './measures.js';
import { pictureSeed } from './seeds.js';
import { type JudgedPrompt, suite } from './suite.js';

/** Features of a drawn picture and of a rendered one of the same prompt. */
export interface FeaturePair {
  drawn: readonly number[];
  real: readonly number[];
}

/** The drawn pictures have the places of the base model's training scenes. */
const PLACES = { centre: 0.8, grid: 0.2 };

/**
 * - `fid`: squared Fréchet distance of the features' Gaussians; of few pictures it is biased upwards, so it only
 *   compares evaluations of as many pictures;
 * - `kid`: unbiased squared maximum mean discrepancy under the cubic kernel, 1000 times.
 */
export function fidMeasures(judged: readonly JudgedPrompt<FeaturePair>[]): Record<string, Measure> {
  const prompts = judged.length;
  const pictures = judged.reduce((sum, { verdicts }) => sum + verdicts.length, 0);
  const over = (distance: (drawn: Tensor, real: Tensor) => number) => (kept: readonly number[]) => {
    const pairs = kept.flatMap((prompt) => judged[prompt]!.verdicts);
    const rows = (which: keyof FeaturePair) =>
      tensor(
        pairs.flatMap((pair) => [...pair[which]]),
        { shape: [pairs.length, pairs[0]!.drawn.length], dtype: 'float64' },
      );
    const both: [Tensor, Tensor] = [rows('drawn'), rows('real')];
    try {
      return distance(...both);
    } finally {
      free(both);
    }
  };
  return {
    fid: { kind: 'set', prompts, pictures, of: over(fid) },
    kid: {
      kind: 'set',
      prompts,
      pictures,
      of: over((drawn, real) => 1000 * kernelDistance(drawn, real, Number.POSITIVE_INFINITY).value),
    },
  };
}

function fid(drawn: Tensor, real: Tensor): number {
  const statistics = [featureStatistics(drawn), featureStatistics(real)] as const;
  try {
    return frechetDistance(...statistics);
  } finally {
    free(statistics.flatMap(({ mean, covariance }) => [mean, covariance]));
  }
}

/** Rendered pictures of the same prompts, each placed anew, uint8 [B, 64, 64, 3]. */
async function realPictures(prompts: readonly SetPrompt[], numbers: readonly number[]): Promise<Tensor> {
  const art = await loadArt('noto');
  const pictures = prompts.map(({ prompt, scene }, i) => {
    const random = new HashRandom(pictureSeed(prompt, numbers[i]!));
    return renderScene(placePlan(planOf(scene), random, { places: PLACES }), art);
  });
  const edge = Math.sqrt(pictures[0]!.length / 3);
  const bytes = new Uint8Array(pictures.length * pictures[0]!.length);
  for (const [i, picture] of pictures.entries()) bytes.set(picture, i * picture.length);
  return tensor(bytes, { shape: [pictures.length, edge, edge, 3] });
}

export const fidAndKid = suite<FeaturePair>({
  description: 'distance from rendered pictures of the same prompts',
  judges: ['features'],
  sets: [{ set: 'eval-mixed', pictures: 8 }],
  async look({ images, prompts, numbers }, judges) {
    const real = await realPictures(prompts, numbers);
    try {
      const [drawn, rendered] = [judges.features(images), judges.features(real)];
      return drawn.map((features, i) => ({ drawn: features, real: rendered[i]! }));
    } finally {
      real.free();
    }
  },
  measure: fidMeasures,
  words: () => '',
});
