/** `rldf/learning`: drawing step by step, log-probabilities, losses and what is trained: the parts of the methods. For benchmarks and tests; it may change with any version. */

export { loadOptionsOf } from '../config/precision.js';
export { type DdpoRecipe, importanceSamplingLoss } from '../methods/ddpo.js';
export { behavioursOf } from '../methods/diffexp.js';
export { type Explore, exploreSchema } from '../methods/diffexp-schema.js';
export { worldPictures } from '../methods/ip-rldf-pictures.js';
export type { IpRldfRecipe } from '../methods/ip-rldf-schema.js';
export { createTrainables, rolloutBatches } from '../methods/learner.js';
export { rewardGradient } from '../methods/reward-gradient.js';
export { TextFeatures } from '../methods/texforce.js';
export { type EpochPrompt, promptsOfEpoch } from '../prompts/prompts.js';
export {
  DifferentiableSampler,
  type Drawing,
  type GradientPasses,
  lastSteps,
} from '../sampling/differentiable-sampling.js';
export { settle } from '../sampling/model-settings.js';
export { networkGradient } from '../sampling/network-gradient.js';
export {
  elementsOf,
  guidedConditioning,
  meanLogProb,
  policyMoments,
  policyScheduler,
  type Rollout,
} from '../sampling/rollout.js';
