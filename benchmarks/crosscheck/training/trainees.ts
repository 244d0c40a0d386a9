// What pre-training trains, each with the loss that trains it.
import { join } from 'node:path';
import { backgrounds, loadArt, nouns } from '@rldf/emoji-world';
import {
  AestheticPredictor,
  AutoencoderKL,
  type CLIPConfig,
  CLIPModel,
  CLIPTextModel,
  CLIPTokenizer,
  contrastiveLoss,
  ImageRewardModel,
  LoraAdapter,
  NoiseSchedule,
  OneStageDetector,
  PatchVotingDetector,
  type Pipeline,
  ResNet18,
  type SchedulerConfig,
  TunedPreferenceModel,
  tinyPipeline,
  UNet2DConditionModel,
} from '@rldf/models';
import {
  F,
  keep,
  noGrad,
  noiseKey,
  normal,
  Parameters,
  Random,
  type StateDict,
  scope,
  type Tensor,
  tensor,
} from '@rldf/torch';
import { knownArt, SceneClassifier, styleLabels } from '../../../packages/rldf/src/eval/scene-classifier.js';
import { denoisingErrors } from '../../../packages/rldf/src/methods/denoising-loss.js';
import {
  labelled,
  NounClassifier,
  pretrainClassifier,
} from '../../../packages/rldf/src/pretrain/classifier.js';
import { tokenTensor } from '../../../packages/rldf/src/pretrain/clip.js';
import {
  clipConfig,
  schedulerConfig,
  unetConfig,
  vaeConfig,
} from '../../../packages/rldf/src/pretrain/configs.js';
import { detectionBatch } from '../../../packages/rldf/src/pretrain/detection-scenes.js';
import { cellsAtCentre, cellTargets, detectionLoss } from '../../../packages/rldf/src/pretrain/detector.js';
import { basisOf, tokenizerFolder } from '../../../packages/rldf/src/pretrain/parts.js';
import { loadPatchBasis, project } from '../../../packages/rldf/src/pretrain/patch-basis.js';
import { rankingLoss, repeatRows } from '../../../packages/rldf/src/pretrain/preference.js';
import { feedbackRules, GROUP, rankingBatch } from '../../../packages/rldf/src/pretrain/rankings.js';
import { imagesOf, sceneBatch } from '../../../packages/rldf/src/pretrain/scenes.js';
import { labelledScenes, sceneLoss } from '../../../packages/rldf/src/pretrain/style.js';
import {
  type Trainee,
  type TrainingEvent,
  type TrainingOptions,
  train,
} from '../../../packages/rldf/src/pretrain/training.js';
import { cacheLatents, denoisingBatch, pretrainUNet } from '../../../packages/rldf/src/pretrain/unet.js';
import { pretrainVae, roughened } from '../../../packages/rldf/src/pretrain/vae.js';
import { loadCheckpoint } from '../../../packages/rldf/src/run/checkpoint.js';
import { crops, trainClassifier } from '../../../packages/rldf/src/search/evaluate/classifier.js';
import type { Context } from '../checks.js';
import { AVERAGE, type Case, type CaseOf, type Ours, UPDATES } from './comparison.js';

const SEED = 5;

/** Everything that a fault could hide behind is away from its default. */
const fitting = {
  learningRate: 1e-4,
  warmup: 4,
  decay: 0.7,
  betas: [0.8, 0.95] as const,
  weightDecay: 0.5,
  maxGradNorm: 0.1,
  emaDecay: 0.7,
};
type Fitting = Omit<typeof fitting, 'betas'> & { precision?: 'bfloat16' };

const optionsFor = (given: Partial<Fitting>) => ({ ...fitting, ...given });
/** The same in the other side's words; our schedule ends at this share of the rate. */
const theirOptions = (given: Partial<Fitting>) => ({ ...optionsFor(given), steps: UPDATES, floor: 0.02 });

