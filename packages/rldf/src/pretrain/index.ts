// `rldf pretrain`: the built-in model from nothing, stage by stage: clip, vae, unet, judge, pack. Each stage is a folder that can be continued.
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { loadArt, promptScenes } from '@rldf/emoji-world';
import {
  AutoencoderKL,
  CLIPModel,
  CLIPTextModel,
  CLIPTokenizer,
  generate,
  loadPipeline,
  type Pipeline,
  saveNetwork,
  savePipeline,
  UNet2DConditionModel,
} from '@rldf/models';
import {
  free,
  noGrad,
  Parameters,
  readSafetensors,
  type StateDict,
  scope,
  setThreads,
  type Tensor,
  writeSafetensors,
} from '@rldf/torch';
import { UserError } from '../errors.js';
import { picturesOf } from '../picture.js';
import { listCheckpoints, loadCheckpoint } from '../run/checkpoint.js';
import { measureClassifier, NounClassifier, pretrainClassifier } from './classifier.js';
import { measureClip, pretrainClip } from './clip.js';
import { baseWorld, clipConfig, LATENT_CHANNELS, schedulerConfig, unetConfig, vaeConfig } from './configs.js';
import {
  fitPatchBasis,
  loadPatchBasis,
  type PatchBasis,
  reconstruct,
  savePatchBasis,
} from './patch-basis.js';
import { quantise, writeSheet } from './scenes.js';
import type { TrainingEvent, TrainingOptions } from './training.js';
import { cacheLatents, pretrainUNet } from './unet.js';
import { measureVae, pretrainVae } from './vae.js';

/** The tokenizer that ships with the world. */
const tokenizerFolder = join(
  dirname(dirname(createRequire(import.meta.url).resolve('@rldf/emoji-world'))),
  'model',
  'tokenizer',
);

export const stages = ['clip', 'decoder', 'encoder', 'unet', 'judge'] as const;
export type Stage = (typeof stages)[number];

export interface PretrainOptions {
  stage: Stage;
  /** Holds one folder a stage. */
  folder: string;
  steps: number;
  minutes?: number | undefined;
  batchSize: number;
  learningRate: number;
  seed: number;
  /** Scenes encoded before the U-Net trains. */
  cachedScenes: number;
  /** A model folder that the U-Net's training starts from, with its text encoder, autoencoder and latent basis. */
  from?: string | undefined;
  precision: 'float32' | 'bfloat16';
  threads?: number | undefined;
  signal?: AbortSignal | undefined;
  log?: ((line: string) => void) | undefined;
}

/** What trained the shipped model. */
const defaults: Record<Stage, Pick<PretrainOptions, 'steps' | 'batchSize' | 'learningRate'>> = {
  clip: { steps: 900, batchSize: 96, learningRate: 1.5e-3 },
  decoder: { steps: 4600, batchSize: 16, learningRate: 2e-3 },
  encoder: { steps: 900, batchSize: 16, learningRate: 2e-3 },
  unet: { steps: 4500, batchSize: 32, learningRate: 2.5e-3 },
  judge: { steps: 1400, batchSize: 64, learningRate: 2e-3 },
};

type Overrides = { [Key in keyof Omit<PretrainOptions, 'stage'>]?: PretrainOptions[Key] | undefined } & Pick<
  PretrainOptions,
  'folder' | 'seed'
>;

/** `rldf pretrain`: a stage by name with the defaults above, `vae` for both its halves, or `pack`. */
export async function runPretraining(
  stage: string,
  {
    output,
    onEvent,
    ...overrides
  }: Overrides & { output?: string | undefined; onEvent: (event: TrainingEvent) => void },
): Promise<void> {
  if (stage === 'pack') return packModel(overrides.folder, output ?? 'model');
  const wanted =
    stage === 'vae' ? (['decoder', 'encoder'] as const) : stages.filter((name) => name === stage);
  if (wanted.length === 0)
    throw new UserError(`rldf pretrain: "${stage}" is no stage — one of ${stages.join(', ')}, vae, pack.`);
  const given = Object.fromEntries(
    Object.entries(overrides).filter(([, value]) => value !== undefined),
  ) as Overrides;
  for (const name of wanted) {
    const options: PretrainOptions = {
      cachedScenes: 60_000,
      precision: 'float32',
      ...defaults[name],
      ...(given as object),
      folder: overrides.folder,
      seed: overrides.seed,
      stage: name,
    };
    for await (const event of pretrain(options)) onEvent(event);
  }
}

