/** rldf as a library: train and resume runs, draw pictures, write rewards of your own. */

export { type Picture, picturesOf } from '@rldf/common/base/picture';
export * from '@rldf/common/base/stats';
export { version } from '@rldf/common/base/version';
export { contactSheet } from '@rldf/common/drawing/grid';
export { type FetchOptions, fetchAdapter, fetchModel } from '@rldf/common/hub/index';
export { type FeatureNetwork, featureNetworks } from '@rldf/common/instruments/feature-networks';
export {
  type InstrumentCard,
  instrumentCard,
  instrumentFile,
  listInstruments,
  loadDetector,
} from '@rldf/common/instruments/instruments';
export { findModel, listModels, type ModelEntry } from '@rldf/common/instruments/models';
export { type CheckpointInfo, loadCheckpoint, saveCheckpoint } from '@rldf/common/storage/checkpoint';
export { generate, loadLora, loadPipeline, type Pipeline, saveLora } from '@rldf/models';
export {
  type AgentName,
  agentNames,
  clipEmbedder,
  type Embedder,
  type Encoding,
  endpointSource,
  type FollowOptions,
  type Grammar,
  type ImageSource,
  type Observation,
  parseGrammar,
  pipelineSource,
  type Recogniser,
  readGrammar,
  readPicture,
  type SearchJudge,
  type SearchOptions,
  type SearchReport,
  type SemanticReward,
  type State,
  search,
  semanticReward,
  type Trace,
  zeroShotRecogniser,
} from '@rldf/search';
export { InternalError, UserError } from '@rldf/torch/errors';
export { type FusedAdapters, fuseAdapters, type StrengthPoint, strengthSurface } from './adapters/fuse.js';
export { type GeneratedFiles, type GenerateFilesOptions, generateFiles } from './adapters/generate-files.js';
export { type BatchArithmetic, batchArithmetic, describeArithmetic } from './config/batch-arithmetic.js';
export { type Arm, type EvaluateOptions, evaluate } from './eval/evaluate.js';
export { armsDifference, type Metric, type MetricDifference } from './eval/measures.js';
export { type ArmsNumbers, differencesOverSeeds, evaluateOverSeeds } from './eval/over-seeds.js';
export { type EvaluationNumbers, writeEvaluation } from './eval/page.js';
export { methodOf, methods } from './methods/index.js';
export { loadPrompts, type Prompt } from './prompts/prompts.js';
export { checkRecipe, loadRecipe, parseRecipe, RecipeError, type RecipeProblem } from './recipe/load.js';
export { type Recipe, recipeJsonSchema } from './recipe/recipe.js';
export { type Explanation, explain, explainRun } from './report/explain.js';
export { type Evaluation, type ReportNumbers, redrawReport, writeReport } from './report/report.js';
export { detectedReward } from './rewards/detected.js';
export { openDetector } from './rewards/detectors/index.js';
export { loadReward, rewards } from './rewards/index.js';
export {
  type DifferentiableRewardFunction,
  loadRewardModule,
  type RewardFunction,
  rewardFromFunction,
} from './rewards/module.js';
export { aestheticReward, clipModelReward, type RewardExports } from './rewards/public-scorers.js';
export {
  type HttpRewardDescription,
  type HttpRewardRequest,
  type HttpRewardResponse,
  httpReward,
  httpRewardProtocol,
} from './rewards/remote/http.js';
export { type VisionJudge, visionReward } from './rewards/remote/vision.js';
export { type Reward, type RewardBatch, type Scores, scorePictures } from './rewards/reward.js';
export { type Normalisation, type WeightedPart, WeightedReward } from './rewards/weighted.js';
export { type MetricsRow, readMetrics } from './run/metrics.js';
export { createRun, listRuns, openRun, type Run } from './run/run.js';
export type { DrawRequest, Training, TrainingContext, TrainingEvent } from './run/training.js';
export { type ResumeOptions, resume, type TrainOptions, train } from './train/from-recipe.js';
export { type RunEvent, type TrainRunOptions, trainRun } from './train/train.js';