function ourOptions(context: Context, name: string, given: Partial<Fitting>): TrainingOptions {
  const folder = join(context.folder, `run-${name.replaceAll(/\W+/g, '-')}`);
  return { ...optionsFor(given), folder, steps: UPDATES, eventSeconds: 0 };
}

/** Runs a training of ours to its end: losses and norms from its events, weights from its last checkpoint. */
async function followed(
  { folder }: TrainingOptions,
  named: readonly (readonly [string, Tensor])[],
  events: AsyncIterable<TrainingEvent>,
): Promise<Ours> {
  const losses: number[] = [];
  const norms: number[] = [];
  for await (const { loss, gradNorm } of events) {
    losses.push(loss);
    norms.push(gradNorm);
  }
  const { state } = loadCheckpoint(join(folder, 'checkpoints'));
  const { parameters } = state as { parameters: Tensor[] };
  const weights: StateDict = new Map();
  for (const [i, [name, averaged]] of named.entries()) {
    weights.set(name, parameters[i] as Tensor);
    weights.set(`${AVERAGE}${name}`, averaged); // a training leaves the averages in place
  }
  return { losses, norms, weights };
}

function trainee(context: Context, name: string, given: Partial<Fitting>, named: readonly (readonly [string, Tensor])[], loss: Trainee['loss']) {
  const options = ourOptions(context, name, given);
  const parameters = named.map(([, parameter]) => parameter.requiresGrad_());
  return followed(options, named, train({ parameters, loss: (step) => scope(() => loss(step)) }, options));
} // biome-ignore format: its arguments are a table

const copies = (entries: Iterable<readonly [string, Tensor]>, prefix = ''): StateDict =>
  noGrad(() => new Map([...entries].map(([name, one]) => [`${prefix}${name}`, keep(one.detach().clone())])));

/** Data of every update, named `update.part`. */
function eachUpdate(data: StateDict, of: (step: number) => Record<string, Tensor>): void {
  for (let step = 0; step < UPDATES; step++) {
    const parts = noGrad(() => scope(() => Object.fromEntries(Object.entries(of(step)).map(([k, v]) => [k, keep(v.contiguous())])))); // biome-ignore format: one thought
    for (const [name, part] of Object.entries(parts)) data.set(`${step}.${name}`, part);
  }
}
const part = (data: StateDict, step: number, name: string) => data.get(`${step}.${name}`) as Tensor;
const integers = (values: readonly number[]) => tensor([...values], { dtype: 'int64' });

// ---- the denoising network and its text encoder

function smallPipeline(scheduler: SchedulerConfig): Pipeline {
  const tokenizer = CLIPTokenizer.load(tokenizerFolder);
  const { text_config } = clipConfig(tokenizer);
  const width = 32;
  const unet = Parameters.random(SEED);
  const text = Parameters.random(SEED + 1);
  const config = { ...unetConfig, block_out_channels: [32, 48], attention_head_dim: [2, 3], cross_attention_dim: width, norm_num_groups: 8, addition_embed_type_num_heads: 4 }; // biome-ignore format: one thought
  const textConfig = { ...text_config, hidden_size: width, intermediate_size: 64, num_attention_heads: 2, num_hidden_layers: 2, projection_dim: width }; // biome-ignore format: one thought
  return {
    ...tinyPipeline(SEED),
    unet: new UNet2DConditionModel(config, unet.at()),
    textEncoder: new CLIPTextModel(textConfig, text.at()),
    tokenizer,
    schedulerConfig: scheduler,
    parameters: { unet, vae: Parameters.random(0), textEncoder: text },
  };
}

