/** How far data sets lie apart in the judges' features (table 1 of the RLDF paper). */

import { featureStatistics, frechetDistance, kernelDistance } from '@rldf/common/base/frechet';
import type { FeatureNetwork } from '@rldf/common/instruments/feature-networks';
import { free, noiseKey, Random, type Tensor, tensor } from '@rldf/torch';
import { imagesOf, type LabelledSet, select } from './labelled-set.js';

export interface SetDistance {
  /** Squared Fréchet distance; biased upwards for few pictures, so only distances over equally many compare. */
  fid: number;
  /** 1000 times the unbiased squared maximum mean discrepancy: mean over disjoint subsets. */
  kid: number;
  /** Standard deviation over the subsets; null when there is one. */
  kidDeviation: number | null;
  subsets: number;
  /** How many pictures of each set were compared. */
  pictures: number;
}

const BATCH = 128;
/** Pictures of a subset; smaller sets are cut into at least this many subsets if each keeps 10 pictures. */
const SUBSET = 100;
const SUBSETS = 4;

/**
 * Features of `count` pictures, in a shuffled order: [count, D], float64.
 * @param count at most the set's size
 */
export function featuresOf(set: LabelledSet, count: number, network: FeatureNetwork): Tensor {
  const rows = new Random(noiseKey(0, 'clone-features')).shuffle(set.labels.map((_, row) => row));
  const chosen = select(set, rows.slice(0, count));
  const features: number[][] = [];
  for (let start = 0; start < count; start += BATCH) {
    const images = imagesOf(chosen, start, Math.min(BATCH, count - start));
    try {
      features.push(...network(images));
    } finally {
      images.free();
    }
  }
  return tensor(features.flat(), { shape: [count, features[0]!.length], dtype: 'float64' });
}

/** @param a [N, D] @param b [N, D] */
export function distanceOf(a: Tensor, b: Tensor): SetDistance {
  const pictures = a.shape[0]!;
  const subset = Math.min(SUBSET, Math.max(10, Math.floor(pictures / SUBSETS)));
  const kernel = kernelDistance(a, b, subset);
  const statistics = [featureStatistics(a), featureStatistics(b)] as const;
  try {
    return {
      fid: frechetDistance(...statistics),
      kid: 1000 * kernel.value,
      kidDeviation: kernel.blocks < 2 ? null : 1000 * kernel.standardError * Math.sqrt(kernel.blocks),
      subsets: kernel.blocks,
      pictures,
    };
  } finally {
    free(statistics.flatMap(({ mean, covariance }) => [mean, covariance]));
  }
}