/** Runs one stage; what it needs of earlier stages is read from their newest checkpoints. */
export async function* pretrain(options: PretrainOptions): AsyncGenerator<TrainingEvent> {
  const { stage, folder, seed, batchSize, log = () => {} } = options;
  if (options.threads !== undefined) setThreads(options.threads);
  const shared: TrainingOptions & { batchSize: number; seed: number } = {
    folder: join(folder, stage),
    steps: options.steps,
    learningRate: options.learningRate,
    batchSize,
    seed,
    precision: options.precision,
    ...(options.minutes === undefined ? {} : { minutes: options.minutes }),
    ...(options.signal === undefined ? {} : { signal: options.signal }),
  };
  mkdirSync(join(shared.folder, 'samples'), { recursive: true });
  switch (stage) {
    case 'clip': {
      const tokenizer = CLIPTokenizer.load(tokenizerFolder);
      const { clip, parameters } = buildClip(tokenizer, seed);
      yield* pretrainClip(clip, parameters, tokenizer, shared);
      log(
        `share of held-out pictures that pick their caption out of 128: ${await measureClip(clip, tokenizer, seed)}`,
      );
      return;
    }
    case 'decoder':
    case 'encoder': {
      const { vae, parameters } = buildVae(seed);
      const basis = await patchBasis(folder, seed);
      const other = stage === 'encoder' ? 'decoder' : 'encoder';
      loadAveraged(join(folder, other), parametersOf(parameters, other), true);
      yield* pretrainVae(vae, parameters, basis, { ...shared, half: stage });
      log(JSON.stringify(await measureVae(vae, basis, seed)));
      return;
    }
    case 'unet':
      yield* trainUNet(options, shared);
      return;
    case 'judge': {
      const parameters = Parameters.random(seed + 1000);
      const classifier = new NounClassifier(parameters.at());
      yield* pretrainClassifier(classifier, parameters, shared);
      log(JSON.stringify(await measureClassifier(classifier, seed)));
      writeSafetensors(join(folder, 'judge', 'judge.safetensors'), parameters.state());
    }
  }
}

async function* trainUNet(
  options: PretrainOptions,
  shared: TrainingOptions & { batchSize: number; seed: number },
): AsyncGenerator<TrainingEvent> {
  const { folder, from, seed, log = () => {} } = options;
  const { pipeline, basis, decoderReady } =
    from === undefined ? await partsOfStages(folder, seed) : partsOfModel(from);
  const { tokenizer, unet, textEncoder, parameters } = pipeline;
  log(`U-Net: ${parameters.unet.count} parameters`);
  const training = {
    ...shared,
    scheduler: schedulerConfig,
    cachedScenes: options.cachedScenes,
    world: baseWorld,
  };
  const cache = await cacheLatents(basis, tokenizer, training, (done) => {
    if (done % 10_000 === 0) log(`encoded ${done} scenes`);
  });
  const shown = (['single', 'colour', 'count', 'relation', 'background', 'activity'] as const).flatMap(
    (kind) =>
      promptScenes('validation', kind)
        .slice(0, kind === 'single' ? 36 : 6)
        .map(({ prompt }) => prompt),
  );
  const sample = async (step: number, to: string) => {
    for (const eta of [0, 1]) {
      const { images, latents } = await generate(pipeline, {
        prompts: shown,
        seeds: shown.map((_, i) => i),
        steps: 14,
        guidanceScale: 3,
        eta,
      });
      const pictures = decoderReady
        ? picturesOf(images).map(({ data }) => data)
        : scope(() => quantise(reconstruct(basis, latents)));
      await writeSheet(join(to, `unet-${step}-eta${eta}.png`), pictures, 12);
      free([images, latents]);
    }
  };
  yield* pretrainUNet(
    unet,
    parameters.unet.trainable(),
    textEncoder,
    tokenizer.encode(['']).ids[0] as number[],
    cache,
    training,
    sample,
  );
}

/** A pipeline in the making, and the basis of its latents. */
interface Parts {
  pipeline: Pipeline;
  basis: PatchBasis;
  decoderReady: boolean;
}

async function partsOfStages(folder: string, seed: number): Promise<Parts & { clip: Parameters }> {
  const tokenizer = CLIPTokenizer.load(tokenizerFolder);
  const text = buildTextEncoder(folder, tokenizer);
  const decoder = buildVae(seed);
  const decoderReady = loadAveraged(
    join(folder, 'decoder'),
    parametersOf(decoder.parameters, 'decoder'),
    true,
  );
  const unet = Parameters.random(seed);
  const pipeline: Pipeline = {
    unet: new UNet2DConditionModel(unetConfig, unet.at()),
    vae: decoder.vae,
    textEncoder: text.textEncoder,
    tokenizer,
    schedulerConfig,
    parameters: { unet, vae: decoder.parameters, textEncoder: text.parameters },
    defaults: {},
  };
  return { pipeline, basis: await patchBasis(folder, seed), decoderReady, clip: text.clip };
}

/** A further leg: the U-Net goes on from a model's weights; its optimiser starts anew, behind a warm-up. */
function partsOfModel(model: string): Parts {
  return { pipeline: loadPipeline(model), basis: loadPatchBasis(basisOf(model)), decoderReady: true };
}

/** The latent basis lies beside the model, with the instruments. */
const basisOf = (model: string) => join(dirname(model), 'instruments', 'patch-basis.safetensors');