/** U-Net and text encoder as `rldf pretrain unet` trains them. */
const pretraining =
  (name: string, given: Partial<Fitting>, prediction: 'sample' | 'epsilon' | 'v_prediction', limits: Case['limits'] = {}): CaseOf =>
  async (context) => {
    const scheduler: SchedulerConfig = { ...schedulerConfig, prediction_type: prediction };
    const pipeline = smallPipeline(scheduler);
    const { unet, textEncoder } = pipeline.parameters;
    const settings = { batchSize: 8, seed: SEED, cachedScenes: 64, captionDropout: 0.2, snrBounds: [0.3, 4] as const, textRate: 0.5 }; // biome-ignore format: one thought
    const options = { ...ourOptions(context, name, given), ...settings, scheduler };
    const cache = await cacheLatents(loadPatchBasis(basisOf(context.model)), pipeline.tokenizer, options);
    const empty = integers(pipeline.tokenizer.encode(['']).ids[0] as number[]).unsqueeze(0);
    const data: StateDict = new Map();
    eachUpdate(data, (step) => {
      const batch = denoisingBatch(cache, empty, 1000, step, options);
      return { latents: batch.latents, noise: batch.noise, ids: batch.ids, timesteps: integers(batch.timesteps) };
    });
    const named = [
      ...[...unet.entries].map(([path, one]) => [`unet.${path}`, one] as const),
      ...[...textEncoder.entries].map(([path, one]) => [`text.${path}`, one] as const),
    ];
    return {
      name,
      question: {
        ask: 'pretraining',
        ...theirs(pipeline, scheduler),
        trained: ['full', 'full'],
        textRate: settings.textRate,
        snrBounds: settings.snrBounds,
        options: theirOptions(given),
      },
      start: copies(named),
      data,
      train: () => followed(options, named, pretrainUNet(pipeline, cache, options, async () => {})),
      limits,
    };
  }; // biome-ignore format: its parameters are a table

const theirs = (pipeline: Pipeline, scheduler: SchedulerConfig) => ({
  unet: pipeline.unet.config,
  text: pipeline.textEncoder.config,
  scheduler,
});

/** Low-rank updates of one network; the other stays as it is. */
const lowRank =
  (name: string, network: 'unet' | 'textEncoder', targets: readonly string[], given: Partial<Fitting> = {}): CaseOf =>
  async (context) => {
    const scheduler: SchedulerConfig = { ...schedulerConfig, prediction_type: 'epsilon' };
    const pipeline = smallPipeline(scheduler);
    const prefix = network === 'unet' ? 'unet.' : 'text.';
    const schedule = new NoiseSchedule(scheduler);
    const { unet, textEncoder } = pipeline.parameters;
    const start = new Map([...copies(unet.entries, 'unet.'), ...copies(textEncoder.entries, 'text.')]);
    const lora = { rank: 3, alpha: 5, targets };
    const adapter = LoraAdapter.attach(pipeline.parameters[network], { ...lora, seed: SEED });
    for (const [i, { branch }] of adapter.modules.entries()) {
      noGrad(() => branch.up.copy_(normal([noiseKey(SEED, 'up', i)], branch.up.shape).squeeze(0).mul(0.05)));
    }
    const named = [...adapter.state()].map(([path, one]) => [`${prefix}${path}`, one] as const);
    for (const [path, one] of copies(named)) start.set(path, one);
    const texts = sceneBatch(await loadArt('noto'), 'train', SEED, 0, 8).captions;
    const ids = integers(pipeline.tokenizer.encode(texts).ids.flat()).reshape([8, -1]);
    const data: StateDict = new Map();
    eachUpdate(data, (step) => {
      const random = new Random(noiseKey(SEED, 'low rank', step));
      const draw = (what: string) => normal([noiseKey(SEED, what, step)], [8, 32, 8, 8]).squeeze(0);
      const timesteps = integers(Array.from({ length: 8 }, () => random.integer(1000)));
      return { latents: draw('latents'), noise: draw('noise'), timesteps, ids };
    });
    return {
      name,
      question: {
        ask: 'pretraining',
        ...theirs(pipeline, scheduler),
        trained: network === 'unet' ? ['lora', 'none'] : ['none', 'lora'],
        lora,
        plain: true,
        options: theirOptions(given),
      },
      start,
      data,
      train: () =>
        trainee(context, name, given, named, (step) => {
          const noising = { timesteps: part(data, step, 'timesteps').toNumbers(), noise: part(data, step, 'noise') };
          const hiddenStates = pipeline.textEncoder.forward(ids).lastHiddenState;
          return denoisingErrors(pipeline.unet, schedule, part(data, step, 'latents'), noising, { hiddenStates }).mean();
        }),
    };
  }; // biome-ignore format: its parameters are a table

