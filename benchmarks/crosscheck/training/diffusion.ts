// Training of the denoising network, its text encoder and its autoencoder.
import { loadArt } from '@rldf/emoji-world';
import {
  AutoencoderKL,
  CLIPTextModel,
  CLIPTokenizer,
  LoraAdapter,
  NoiseSchedule,
  type Pipeline,
  type SchedulerConfig,
  tinyPipeline,
  UNet2DConditionModel,
} from '@rldf/models';
import { noGrad, noiseKey, normal, Parameters, Random, type StateDict } from '@rldf/torch';
import {
  basisOf,
  cacheLatents,
  clipConfig,
  denoisingBatch,
  denoisingErrors,
  gatedParameters,
  groundedBatch,
  LayoutHead,
  loadPatchBasis,
  pretrainGligen,
  pretrainUNet,
  pretrainVae,
  project,
  roughened,
  sceneBatch,
  schedulerConfig,
  shownObjects,
  tokenizerFolder,
  unetConfig,
  vaeConfig,
  withGatedLayers,
} from 'rldf/training';
import type { Case, CaseOf } from './comparison.js';
import {
  copies,
  eachUpdate,
  type Fitting,
  followed,
  inHalf,
  integers,
  ourOptions,
  part,
  SEED,
  theirOptions,
  trainee,
} from './fitting.js';

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
  (name: string, given: Partial<Fitting>, prediction: 'sample' | 'epsilon' | 'v_prediction', limits: Case['limits'] = {}, layoutWeight = 0): CaseOf =>
  async (context) => {
    const scheduler: SchedulerConfig = { ...schedulerConfig, prediction_type: prediction };
    const pipeline = smallPipeline(scheduler);
    const { unet, textEncoder } = pipeline.parameters;
    const settings = { batchSize: 8, seed: SEED, cachedScenes: 64, captionDropout: 0.2, snrBounds: [0.3, 4] as const, textRate: 0.5, layoutWeight }; // biome-ignore format: one thought
    const options = { ...ourOptions(context, name, given), ...settings, scheduler };
    const cache = await cacheLatents(loadPatchBasis(basisOf(context.model)), pipeline.tokenizer, options);
    const empty = integers(pipeline.tokenizer.encode(['']).ids[0] as number[]).unsqueeze(0);
    const data: StateDict = new Map();
    eachUpdate(data, (step) => {
      const batch = denoisingBatch(cache, empty, 1000, step, options);
      const shown = { latents: batch.latents, noise: batch.noise, ids: batch.ids, timesteps: integers(batch.timesteps) };
      const { token, target, told } = cache.layouts;
      const layout = Object.entries({ token, target, told }).map(([part, table]) => [part, table.indexSelect(0, batch.index)] as const);
      return { ...shown, heard: batch.mask.mul(-1).add(1).to('float32'), ...Object.fromEntries(layout) };
    });
    const named = [
      ...[...unet.entries].map(([path, one]) => [`unet.${path}`, one] as const),
      ...[...textEncoder.entries].map(([path, one]) => [`text.${path}`, one] as const),
    ];
    // the training makes its own from the same seed, and drops it
    const head = layoutWeight > 0 ? [...new LayoutHead(pipeline.textEncoder.config.hidden_size as number, SEED).parameters.entries] : [];
    const aside = head.map(([path, one]) => [`head.${path}`, one] as const);
    return {
      name,
      question: {
        ask: 'pretraining',
        ...theirs(pipeline, scheduler),
        trained: ['full', 'full'],
        textRate: settings.textRate,
        snrBounds: settings.snrBounds,
        ...(layoutWeight > 0 && { layoutWeight }),
        options: theirOptions(given),
      },
      start: copies([...named, ...aside]),
      data,
      train: () => followed(options, [...named, ...aside.map(([path]) => [path, undefined] as const)], pretrainUNet(pipeline, cache, options, async () => {})),
      limits,
    };
  }; // biome-ignore format: its parameters are a table

