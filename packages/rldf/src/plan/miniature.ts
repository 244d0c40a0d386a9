/**
 * Runs a recipe's training on shapes alone (`RLDF_TORCH=shapes`): the real networks, the real method, its real batch sizes,
 * but two denoising steps, one epoch and one update. What grows with steps and pictures is a known sum and added.
 */

import { tensorsOf } from '@rldf/common/storage/state-tree';
import {
  AutoencoderKL,
  CLIPTextModel,
  CLIPTextModelWithProjection,
  type CLIPTokenizer,
  decodeImages,
  type LoadOptions,
  latentElements,
  latentShape,
  loadPipeline,
  type Pipeline,
  residentMeanwhile,
  UNet2DConditionModel,
} from '@rldf/models';
import {
  allocatedBytes,
  type Device,
  type DType,
  free,
  noGrad,
  Parameters,
  peakBytes,
  resetPeakBytes,
  shapes,
  type Tensor,
  zeros,
} from '@rldf/torch';
import { loadOptionsOf } from '../config/precision.js';
import { methodOf } from '../methods/index.js';
import type { Prompt } from '../prompts/prompts.js';
import type { Recipe } from '../recipe/recipe.js';
import { loadReward, rewards } from '../rewards/index.js';
import { type CompositeReward, type Reward, scorePictures } from '../rewards/reward.js';
import { settle } from '../sampling/model-settings.js';
import type { ModelConfigs } from './model-configs.js';
import { smallRecipe } from './small-recipe.js';

/** Bytes in libtorch's tensors, by what they are for. */
export interface MemoryParts {
  /** Of U-Net, autoencoder, text encoders and reward models. */
  weights: number;
  /** Low-rank adapters. */
  adapters: number;
  /** AdamW's two moments. */
  optimiser: number;
  /** Sums of the gradients of one update. */
  gradients: number;
  /** Latents of all steps, log-probabilities and pictures of one epoch. */
  trajectories: number;
  /** What autograd keeps of one micro-batch, the text features among it. */
  activations: number;
  /** The most that comes and goes on top, inside operators and blocks. */
  temporary: number;
}

export interface MemoryPrediction {
  /** The most bytes that are held at once. */
  peak: number;
  /** The most in each phase of the run. */
  phases: {
    drawing: number;
    learning: number;
    evaluation: number;
    /** Reading a checkpoint back, beside what is there: at the end the best one, or to resume. */
    loading: number;
  };
  /** Of the phase `learning`; they add up to its peak. */
  parts: MemoryParts;
  parameters: { unet: number; vae: number; textEncoder: number; textEncoder2?: number; trained: number };
  /** Bytes of the tensors in one checkpoint. */
  checkpoint: number;
}

/** Operators behind pictures and updates, for an estimate of the time. */
export interface WorkPrediction {
  /** One denoising step of `pictures` pictures, the text encoder's share included. */
  drawing: shapes.Work[];
  /** The same step with its gradient. */
  learning: shapes.Work[];
  decoding: shapes.Work[];
  /** Pictures times steps behind `drawing` and behind `learning`, pictures behind `decoding`. */
  drawnSteps: number;
  learnedSteps: number;
  pictures: number;
}

const steps = 2;

/** Folder in diffusers' layout, or configurations without weights. */
export type PlannedModel = { folder: string } | { configs: ModelConfigs };