// ---- the autoencoder

const autoencoder =
  (half: 'encoder' | 'decoder', given: Partial<Fitting> = {}): CaseOf =>
  async (context) => {
    const name = `autoencoder, ${half}`;
    const config = { ...vaeConfig, block_out_channels: [8, 16, 16, 16], norm_num_groups: 4 };
    const parameters = Parameters.random(SEED);
    const vae = new AutoencoderKL(config, parameters.at());
    const basis = loadPatchBasis(basisOf(context.model));
    const options = { ...ourOptions(context, name, given), batchSize: 4, seed: SEED, half };
    const art = await loadArt('noto');
    const data: StateDict = new Map();
    eachUpdate(data, (step) => {
      const { images } = sceneBatch(art, 'train', SEED, step * 4, 4);
      const latents = project(basis, images);
      return { images, latents, noisy: roughened(latents, step, options) };
    });
    const named = [...parameters.entries].filter(([path]) => path.startsWith(`${half}.`));
    return {
      name,
      question: { ask: 'autoencoder', vae: config, half, options: theirOptions(given) },
      start: copies(parameters.entries),
      data,
      train: () => followed(options, named, pretrainVae(vae, parameters, basis, options)),
    };
  };

// ---- CLIP, and what stands on it

function smallClip(seed: number): { config: CLIPConfig; clip: CLIPModel; parameters: Parameters; tokenizer: CLIPTokenizer } {
  const tokenizer = CLIPTokenizer.load(tokenizerFolder);
  const { text_config, vision_config, ...common } = clipConfig(tokenizer);
  const tower = { hidden_size: 32, intermediate_size: 64, num_attention_heads: 2, num_hidden_layers: 2, projection_dim: 24 };
  const config = { ...common, projection_dim: 24, text_config: { ...text_config, ...tower }, vision_config: { ...vision_config, ...tower } };
  const parameters = Parameters.random(seed);
  return { config, clip: new CLIPModel(config, parameters.at()), parameters, tokenizer };
} // biome-ignore format: two tables

const clip =
  (name: string, given: Partial<Fitting> = {}, limits: Case['limits'] = {}): CaseOf =>
  async (context) => {
    const { config, clip, parameters, tokenizer } = smallClip(SEED);
    const art = await loadArt('noto');
    const data: StateDict = new Map();
    eachUpdate(data, (step) => {
      const { images, captions } = sceneBatch(art, 'train', SEED, step * 8, 8);
      return { images, ids: tokenTensor(tokenizer, captions) };
    });
    const named = [...parameters.entries];
    return {
      name,
      question: { ask: 'clip', clip: config, options: theirOptions(given) },
      start: copies(named),
      data,
      train: () =>
        trainee(context, name, given, named, (step) => {
          const { logitsPerImage } = clip.forward(part(data, step, 'ids'), part(data, step, 'images'));
          return contrastiveLoss(logitsPerImage.to('float32'));
        }),
      limits,
    };
  };

/** Ranked pictures of 3 prompts an update. */
async function ranked(data: StateDict, tokenizer: CLIPTokenizer) {
  const art = await loadArt('noto');
  const ranks: number[][] = [];
  eachUpdate(data, (step) => {
    const batch = rankingBatch(art, 'train', SEED, step * 3, 3, {
      rules: feedbackRules,
      blur: { kind: 'gaussian' },
    });
    ranks.push(batch.ranks);
    return {
      images: batch.images,
      ids: tokenTensor(tokenizer, batch.captions),
      ranks: integers(batch.ranks),
    };
  });
  return ranks;
}

