/** `rldf/run`: files of a run, the plan of a recipe, and the drawings of a report. For benchmarks and tests; it may change with any version. */

export { readTextIfThere, replaceFile, setFileHook } from '../base/files.js';
export { tensorOfPictures } from '../base/picture.js';
export { curveSvg } from '../drawing/curve.js';
export { encodePng } from '../drawing/png.js';
export { findConfigs, type ModelConfigs } from '../plan/model-configs.js';
export { plan } from '../plan/plan.js';
export { changeOf, observationOf, type Watched } from '../train/hack-watch.js';
