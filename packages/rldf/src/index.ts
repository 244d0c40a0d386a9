/** rldf as a library: train and resume runs, draw pictures, write rewards of your own. */

export { generate, loadLora, loadPipeline, type Pipeline, saveLora } from '@rldf/models';
export { type FusedAdapters, fuseAdapters, type StrengthPoint, strengthSurface } from './adapters/fuse.js';
export { type GeneratedFiles, type GenerateFilesOptions, generateFiles } from './adapters/generate-files.js';
export { InternalError, UserError } from './base/errors.js';
export { type Picture, picturesOf } from './base/picture.js';
export * from './base/stats.js';
export { version } from './base/version.js';
export { type BatchArithmetic, batchArithmetic, describeArithmetic } from './config/batch-arithmetic.js';
export { contactSheet } from './drawing/grid.js';
export { type Arm, type EvaluateOptions, evaluate } from './eval/evaluate.js';
export { type FeatureNetwork, featureNetworks } from './eval/judges.js';
export { armsDifference, type Metric, type MetricDifference } from './eval/measures.js';
export { type ArmsNumbers, differencesOverSeeds, evaluateOverSeeds } from './eval/over-seeds.js';
export { type EvaluationNumbers, writeEvaluation } from './eval/page.js';
export {
  type InstrumentCard,
  instrumentCard,
  instrumentFile,
  listInstruments,
  loadDetector,
} from './instruments/instruments.js';
export { findModel, listModels, type ModelEntry } from './instruments/models.js';
export { methodOf, methods } from './methods/index.js';
export { loadPrompts, type Prompt } from './prompts/prompts.js';
export { checkRecipe, loadRecipe, parseRecipe, RecipeError, type RecipeProblem } from './recipe/load.js';
export { type Recipe, recipeJsonSchema } from './recipe/recipe.js';
export { type Explanation, explain, explainRun } from './report/explain.js';
export { type Evaluation, type ReportNumbers, redrawReport, writeReport } from './report/report.js';
export { loadReward, rewards } from './rewards/index.js';
export {
  type DifferentiableRewardFunction,
  loadRewardModule,
  type RewardFunction,
  rewardFromFunction,
} from './rewards/module.js';
export { aestheticReward, clipModelReward, type RewardExports } from './rewards/public-scorers.js';
export { type Reward, type RewardBatch, type Scores, scorePictures } from './rewards/reward.js';
export { type Normalisation, type WeightedPart, WeightedReward } from './rewards/weighted.js';
export { type CheckpointInfo, loadCheckpoint, saveCheckpoint } from './run/checkpoint.js';
export { type MetricsRow, readMetrics } from './run/metrics.js';
export { createRun, listRuns, openRun, type Run } from './run/run.js';
export type { DrawRequest, Training, TrainingContext, TrainingEvent } from './run/training.js';
export type { Encoding, State } from './search/encoding.js';
export { endpointSource } from './search/endpoint.js';
export type { SearchJudge } from './search/final-pictures.js';
export { type AgentName, agentNames, type FollowOptions, type Trace } from './search/follow.js';
export { type Grammar, parseGrammar, readGrammar } from './search/grammar.js';
export { type ImageSource, pipelineSource, readPicture } from './search/image-source.js';
export { clipEmbedder, type Embedder, type Recogniser, zeroShotRecogniser } from './search/recogniser.js';
export { type Observation, type SemanticReward, semanticReward } from './search/rewards.js';
export { type SearchOptions, search } from './search/search.js';
export type { SearchReport } from './search/search-report.js';
export { type ResumeOptions, resume, type TrainOptions, train } from './train/from-recipe.js';
export { type RunEvent, type TrainRunOptions, trainRun } from './train/train.js';