const pickScore: CaseOf = async (context) => {
  const name = 'preference model in PickScore’s form, low rank';
  const given = { learningRate: 1e-4 };
  const { config, clip, parameters, tokenizer } = smallClip(SEED);
  const start = copies(parameters.entries);
  const model = TunedPreferenceModel.attach(clip, parameters, { rank: 2, seed: SEED });
  for (const [i, { branch }] of model.adapter.modules.entries()) {
    noGrad(() =>
      branch.up.copy_(
        normal([noiseKey(SEED, 'up', i)], branch.up.shape)
          .squeeze(0)
          .mul(0.1),
      ),
    );
  }
  const named = [...model.state()];
  for (const [path, one] of copies(named)) start.set(path, one);
  const data: StateDict = new Map();
  const ranks = await ranked(data, tokenizer);
  return {
    name,
    question: {
      ask: 'pick_score',
      clip: config,
      group: GROUP,
      lora: {
        rank: 2,
        alpha: 2,
        targets: [...new Set(model.adapter.modules.map(({ path }) => path.split('.').at(-1)))],
      },
      options: theirOptions(given),
    },
    start,
    data,
    train: () =>
      trainee(context, name, given, named, (step) => {
        const texts = clip.encodeText(part(data, step, 'ids'));
        return rankingLoss(
          model.score(repeatRows(texts), part(data, step, 'images')).to('float32'),
          ranks[step] as number[],
        );
      }),
  };
};

const imageReward: CaseOf = async (context) => {
  const name = 'preference head in ImageReward’s form';
  const given = {};
  const { config, clip, parameters: frozen, tokenizer } = smallClip(SEED);
  const reward = { hidden_size: 24, num_hidden_layers: 2, num_attention_heads: 2, intermediate_size: 48 };
  const parameters = Parameters.random(SEED + 2);
  const model = new ImageRewardModel(reward, clip, parameters.at());
  // louder than they are drawn, so that pictures differ: with scores a rounding apart, a ReLU is on on one side and off on the other
  noGrad(() => {
    for (const [path, one] of parameters.entries)
      if (/mlp.*weight|cross.*value.weight/.test(path)) one.mul_(3);
  });
  const named = [...parameters.entries].filter(([path]) => !['mean', 'deviation'].includes(path));
  const data: StateDict = new Map();
  const ranks = await ranked(data, tokenizer);
  return {
    name,
    question: { ask: 'image_reward', clip: config, reward, group: GROUP, options: theirOptions(given) },
    start: new Map([...copies(frozen.entries, 'clip.'), ...copies(named)]),
    data,
    train: () =>
      trainee(context, name, given, named, (step) => {
        const raw = model.raw(repeatRows(part(data, step, 'ids')), part(data, step, 'images'));
        return rankingLoss(raw.to('float32'), ranks[step] as number[]);
      }),
  };
};

const aesthetic: CaseOf = (context) => {
  const name = 'aesthetic head';
  const given = { learningRate: 3e-4 };
  const parameters = Parameters.random(SEED);
  const head = new AestheticPredictor(parameters.at(), 24);
  const named = [...parameters.entries];
  const data: StateDict = new Map();
  eachUpdate(data, (step) => ({
    embeddings: normal([noiseKey(SEED, 'embeddings', step)], [32, 24]).squeeze(0),
    ratings: normal([noiseKey(SEED, 'ratings', step)], [32])
      .squeeze(0)
      .add(5),
  }));
  return {
    name,
    question: { ask: 'aesthetic', inputs: 24, options: theirOptions(given) },
    start: copies(named),
    data,
    train: () =>
      trainee(context, name, given, named, (step) =>
        F.mseLoss(head.forward(part(data, step, 'embeddings')), part(data, step, 'ratings')),
      ),
  };
};

