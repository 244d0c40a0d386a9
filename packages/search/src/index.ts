/** RLDF's search: from one picture to what it means, and to many, by looking at what a model draws of a grammar's sentences. */

export { defaultLearner } from './agents/default-learner.js';
export {
  type AgentName,
  agentNames,
  type FollowOptions,
  follow,
  initialQs,
  newSearch,
  type Trace,
} from './agents/follow.js';
export { exploration, stepSize } from './agents/schedules.js';
export { tableKinds } from './agents/tabular.js';
export { endpointSource } from './pictures/endpoint.js';
export {
  diverseRequests,
  drawSet,
  plainRequests,
  type SearchJudge,
  slide,
} from './pictures/final-pictures.js';
export {
  type ImageSource,
  type PictureRequest,
  pipelineSource,
  readPicture,
} from './pictures/image-source.js';
export { PictureMemory } from './pictures/memory.js';
export { openRecogniser, openSource, worldJudge } from './pictures/open.js';
export { prepareWorld, rewardedWorld } from './pictures/prepared-world.js';
export { clipEmbedder, type Embedder, type Recogniser, zeroShotRecogniser } from './pictures/recogniser.js';
export { describeSearch } from './search/describe.js';
export { type SearchOptions, search } from './search/search.js';
export type { SearchReport } from './search/search-report.js';
export { Encoding, type State } from './world/encoding.js';
export { type Grammar, parseGrammar, readGrammar } from './world/grammar.js';
export { type AxisOrder, axisOrders, localEncoding } from './world/locality.js';
export {
  cosine,
  type Observation,
  rewardNames,
  type SemanticReward,
  semanticReward,
} from './world/rewards.js';
