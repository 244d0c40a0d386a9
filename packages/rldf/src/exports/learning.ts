/** `rldf/learning`: drawing step by step, log-probabilities, losses and what is trained: the parts of the methods. For benchmarks and tests; it may change with any version. */

export { type Explore, exploreSchema } from '../config/explore-schema.js';
export type { IpRldfRecipe } from '../config/ip-rldf-schema.js';
export { type DdpoRecipe, importanceSamplingLoss } from '../methods/ddpo.js';
export { behavioursOf } from '../methods/diffexp.js';
export { worldPictures } from '../methods/ip-rldf-pictures.js';
export { createTrainables } from '../methods/learner.js';
export { judge } from '../methods/reward-of-latents.js';
export { TextFeatures } from '../methods/texforce.js';
export { type EpochPrompt, promptsOfEpoch } from '../prompts.js';
export { DifferentiableSampler, type Drawing, lastSteps } from '../sampling/differentiable-sampling.js';
export { elementsOf, meanLogProb } from '../sampling/log-prob.js';
export { networkGradient } from '../sampling/network-gradient.js';
export {
  guidedConditioning,
  policyMoments,
  policyScheduler,
  type Rollout,
  rolloutBatches,
} from '../sampling/rollout.js';