// ---- detectors and classifiers

const detector =
  (name: string, Network: typeof OneStageDetector | typeof PatchVotingDetector, given: Partial<Fitting> = {}, limits: Case['limits'] = {}): CaseOf =>
  async (context) => {
    const labels = nouns.map((noun) => noun.name);
    const parameters = Parameters.random(SEED);
    const network = new Network(parameters.at(), labels);
    const art = await loadArt('noto');
    const data: StateDict = new Map();
    const targets: ReturnType<typeof cellTargets>[] = [];
    eachUpdate(data, (step) => {
      const { pictures, truths } = detectionBatch(art, 'train', SEED, step * 4, 4);
      const wanted = cellTargets(truths, labels, cellsAtCentre);
      targets.push(wanted);
      return {
        images: imagesOf(pictures),
        objectness: tensor(wanted.objectness),
        cells: integers(wanted.cells),
        labels: integers(wanted.labels),
        distances: tensor(wanted.distances),
      };
    });
    const named = [...parameters.entries];
    return {
      name,
      question: { ask: 'detector', class: Network.name, labels: labels.length, options: theirOptions(given) },
      start: copies(named),
      data,
      train: () =>
        trainee(context, name, given, named, (step) =>
          detectionLoss(network.forward(part(data, step, 'images')), targets[step] as ReturnType<typeof cellTargets>),
        ),
      limits,
    };
  }; // biome-ignore format: its parameters are a table

const nounClassifier: CaseOf = async (context) => {
  const name = 'classifier of nouns';
  const given = {};
  const parameters = Parameters.random(SEED);
  const classifier = new NounClassifier(parameters.at());
  const art = await loadArt('noto');
  const data: StateDict = new Map();
  eachUpdate(data, (step) => {
    const { images, labels } = labelled(art, 'train', SEED, step * 8, 8);
    return { images, labels: integers(labels) };
  });
  const named = [...parameters.entries];
  const options = { ...ourOptions(context, name, given), batchSize: 8, seed: SEED };
  return {
    name,
    question: { ask: 'noun_classifier', nouns: nouns.length, options: theirOptions(given) },
    start: copies(named),
    data,
    train: () => followed(options, named, pretrainClassifier(classifier, parameters, options)),
  };
};

const sceneClassifier: CaseOf = async (context) => {
  const name = 'classifier of scenes';
  const given = {};
  const parameters = Parameters.random(SEED);
  const network = new SceneClassifier(parameters.at());
  const arts = await Promise.all(knownArt.map(loadArt));
  const batches = Array.from({ length: UPDATES }, (_, step) =>
    labelledScenes(arts, 'train', SEED, step * 6, 6),
  );
  const data: StateDict = new Map();
  eachUpdate(data, (step) => {
    const { images, nouns: shares, styles, backgrounds: places, arts: sets } = batches[step] as (typeof batches)[number]; // biome-ignore format: one thought
    return {
      images,
      nouns: tensor(shares, { shape: [6, nouns.length] }),
      style: integers(styles),
      background: integers(places),
      art: integers(sets),
    };
  });
  const named = [...parameters.entries];
  const heads = {
    noun: nouns.length,
    style: styleLabels.length,
    background: backgrounds.length,
    art: knownArt.length,
  };
  return {
    name,
    question: { ask: 'scene_classifier', heads, options: theirOptions(given) },
    start: copies(named),
    data,
    train: () =>
      trainee(context, name, given, named, (step) =>
        sceneLoss(network, batches[step] as (typeof batches)[number]),
      ),
  };
};

