/** `rldf/testing`: models, recipes and runs so small that a test can afford them. For benchmarks and tests; it may change with any version. */

export { type HubServer, hubServer } from '@rldf/common/hub/hub-server.fixture';
export { minimalRecipe } from '../methods/minimal-recipes.fixture.js';
export { drain, fingerprint, saveTinyModel, tinyRecipe } from '../train/tiny-run.fixture.js';
export { verifyResume } from '../verify/resume.js';