const theirs = (pipeline: Pipeline, scheduler: SchedulerConfig) => ({
  unet: pipeline.unet.config,
  text: pipeline.textEncoder.config,
  scheduler,
});

/** GLIGEN's layers as `rldf pretrain gligen` trains them; gates, null features and what writes behind the gates are not what they begin as. */
const grounded =
  (name: string, given: Partial<Fitting> = {}): CaseOf =>
  async (context) => {
    const scheduler: SchedulerConfig = { ...schedulerConfig, prediction_type: 'sample' };
    const pipeline = withGatedLayers(smallPipeline(scheduler), SEED);
    const { unet, textEncoder } = pipeline.parameters;
    const named = gatedParameters(unet).map(([path, one]) => [`unet.${path}`, one] as const);
    for (const [i, [path, one]] of named.entries())
      if (/alpha_|null_|fuser\.(attn\.to_out|ff\.net\.2)/.test(path)) noGrad(() => one.copy_(normal([noiseKey(SEED, 'gates', i)], [...one.shape, 1]).reshape(one.shape).mul(0.5)));
    const attentionWeight = 0.3;
    const settings = { batchSize: 8, seed: SEED, cachedScenes: 64, captionDropout: 0.2, boxDropout: 0.3, attentionWeight };
    const options = { ...ourOptions(context, name, given), ...settings, scheduler };
    const cache = await cacheLatents(loadPatchBasis(basisOf(context.model)), pipeline.tokenizer, options);
    const shown = await shownObjects(pipeline, options);
    const empty = integers(pipeline.tokenizer.encode(['']).ids[0] as number[]).unsqueeze(0);
    const schedule = new NoiseSchedule(scheduler);
    const data: StateDict = new Map([['phrases', integers(pipeline.tokenizer.encode(shown.phrases).ids.flat()).reshape([shown.phrases.length, -1])]]);
    eachUpdate(data, (step) => {
      const { latents, noise, noisy, ids, timesteps, rows, grounding } = groundedBatch(cache, shown, empty, schedule, step, options);
      const { boxes, masks } = grounding;
      return { latents, noise, noisy, ids, timesteps: integers(timesteps), rows, boxes, masks };
    });
    return {
      name,
      question: { ask: 'pretraining', ...theirs(pipeline, scheduler), trained: ['gated', 'none'], plain: true, attentionWeight, options: theirOptions(given) },
      start: new Map([...copies(unet.entries, 'unet.'), ...copies(textEncoder.entries, 'text.')]),
      data,
      train: () => followed(options, named, pretrainGligen(pipeline, cache, shown, options)),
    };
  }; // biome-ignore format: its parameters are a table

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

export const diffusionCases: Record<string, CaseOf> = {
  unet: pretraining('U-Net and text encoder, pre-training', {}, 'sample'),
  'unet-epsilon': pretraining('the same, predicting noise', {}, 'epsilon'),
  'unet-layout': pretraining('U-Net, text encoder and layout head, pre-training', {}, 'sample', {}, 0.7),
  'unet-velocity': pretraining('the same, predicting velocity', {}, 'v_prediction'),
  'unet-gated': grounded('U-Net, gated layers and position net'),
  'unet-lora': lowRank('U-Net, LoRA on linear layers', 'unet', ['to_q', 'to_k', 'to_v', 'to_out.0', 'ff.net.0.proj', 'time_emb_proj']),
  'unet-lora-conv': lowRank('U-Net, LoRA on convolutions', 'unet', ['conv1', 'conv2', 'conv_in', 'conv_shortcut']),
  'text-lora': lowRank('text encoder, LoRA', 'textEncoder', ['q_proj', 'k_proj', 'v_proj', 'out_proj', 'fc1']),
  encoder: autoencoder('encoder'),
  decoder: autoencoder('decoder'),
  'unet-bfloat16': pretraining('U-Net and text encoder, bfloat16', { precision: 'bfloat16' }, 'sample', inHalf),
}; // biome-ignore format: a line each