/** @param trainingPrompts as many as there are; only their number and texts matter */
export async function runMiniature(
  recipe: Recipe,
  model: PlannedModel,
  trainingPrompts: readonly Prompt[],
  evaluated: number,
): Promise<{ memory: MemoryPrediction; work: WorkPrediction }> {
  shapes.setKernels(recipe.device);
  const small = smallRecipe(recipe, steps);
  const method = methodOf(small);
  const pictures = drawnIn(small);
  const { result: reward, made: judges } = await Parameters.madeBy(() => rewardWithoutSideEffects(recipe));
  const pipeline = await build(model, recipe);
  settle(pipeline, recipe, judges);
  const weights = allocatedBytes();
  const training = method.create(small, pipeline, {
    prompts: trainingPrompts,
    score: async (images, prompts) => {
      const batch = {
        images,
        prompts: prompts.map(({ text }) => text),
        meta: prompts.map(({ meta }) => meta),
      };
      if (reward) await residentMeanwhile(pipeline, judges, () => scorePictures(reward, batch));
      const total = prompts.map((_, index) => index);
      return { total, parts: {} };
    },
    differentiable: reward?.differentiable?.bind(reward) ?? ((images01) => images01.mean([1, 2, 3])),
  });
  try {
    const state = [...tensorsOf(training.state())].filter(([path]) => !path.startsWith('pictures')); // counted as kept
    const trained = state.filter(([path]) => path.startsWith('trainables')).map(([, tensor]) => tensor);
    const trainedBytes = bytesOf(trained);
    const optimiser = bytesOf(state.map(([, tensor]) => tensor)) - trainedBytes;
    const latent = latentElements(pipeline) * 4;
    const keptOf = (of: Recipe) => ((method.plan.keeps?.(of).kept ?? 0) * latent) / 2;
    const created = allocatedBytes() - keptOf(small);
    const adapters = Math.max(0, created - weights - trainedBytes - optimiser);

    const requests = Array.from(
      { length: Math.max(1, Math.min(recipe.sample.batchSize, evaluated)) },
      (_, seed) => ({
        prompt: trainingPrompts[seed % trainingPrompts.length]?.text ?? '',
        seed,
      }),
    );
    resetPeakBytes();
    shapes.takeWork();
    free(await training.draw(requests));
    const drawnTest = peakBytes();
    const evaluating = shapes.takeWork();

    resetPeakBytes();
    const phases = new Map<string, number>();
    let phase = 'drawing';
    let held = allocatedBytes();
    let graph = 0;
    const work: Pick<WorkPrediction, 'drawing' | 'learning'> = { drawing: [], learning: [] };
    for await (const event of training.run(0)) {
      const next = event.kind === 'progress' ? event.phase : 'end';
      if (next === phase) continue;
      phases.set(phase, Math.max(phases.get(phase) ?? 0, peakBytes()));
      if (phase !== 'drawing') graph = Math.max(graph, shapes.graphPeakBytes());
      work[phase === 'drawing' ? 'drawing' : 'learning'].push(...shapes.takeWork());
      if (next === 'scoring' || phase === 'end') held = allocatedBytes();
      resetPeakBytes();
      phase = next;
    }
    const grownKept = keptOf(recipe) - keptOf(small);
    const evaluation = drawnTest + grownKept;
    const checkpoint = trainedBytes + optimiser + keptOf(recipe);
    const loading = allocatedBytes() + grownKept + checkpoint; // the state is read beside what is there
    const arithmetic = method.plan.arithmetic(small);
    let drawn = {
      drawing: work.drawing,
      drawnSteps: arithmetic.samplingForwards / arithmetic.halves,
      pictures,
    };
    if (work.drawing.length === 0) {
      const count = requests.length; // a method that draws as it learns
      drawn = { drawing: evaluating, drawnSteps: count * steps, pictures: count };
    }
    const decoding = decodingWork(pipeline, drawn.pictures);

    const pixels =
      ((pipeline.vae.downFactor * pipeline.vae.downFactor) / pipeline.unet.inChannels) *
      latentElements(pipeline) *
      3;
    const { holds = 'trajectories' } = method.plan;
    const heldOf = {
      trajectories: (length: number) => (length + 1) * latent + 8 * length + pixels,
      pictures: () => latent + pixels,
      nothing: () => 0,
    }[holds];
    const drawnOf = (of: Recipe) => (method.plan.keeps?.(of).drawn ?? drawnIn(of)) * heldOf(of.sample.steps);
    const learnedOf = (of: Recipe) => (method.plan.keeps === undefined ? drawnOf(of) : keptOf(of));
    const grownDrawn = drawnOf(recipe) - drawnOf(small) + grownKept;
    const batch = holds === 'trajectories' ? Math.min(recipe.sample.batchSize, drawnIn(recipe)) : 0;
    const drawing =
      (phases.get('drawing') ?? 0) + grownDrawn + batch * (recipe.sample.steps - steps) * latent;
    // a step that only learns reports behind its first micro-batch
    const learning = Math.max(
      Math.max(phases.get('learning') ?? 0, phases.get('end') ?? 0) + learnedOf(recipe) - learnedOf(small),
      (phases.get('scoring') ?? 0) + grownDrawn,
    );
    const gradients = trainedBytes;
    const parts: MemoryParts = {
      weights,
      adapters: adapters > 0 ? created - weights - optimiser - gradients : 0,
      optimiser,
      gradients,
      trajectories: learnedOf(recipe),
      activations: 0,
      temporary: 0,
    };
    const rest = learning - Object.values(parts).reduce((sum, bytes) => sum + bytes, 0);
    parts.activations = Math.min(rest, Math.max(0, graph - held));
    parts.temporary = rest - parts.activations;
    return {
      memory: {
        peak: Math.max(drawing, learning, evaluation, loading),
        phases: { drawing, learning, evaluation, loading },
        parts,
        checkpoint,
        parameters: {
          unet: pipeline.parameters.unet.count,
          vae: pipeline.parameters.vae.count,
          textEncoder: pipeline.parameters.textEncoder.count,
          ...(pipeline.parameters.textEncoder2 && { textEncoder2: pipeline.parameters.textEncoder2.count }),
          trained: trained.reduce((sum, tensor) => sum + tensor.numel, 0),
        },
      },
      work: {
        ...drawn,
        decoding,
        learning: work.learning,
        learnedSteps: arithmetic.trainingForwards / arithmetic.halves,
      },
    };
  } finally {
    training.free();
    for (const parameters of Object.values(pipeline.parameters)) parameters.free();
  }
}

