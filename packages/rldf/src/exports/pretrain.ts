/** `rldf/pretrain`: the stages by which the shipped model and its instruments came to be, and how these are measured. For benchmarks and tests; it may change with any version. */

export { baseNouns, LATENT_CHANNELS, unetConfig } from '@rldf/common/instruments/configs';
export { NounClassifier } from '@rldf/common/instruments/noun-classifier';
export { imagesOf, quantise, writeSheet } from '@rldf/common/instruments/scenes';
export { measureClassifier } from '../pretrain/classifier.js';
export { tokenTensor } from '../pretrain/clip.js';
export {
  bootstrapAveragePrecision,
  findAll,
  matchesOf,
  objectsRight,
  relationRight,
  relationWorld,
} from '../pretrain/detection-measures.js';
export { detectionBatch, roughen } from '../pretrain/detection-scenes.js';
export { FLATTEN } from '../pretrain/parts.js';
export { fitPatchBasis } from '../pretrain/patch-basis.js';
export { pairsToldRight } from '../pretrain/preference.js';
export { feedbackRules, judgeRules, type RankingOptions } from '../pretrain/rankings.js';