/** Writes the model folder from the averaged weights of all stages' newest checkpoints, in half precision. */
export async function packModel(folder: string, target: string): Promise<void> {
  const { pipeline, basis, clip } = await partsOfStages(folder, 0);
  const { vae, unet } = pipeline.parameters;
  loadAveraged(join(folder, 'decoder'), parametersOf(vae, 'decoder'));
  loadAveraged(join(folder, 'encoder'), parametersOf(vae, 'encoder'), true);
  loadAveraged(join(folder, 'unet'), [...unet.entries.values()]);
  pipeline.defaults = { steps: 14, guidanceScale: 3 };
  // the tokenizer is not trained here: its files stay as the world made them
  const tokenizerFiles = readdirSync(tokenizerFolder).map(
    (name) => [name, readFileSync(join(tokenizerFolder, name))] as const,
  );
  savePipeline(pipeline, target, { dtype: 'float16' });
  for (const [name, bytes] of tokenizerFiles) writeFileSync(join(target, 'tokenizer', name), bytes);
  saveNetwork(join(target, 'clip'), 'model.safetensors', clipConfig(pipeline.tokenizer), clip, {
    dtype: 'float16',
  });
  mkdirSync(dirname(basisOf(target)), { recursive: true });
  savePatchBasis(basisOf(target), basis);
  packJudge(
    join(folder, 'judge', 'judge.safetensors'),
    join(dirname(target), 'instruments', 'judge.safetensors'),
  );
}

/** The judge in half precision; it is an instrument of evaluation and no part of the model. */
function packJudge(from: string, to: string): void {
  if (!existsSync(from)) return;
  mkdirSync(dirname(to), { recursive: true });
  scope(() => {
    const halves = [...readSafetensors(from).tensors].map(
      ([name, tensor]) => [name, tensor.to('float16')] as const,
    );
    writeSafetensors(to, new Map(halves));
  });
}

function buildClip(tokenizer: CLIPTokenizer, seed: number): { clip: CLIPModel; parameters: Parameters } {
  const parameters = Parameters.random(seed);
  return { clip: new CLIPModel(clipConfig(tokenizer), parameters.at()), parameters };
}

function buildVae(seed: number): { vae: AutoencoderKL; parameters: Parameters } {
  const parameters = Parameters.random(seed);
  return { vae: new AutoencoderKL(vaeConfig, parameters.at()), parameters };
}

/** The text tower of the trained CLIP by itself, and CLIP's whole state. */
function buildTextEncoder(
  folder: string,
  tokenizer: CLIPTokenizer,
): { textEncoder: CLIPTextModel; parameters: Parameters; clip: Parameters } {
  const { parameters: clipParameters } = buildClip(tokenizer, 0);
  loadAveraged(join(folder, 'clip'), [...clipParameters.entries.values()]);
  const tower: StateDict = new Map(
    [...clipParameters.entries].filter(([name]) => name.startsWith('text_model.')),
  );
  const parameters = Parameters.from(tower);
  const { text_config: config } = clipConfig(tokenizer);
  return { textEncoder: new CLIPTextModel(config, parameters.at()), parameters, clip: clipParameters };
}

const parametersOf = (parameters: Parameters, half: string) =>
  [...parameters.entries].filter(([name]) => name.startsWith(`${half}.`)).map(([, tensor]) => tensor);

/** Copies the averaged weights of a stage's newest checkpoint into `parameters`; false (or an error) when there is none. */
function loadAveraged(stageFolder: string, parameters: readonly Tensor[], optional = false): boolean {
  const checkpoints = join(stageFolder, 'checkpoints');
  if (!existsSync(checkpoints) || listCheckpoints(checkpoints).length === 0) {
    if (optional) return false;
    throw new UserError(
      `${stageFolder}: no checkpoint — this stage comes first. Run \`rldf pretrain ${stageFolder.split('/').at(-1)}\`.`,
    );
  }
  const { state } = loadCheckpoint(checkpoints);
  const { averaged } = (state as { average: { averaged: Tensor[] } }).average;
  if (averaged.length !== parameters.length) {
    throw new UserError(
      `${stageFolder}: the checkpoint holds ${averaged.length} tensors, the network has ${parameters.length} — it was trained with another config. Use another folder.`,
    );
  }
  noGrad(() =>
    scope(() => {
      parameters.forEach((parameter, i) => {
        parameter.detach().copy_(averaged[i] as Tensor);
      });
    }),
  );
  free(state);
  return true;
}

async function patchBasis(folder: string, seed: number): Promise<PatchBasis> {
  const file = join(folder, 'basis.safetensors');
  if (existsSync(file)) return loadPatchBasis(file);
  const basis = fitPatchBasis(await loadArt('noto'), seed, LATENT_CHANNELS, FLATTEN);
  savePatchBasis(file, basis);
  return basis;
}

/** Half way between the true spectrum (0) and white latents (1). */
const FLATTEN = 0.5;
