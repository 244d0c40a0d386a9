/** Rewards that are made of a detector's boxes, by what a recipe says. */

import type { Detector } from '@rldf/models';
import type { Device } from '@rldf/torch';
import { UserError } from '@rldf/torch/errors';
import type { DetectedRewardField } from '../config/detector-fields.js';
import { onCrops, onnxQuality } from './crops.js';
import { count, detectorConfidence, presence, spatial } from './detection.js';
import { openDetector } from './detectors/index.js';
import { qualityFace } from './face-quality.js';
import { geneval } from './geneval.js';
import type { Reward } from './reward.js';

/** What looks at the pictures where a recipe does not say. */
export const detectorOfScore: Readonly<Record<DetectedRewardField['score'], string>> = {
  spatial: 'detector',
  count: 'detector',
  presence: 'detector',
  'detector-confidence': 'detector',
  geneval: 'human',
  composition: 'human',
  face: 'human-faces',
  hand: 'human-hands',
};

/** @throws UserError for a detector that there is not, or a field that the score does not take */
export function detectedReward(
  field: Pick<DetectedRewardField, 'score'> & Partial<DetectedRewardField>,
  device?: Device,
): Reward {
  const { score, as = score, quality, none } = field;
  const detector = openDetector(
    field.detector ?? detectorOfScore[score],
    device === undefined ? {} : { device },
  );
  if (quality !== undefined && score !== 'face' && score !== 'hand')
    throw new UserError(
      `reward ${score}: quality is for crops — it goes with score: face or hand. Leave it out`,
    );
  if (score === 'face' || score === 'hand') {
    const crops = quality && ('onnx' in quality ? onnxQuality(quality) : qualityFace(quality, device));
    return onCrops(as, detector, { quality: crops, ...(none !== undefined && { none }) });
  }
  return { ...scores[score](detector), name: as };
}

const scores: Record<
  Exclude<DetectedRewardField['score'], 'face' | 'hand'>,
  (detector: Detector) => Reward
> = {
  spatial,
  count,
  presence,
  'detector-confidence': detectorConfidence,
  geneval: (detector) => geneval(detector),
  composition: (detector) => geneval(detector, { shares: true }),
};
