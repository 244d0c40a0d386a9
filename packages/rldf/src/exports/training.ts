/** `rldf/training`: loops, losses and batches of all that is trained, for the comparison with PyTorch. For benchmarks and tests; it may change with any version. */

export { clipConfig, schedulerConfig, unetConfig, vaeConfig } from '@rldf/common/instruments/configs';
export { tokenizerFolder } from '@rldf/common/instruments/models';
export { imagesOf, sceneBatch } from '@rldf/common/instruments/scenes';
export { loadCheckpoint } from '@rldf/common/storage/checkpoint';
export { crops, trainClassifier } from '@rldf/search/clone';
export { followedSteps } from '../methods/alignprop.js';
export { denoisingErrors, drawNoising, dropped } from '../methods/denoising-loss.js';
export { behavioursOf } from '../methods/diffexp.js';
export { methodOf } from '../methods/index.js';
export { createIpRldf } from '../methods/ip-rldf.js';
export { labelOf, pictureSeed } from '../methods/ip-rldf-pictures.js';
export { trainedSteps } from '../methods/policy-gradient.js';
export { labelled, pretrainClassifier } from '../pretrain/classifier.js';
export { pretrainClip, siblingBatch, tokenTensor } from '../pretrain/clip.js';
export { detectionBatch } from '../pretrain/detection-scenes.js';
export { cellsAtCentre, cellTargets, detectionLoss } from '../pretrain/detector.js';
export { type FitEvent, type FitOptions, fitTrainee, type Trainee } from '../pretrain/fit.js';
export {
  gatedParameters,
  groundedBatch,
  pretrainGligen,
  shownObjects,
  withGatedLayers,
} from '../pretrain/gligen.js';
export { LayoutHead } from '../pretrain/layout.js';
export { basisOf } from '../pretrain/parts.js';
export { loadPatchBasis, project } from '../pretrain/patch-basis.js';
export { rankingLoss, repeatRows } from '../pretrain/preference.js';
export { feedbackRules, GROUP, rankingBatch } from '../pretrain/rankings.js';
export { labelledScenes, sceneLoss } from '../pretrain/style.js';
export { cacheLatents, denoisingBatch, pretrainUNet } from '../pretrain/unet.js';
export { pretrainVae, roughened } from '../pretrain/vae.js';
export { promptsOfEpoch } from '../prompts/prompts.js';
export { checkRecipe } from '../recipe/load.js';
export { loadGrammar } from '../relabel/grammar.js';
export { askedOf } from '../relabel/relabel.js';
export type { Training, TrainingContext } from '../run/training.js';
