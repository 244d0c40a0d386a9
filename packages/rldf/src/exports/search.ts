/** `rldf/search`: grammars, worlds, searches, their final pictures, and the datasets cloned with them. For benchmarks and tests; it may change with any version. */

export { type ClonedClass, type ClonedPicture, cloneDataset } from '../search/clone.js';
export { defaultLearner } from '../search/default-learner.js';
export { Encoding } from '../search/encoding.js';
export { armNames } from '../search/evaluate/arms.js';
export { defaultRecipe, trainClassifier } from '../search/evaluate/classifier.js';
export { type CloneEvaluation, evaluateAndWrite } from '../search/evaluate/evaluate.js';
export { setOf } from '../search/evaluate/labelled-set.js';
export { worldSets } from '../search/evaluate/world-sets.js';
export { diverseRequests, drawSet, plainRequests, slide } from '../search/final-pictures.js';
export { follow, newSearch } from '../search/follow.js';
export type { DrawRequest } from '../search/image-source.js';
export { type AxisOrder, axisOrders, localEncoding } from '../search/locality.js';
export { PictureMemory } from '../search/memory.js';
export { openRecogniser, openSource } from '../search/open.js';
export { cosine } from '../search/rewards.js';
export { prepareWorld, rewardedWorld } from '../search/world.js';
