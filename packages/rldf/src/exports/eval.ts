/** `rldf/eval`: the judges of `rldf eval` and the measures between sets of pictures. For benchmarks and tests; it may change with any version. */

export { colourOf } from '../eval/colour.js';
export { meanPairwiseDistance } from '../eval/diversity.js';
export { featureStatistics, frechetDistance, kernelDistance } from '../eval/frechet.js';
export { loadJudges } from '../eval/judges.js';
export { spatialVerdict } from '../eval/spatial.js';
export { knownArt, SceneClassifier, styleLabels } from '../instruments/scene-classifier.js';
