/** `rldf/run`: files of a run, the plan of a recipe, and the drawings of a report. For benchmarks and tests; it may change with any version. */

export { readTextIfThere, replaceFile, setFileHook } from '@rldf/common/base/files';
export { tensorOfPictures } from '@rldf/common/base/picture';
export { curveSvg } from '@rldf/common/drawing/curve';
export { encodePng } from '@rldf/common/drawing/png';
export { drawingMemory } from '../plan/drawing.js';
export { findConfigs, type ModelConfigs } from '../plan/model-configs.js';
export { plan } from '../plan/plan.js';
export { changeOf, observationOf, type Watched } from '../train/hack-watch.js';
