/** `rldf/training`: loops, losses and batches of all that is trained, for the comparison with PyTorch. For benchmarks and tests; it may change with any version. */

export { clipConfig, schedulerConfig, unetConfig, vaeConfig } from '../instruments/configs.js';
export { imagesOf, sceneBatch } from '../instruments/scenes.js';
export { followedSteps } from '../methods/alignprop.js';
export { denoisingErrors, drawNoising, dropped } from '../methods/denoising-loss.js';
export { behavioursOf } from '../methods/diffexp.js';
export { methodOf } from '../methods/index.js';
export { createIpRldf } from '../methods/ip-rldf.js';
export { labelOf, pictureSeed } from '../methods/ip-rldf-pictures.js';
export { labelled, pretrainClassifier } from '../pretrain/classifier.js';
export { tokenTensor } from '../pretrain/clip.js';
export { detectionBatch } from '../pretrain/detection-scenes.js';
export { cellsAtCentre, cellTargets, detectionLoss } from '../pretrain/detector.js';
export { basisOf, tokenizerFolder } from '../pretrain/parts.js';
export { loadPatchBasis, project } from '../pretrain/patch-basis.js';
export { rankingLoss, repeatRows } from '../pretrain/preference.js';
export { feedbackRules, GROUP, rankingBatch } from '../pretrain/rankings.js';
export { labelledScenes, sceneLoss } from '../pretrain/style.js';
export { type Trainee, type TrainingEvent, type TrainingOptions, train } from '../pretrain/training.js';
export { cacheLatents, denoisingBatch, pretrainUNet } from '../pretrain/unet.js';
export { pretrainVae, roughened } from '../pretrain/vae.js';
export { promptsOfEpoch } from '../prompts/prompts.js';
export { checkRecipe } from '../recipe/load.js';
export { loadGrammar } from '../relabel/grammar.js';
export { askedOf } from '../relabel/relabel.js';
export { loadCheckpoint } from '../run/checkpoint.js';
export type { Training, TrainingContext } from '../run/training.js';
export { crops, trainClassifier } from '../search/evaluate/classifier.js';
