/** `rldf/eval`: the judges of `rldf eval` and the measures between sets of pictures. For benchmarks and tests; it may change with any version. */

export { featureStatistics, frechetDistance, kernelDistance } from '@rldf/common/base/frechet';
export { meanPairwiseDistance } from '@rldf/common/base/pairwise-distance';
export { knownArt, SceneClassifier, styleLabels } from '@rldf/common/instruments/scene-classifier';
export { colourOf } from '../eval/colour.js';
export { loadJudges } from '../eval/judges.js';
export { spatialVerdict } from '../eval/spatial.js';
