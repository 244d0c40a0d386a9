/** `rldf/run`: files of a run, the plan of a recipe, and the drawings of a report. For benchmarks and tests; it may change with any version. */

export { changeOf, observationOf, type Watched } from '../hack-watch/hack-watch.js';
export { tensorOfPictures } from '../picture.js';
export { findConfigs, type ModelConfigs } from '../plan/model-configs.js';
export { plan } from '../plan/plan.js';
export { curveSvg } from '../report/curve.js';
export { encodePng } from '../report/png.js';
export { readTextIfThere, replaceFile, setFileHook } from '../run/files.js';
