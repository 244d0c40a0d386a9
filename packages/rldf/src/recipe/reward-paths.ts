/** Paths in what a recipe says of a reward, and rewards in files of their own. */

import { dirname, isAbsolute, resolve } from 'node:path';
import type { DetectedRewardField } from '../config/detector-fields.js';
import { type SingleReward, singleRewardSchema } from '../config/fields.js';
import { checkedFile } from '../config/remote-fields.js';
import { absoluteDetector } from '../rewards/detectors/index.js';

/** A reward with the paths in it made absolute. */
export function absoluteReward(field: SingleReward, absolute: (path: string) => string): SingleReward {
  if (typeof field !== 'object') return field;
  if ('score' in field) return absoluteDetected(field, absolute);
  const placed = Object.entries(field).map(([kind, value]) => [
    kind,
    isPathIn(kind, value) ? absolute(value) : value,
  ]);
  return Object.fromEntries(placed) as SingleReward;
}

/**
 * One reward in a file of its own: what a recipe has under `reward`.
 * @throws UserError when there is no such file, or it holds no reward
 */
export function readRewardFile(file: string): SingleReward {
  const field = checkedFile(singleRewardSchema, file, 'reward');
  return absoluteReward(field, (path) => (isAbsolute(path) ? path : resolve(dirname(file), path)));
}

const weightKinds: ReadonlySet<string> = new Set(['weights', 'clip', 'tokenizer']);

/** Whether weights are named by a path, and not by a repository or a folder where rldf is started. */
const isPath = (text: string) =>
  isAbsolute(text) || /^\.{1,2}([/\\]|$)/.test(text) || /\.(pt|pth|safetensors|json|txt)$/.test(text);
/** A reward of a detector with the paths of what it loads made absolute. */
function absoluteDetected(
  field: DetectedRewardField,
  absolute: (path: string) => string,
): DetectedRewardField {
  const { detector, quality } = field;
  return {
    ...field,
    ...(detector !== undefined && { detector: absoluteDetector(detector, absolute) }),
    ...(quality !== undefined && { quality: absoluteQuality(quality, absolute) }),
  };
}

function absoluteQuality(
  quality: NonNullable<DetectedRewardField['quality']>,
  absolute: (path: string) => string,
): NonNullable<DetectedRewardField['quality']> {
  if ('onnx' in quality) return { ...quality, onnx: absolute(quality.onnx) };
  const { qualityface } = quality;
  return { ...quality, qualityface: qualityface === 'tiny' ? qualityface : absolute(qualityface) };
}

/** Whether a field of a reward names a file: weights may also be a repository's name, and a judge's question that of a shipped one. */
const isPathIn = (kind: string, value: unknown): value is string =>
  typeof value === 'string' &&
  (['module', 'ratings', 'cache', 'data'].includes(kind) ||
    (weightKinds.has(kind) && isPath(value)) ||
    (kind === 'vision' && /[/\\]|\.ya?ml$/.test(value)));
