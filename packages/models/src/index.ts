export { AestheticPredictor, widthsOf } from './aesthetic.js';
export type { GatedSelfAttentionDense } from './attention.js';
export { AutoencoderKL, type LatentDistribution, renameOldAttention } from './autoencoder-kl.js';
export { AutoencoderTiny } from './autoencoder-tiny.js';
export type { Behaviour } from './behaviour.js';
export { BertTokenizer } from './bert-tokenizer.js';
export {
  BlipImageReward,
  type BlipImageRewardConfig,
  imageRewardConfigOf,
  withoutUnusedOfImageReward,
} from './blip-image-reward.js';
export { atOnce, type BlockRunner } from './block-runner.js';
export { BlockTape, type TakeGradient } from './block-tape.js';
export { CLIPModel, type CLIPOutput, contrastiveLoss } from './clip.js';
export { clipMean, clipPixels, clipStd, type PictureInput } from './clip-pixels.js';
export {
  type CLIPTextForwardOptions,
  CLIPTextModel,
  CLIPTextModelWithProjection,
  type CLIPTextOutput,
  withTowerPrefix,
} from './clip-text.js';
export { CLIPTokenizer, fromVocabulary, type TokenizedPrompts, type WordSpan } from './clip-tokenizer.js';
export { CLIPVisionModel, CLIPVisionModelWithProjection, type CLIPVisionOutput } from './clip-vision.js';
export { clipTokenizer } from './clip-vocabulary.js';
export {
  type Conditioning,
  joinConditionings,
  type PreparedConditioning,
  selectRows,
  withoutGrounding,
} from './conditioning.js';
export type {
  AutoencoderKLConfig,
  AutoencoderTinyConfig,
  CLIPConfig,
  CLIPTextConfig,
  CLIPVisionConfig,
  SchedulerConfig,
  UNet2DConditionConfig,
} from './configs.js';
export * from './detection.js';
export { OneStageDetector } from './detector.js';
export {
  CELL,
  CELLS_ACROSS,
  type CellPredictions,
  cellCentre,
  DETECTOR_SIZE,
  type DetectorOptions,
} from './detector-cells.js';
export { cellsCovered, PatchVotingDetector } from './detector-patches.js';
export {
  type FaceQualityConfig,
  FaceQualityNet,
  faceQualityConfigOf,
  fromQualityFace,
} from './face-quality.js';
export { readJson, writeJson } from './files.js';
export {
  checkObjects,
  GROUNDING_BETA,
  type GroundedObject,
  type Grounding,
  groundedSteps,
  MOST_OBJECTS,
  trainGated,
} from './grounding.js';
export { predictGuided } from './guidance.js';
export { type ImageRewardConfig, ImageRewardModel } from './image-reward.js';
export { LatentsWatch, refuseBlack } from './latents-watch.js';
export {
  type AdaptableLayer,
  LoraAdapter,
  type LoraModule,
  type LoraOptions,
  TEXT_ATTENTION,
  UNET_ATTENTION,
} from './lora.js';
export {
  type LoraFormat,
  type LoraLayer,
  type LoraNetworks,
  type LoraPair,
  type LoraPart,
  loadLora,
  saveLora,
  writeLora,
} from './lora-files.js';
export { fromKohyaName } from './lora-kohya.js';
export { fromLdmPath, LORA_PARTS } from './lora-names.js';
export { adapterFile, readAdapter, readLora } from './lora-read.js';
export { LoraTape } from './lora-tape.js';
export {
  type ModelFiles,
  type ModelPath,
  openModel,
  parseModelPath,
  type WeightsPart,
} from './model-files.js';
export { fromOpenClip, isOpenClip, type OpenClipConfig, openClipConfigOf } from './open-clip.js';
export { latentElements, latentShape, type PictureSize, pixelsOf } from './picture-size.js';
export {
  decodeImages,
  decodeLatents,
  type Generated,
  type GenerateOptions,
  generate,
  initialNoiseKeys,
  type Pipeline,
  stepNoiseKeys,
} from './pipeline.js';
export {
  type LoadOptions,
  loadNetwork,
  loadPipeline,
  type PerPart,
  saveNetwork,
  savePipeline,
  storedDtypes,
  storedWeights,
} from './pipeline-files.js';
export { PreferenceModel, pairLoss, TunedPreferenceModel } from './preference.js';
export { encodeObjects, encodePrompts, type MicroConditioning, toldOf } from './prompts.js';
export { resident, residentMeanwhile } from './residency.js';
export { learnedParameters, ResNet18, type ResNet18Options } from './resnet-18.js';
export { type DDIMCoefficients, DDIMScheduler } from './schedulers/ddim.js';
export { DDPMScheduler } from './schedulers/ddpm.js';
export { DPMSolverMultistepScheduler } from './schedulers/dpm-solver-multistep.js';
export { EulerAncestralDiscreteScheduler } from './schedulers/euler-ancestral-discrete.js';
export { EulerDiscreteScheduler } from './schedulers/euler-discrete.js';
export { LCMScheduler } from './schedulers/lcm.js';
export { LMSDiscreteScheduler } from './schedulers/lms-discrete.js';
export { NoiseSchedule, type PredictionType } from './schedulers/noise-schedule.js';
export { passedOver } from './schedulers/options.js';
export { PNDMScheduler } from './schedulers/pndm.js';
export {
  createScheduler,
  ddimOf,
  POLICIES,
  type PolicyName,
  type PolicyScheduler,
  policyOfConfig,
  type Scheduler,
  type SchedulerName,
  type StepOptions,
} from './schedulers/scheduler.js';
export { UniPCMultistepScheduler } from './schedulers/unipc-multistep.js';
export { saveSingleFile } from './single-file/save.js';
export { tinyCheckpoint } from './single-file/tiny-checkpoint.js';
export { tinyGligenPipeline, tinyPipeline, tinyXlPipeline } from './tiny-pipeline.js';
export type { Trajectory } from './trajectory.js';
export { UNet2DConditionModel, type UNetOptions } from './unet.js';
export { ValueNetwork } from './value-network.js';
export { chooseWeights, findWeights } from './weight-files.js';