/** The clone's classifier has a loop of its own. */
const resNet18: CaseOf = (context) => {
  const name = 'ResNet-18';
  const size = 32;
  const classes = ['a', 'b', 'c'];
  const random = new Random(noiseKey(SEED, 'pictures'));
  const labels = Array.from({ length: 160 }, (_, i) => i % classes.length);
  const pixels = Uint8Array.from({ length: 160 * size * size * 3 }, () => random.integer(256));
  const set = { classes, labels, size, pixels };
  const recipe = { epochs: 1, batchSize: 8, learningRate: 1e-4, weightDecay: 0.5, precision: 'float32', width: 8 } as const; // biome-ignore format: one thought
  const parameters = Parameters.random(SEED);
  new ResNet18(parameters.at(), { classes: classes.length, width: recipe.width });
  const learned = [...parameters.entries].filter(([path]) => !/running_|num_batches/.test(path));
  const order = new Random(noiseKey(SEED, 'classifier-order', 0)).shuffle(labels.map((_, i) => i));
  const data: StateDict = new Map();
  eachUpdate(data, (step) => {
    const rows = order.slice(step * 8, (step + 1) * 8);
    return {
      images: crops(set, rows, new Random(noiseKey(SEED, 'classifier-crops', step))),
      labels: integers(rows.map((row) => labels[row] as number)),
    };
  });
  const folder = join(context.folder, 'resnet-18');
  return {
    name,
    question: {
      ask: 'resnet18',
      classes: classes.length,
      width: recipe.width,
      options: {
        ...recipe,
        betas: [0.9, 0.999],
        steps: UPDATES,
        warmup: 1,
        cosine: true,
        decay: 0.95,
        floor: 0.01,
      },
    },
    start: copies(learned),
    data,
    async train() {
      const losses: number[] = [];
      const { classifier } = await trainClassifier(set, {
        recipe,
        seed: SEED,
        folder,
        onProgress: ({ loss }) => losses.push(loss),
      });
      return { losses, norms: [], weights: classifier.parameters.state() };
    },
  };
};

/** Every product is rounded to 8 bits, 2e-3, and attention is two products here and one kernel there: what is measured, doubled. */
const inHalf = { losses: 1e-2, norms: 5e-2, weights: 0.1, way: 0.1 };

export const trainees: Record<string, CaseOf> = {
  unet: pretraining('U-Net and text encoder, pre-training', {}, 'sample'),
  'unet-epsilon': pretraining('the same, predicting noise', {}, 'epsilon'),
  'unet-velocity': pretraining('the same, predicting velocity', {}, 'v_prediction'),
  'unet-lora': lowRank('U-Net, LoRA on linear layers', 'unet', ['to_q', 'to_k', 'to_v', 'to_out.0', 'ff.net.0.proj', 'time_emb_proj']),
  'unet-lora-conv': lowRank('U-Net, LoRA on convolutions', 'unet', ['conv1', 'conv2', 'conv_in', 'conv_shortcut']),
  'text-lora': lowRank('text encoder, LoRA', 'textEncoder', ['q_proj', 'k_proj', 'v_proj', 'out_proj', 'fc1']),
  encoder: autoencoder('encoder'),
  decoder: autoencoder('decoder'),
  clip: clip('CLIP with its vision tower'),
  'pick-score': pickScore,
  'image-reward': imageReward,
  aesthetic,
  detector: detector('one-stage detector', OneStageDetector),
  'judge-detector': detector('patch-voting detector', PatchVotingDetector),
  judge: nounClassifier,
  style: sceneClassifier,
  'resnet-18': resNet18,
  'unet-bfloat16': pretraining('U-Net and text encoder, bfloat16', { precision: 'bfloat16' }, 'sample', inHalf),
  'clip-bfloat16': clip('CLIP with its vision tower, bfloat16', { precision: 'bfloat16' }, inHalf),
  'detector-bfloat16': detector('one-stage detector, bfloat16', OneStageDetector, { precision: 'bfloat16' }, inHalf),
}; // biome-ignore format: a line each