/** Where shapes are that count; what is sent to `cpu` from a GPU does not. No device is asked: it need not be here. */
const deviceOf = ({ device }: Recipe) => (device === 'cpu' ? 'cpu' : 'cuda:0') as Device;

type Types = Exclude<LoadOptions['dtype'], DType | undefined>;

async function build(model: PlannedModel, recipe: Recipe): Promise<Pipeline> {
  const { dtype: types } = loadOptionsOf(recipe); // what is off the device is moved there by `settle`
  if ('folder' in model) return loadPipeline(model.folder, { dtype: types as Types });
  const { unet, vae, text_encoder: text, text_encoder_2: text2, scheduler } = model.configs;
  const {
    unet: unetType = 'float32',
    vae: vaeType = 'float32',
    textEncoder: textType = 'float32',
    textEncoder2: text2Type = 'float32',
  } = types as Types;
  const device = deviceOf(recipe);
  const parameters = {
    unet: Parameters.random(0, { dtype: unetType, device }),
    vae: Parameters.random(1, {
      dtype: vaeType === 'float16' && vae.force_upcast ? 'float32' : vaeType,
      device,
    }),
    textEncoder: Parameters.random(2, { dtype: textType, device }),
    ...(text2 && { textEncoder2: Parameters.random(3, { dtype: text2Type, device }) }),
  };
  const length = text.max_position_embeddings ?? 77;
  const tokenizer = {
    encode: (prompts: readonly string[]) => ({
      ids: prompts.map(() => Array<number>(length).fill(0)),
      words: prompts.map(() => [{ word: '', start: 1, end: 2 }]),
    }),
  };
  return {
    unet: new UNet2DConditionModel(unet, parameters.unet.at()),
    vae: new AutoencoderKL(vae, parameters.vae.at()),
    textEncoder: new CLIPTextModel(text, parameters.textEncoder.at()),
    tokenizer: tokenizer as unknown as CLIPTokenizer,
    schedulerConfig: scheduler,
    parameters,
    defaults: {},
    ...(text2 &&
      parameters.textEncoder2 && {
        textEncoder2: new CLIPTextModelWithProjection(text2, parameters.textEncoder2.at()),
        tokenizer2: tokenizer as unknown as CLIPTokenizer,
        forceZerosForEmptyPrompt: true,
      }),
  };
}

/** Shipped rewards are loaded and asked; weights may not be here, and a module of the user's might do anything: these are left alone. */
async function rewardWithoutSideEffects(recipe: Recipe): Promise<Reward | CompositeReward | undefined> {
  const names = Array.isArray(recipe.reward) ? recipe.reward.map(({ reward }) => reward) : [recipe.reward];
  const known = names.every(
    (name) => typeof name === 'string' && Object.hasOwn(rewards, name) && rewards[name]?.needs === undefined,
  );
  return known ? loadReward(recipe.reward, deviceOf(recipe)) : undefined;
}

const drawnIn = ({ sample }: Recipe) => sample.promptsPerEpoch * sample.picturesPerPrompt;

function decodingWork(pipeline: Pipeline, pictures: number): shapes.Work[] {
  shapes.takeWork();
  const latents = zeros([pictures, ...latentShape(pipeline)]);
  free([noGrad(() => decodeImages(pipeline, latents)), latents]);
  return shapes.takeWork();
}

const bytesOf = (tensors: readonly Tensor[]) => tensors.reduce((sum, { numel }) => sum + 4 * numel, 0);
