import { existsSync, mkdirSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import {
  type Device,
  type DType,
  noGrad,
  type ParameterPath,
  Parameters,
  readSafetensors,
  refuseNonFinite,
  type StateDict,
  scope,
  shown,
  UserError,
  writeSafetensors,
} from '@rldf/torch';
import { AutoencoderKL, renameOldAttention } from './autoencoder-kl.js';
import { AutoencoderTiny } from './autoencoder-tiny.js';
import { CLIPTextModel, withTowerPrefix } from './clip-text.js';
import { CLIPTokenizer } from './clip-tokenizer.js';
import { checkFields, generationFields } from './config-fields.js';
import { readJson, writeJson } from './files.js';
import type { Pipeline } from './pipeline.js';
import { createScheduler } from './schedulers/scheduler.js';
import { UNet2DConditionModel } from './unet.js';

const NETWORK_FILE = 'diffusion_pytorch_model.safetensors';
const TEXT_FILE = 'model.safetensors';

export interface LoadOptions {
  /** float32 by default, whatever the files hold. */
  dtype?: DType;
  device?: Device;
}

/**
 * Loads a model folder in diffusers' layout: `model_index.json`, `unet/`, `vae/`, `text_encoder/`, `tokenizer/`,
 * `scheduler/`; safetensors only, whole or sharded.
 *
 * @throws UserError naming file, tensor, expected and found shape for what is missing, broken or not supported
 */
export function loadPipeline(folder: string, options: LoadOptions = {}): Pipeline {
  const index = readJson(join(folder, 'model_index.json'));
  const vaeClass = componentClass(folder, index, 'vae', ['AutoencoderKL', 'AutoencoderTiny']);
  componentClass(folder, index, 'unet', ['UNet2DConditionModel']);
  componentClass(folder, index, 'text_encoder', ['CLIPTextModel']);

  const schedulerFile = join(folder, 'scheduler', 'scheduler_config.json');
  const schedulerConfig = readJson(schedulerFile);
  createScheduler(schedulerConfig, undefined, schedulerFile); // refuses now what generating would refuse later

  const loaded: Parameters[] = [];
  const load = <Model>(
    name: string,
    file: string,
    rename: (state: StateDict) => StateDict,
    make: (config: { [key: string]: unknown }, path: ParameterPath, where: string) => Model,
  ) => {
    const network = loadNetwork(join(folder, name), file, rename, make, options);
    loaded.push(network.parameters);
    return network;
  };
  try {
    const unet = load(
      'unet',
      NETWORK_FILE,
      (state) => state,
      (config, path, where) => new UNet2DConditionModel(config, path, { where }),
    );
    const vae = load('vae', NETWORK_FILE, renameOldAttention, (config, path, where) =>
      vaeClass === 'AutoencoderTiny'
        ? new AutoencoderTiny(config, path, where)
        : new AutoencoderKL(config, path, where),
    );
    const text = load(
      'text_encoder',
      TEXT_FILE,
      (state) => withTowerPrefix(state, 'text_model'),
      (config, path, where) => new CLIPTextModel(config, path, where),
    );
    const pipeline = {
      unet: unet.model,
      vae: vae.model,
      textEncoder: text.model,
      tokenizer: CLIPTokenizer.load(join(folder, 'tokenizer')),
      schedulerConfig,
      parameters: { unet: unet.parameters, vae: vae.parameters, textEncoder: text.parameters },
      defaults: readDefaults(folder),
    };
    checkFit(folder, pipeline);
    return pipeline;
  } catch (error) {
    for (const parameters of loaded) parameters.free();
    throw error;
  }
}

/** @throws UserError when parts of different models lie in one folder */
function checkFit(folder: string, { unet, vae, textEncoder, tokenizer }: Pipeline): void {
  const refuse = (what: string) => {
    throw new UserError(`${folder}: ${what} — the parts belong to different models. Restore the folder.`);
  };
  const { cross_attention_dim: dims = 1280 } = unet.config;
  const width = textEncoder.config.hidden_size ?? 512;
  const other = [dims].flat().find((dim) => dim !== width);
  if (other !== undefined) refuse(`the U-Net reads text of width ${other}, the text encoder writes ${width}`);
  if (unet.inChannels !== vae.latentChannels || unet.outChannels !== vae.latentChannels) {
    refuse(
      `the U-Net reads ${unet.inChannels} and writes ${unet.outChannels} channels, the autoencoder's latents have ${vae.latentChannels}`,
    );
  }
  const tokens = textEncoder.config.vocab_size ?? 49408;
  if (tokenizer.highestId >= tokens) {
    refuse(`the tokenizer has ids up to ${tokenizer.highestId}, the text encoder knows ${tokens}`);
  }
  const length = textEncoder.config.max_position_embeddings ?? 77;
  if (tokenizer.maxLength > length) {
    refuse(`the tokenizer makes ${tokenizer.maxLength} tokens, the text encoder takes ${length}`);
  }
}

/**
 * Loads one network of a model folder: `config.json` and the weights beside it.
 *
 * @param rename brings the names of the file into those of the network
 */
export function loadNetwork<Model>(
  folder: string,
  file: string,
  rename: (state: StateDict) => StateDict,
  make: (config: { [key: string]: unknown }, path: ParameterPath, where: string) => Model,
  options: LoadOptions = {},
): { model: Model; parameters: Parameters } {
  const configFile = join(folder, 'config.json');
  const weightsFile = findWeights(folder, file);
  return scope(() => {
    const config = readJson(configFile);
    const state = rename(readSafetensors(weightsFile).tensors);
    const parameters = Parameters.from(state, { dtype: 'float32', ...options, where: weightsFile });
    try {
      const model = make(config, parameters.at(), configFile);
      parameters.assertAllUsed();
      return { model, parameters };
    } catch (error) {
      parameters.free();
      throw error;
    }
  });
}

/**
 * The weights of U-Net and text encoder as they lie in a model folder, under the networks' names. The files are mapped, so only
 * what is looked at is read. In a `scope()`, or the caller's to free.
 */
export function storedWeights(folder: string): { unet: StateDict; textEncoder: StateDict } {
  const read = (name: string, file: string) => readSafetensors(findWeights(join(folder, name), file)).tensors;
  return {
    unet: read('unet', NETWORK_FILE),
    textEncoder: withTowerPrefix(read('text_encoder', TEXT_FILE), 'text_model'),
  };
}

/**
 * Writes a model folder that diffusers loads too.
 *
 * @param options `dtype` of the weight files; float16 halves them
 */
export function savePipeline(pipeline: Pipeline, folder: string, options: { dtype?: DType } = {}): void {
  const { unet, vae, textEncoder, tokenizer, schedulerConfig, parameters, defaults } = pipeline;
  const vaeClass = vae instanceof AutoencoderTiny ? 'AutoencoderTiny' : 'AutoencoderKL';
  const scheduler = createScheduler(schedulerConfig);
  const schedulerClass = scheduler.constructor.name;
  const save = (name: string, file: string, config: object, weights: Parameters) =>
    saveNetwork(join(folder, name), file, config, weights, options);

  save('unet', NETWORK_FILE, { ...unet.config, _class_name: 'UNet2DConditionModel' }, parameters.unet);
  save('vae', NETWORK_FILE, { ...vae.config, _class_name: vaeClass }, parameters.vae);
  // initializer_factor steers random weights only; transformers wants it as 1.0, which JavaScript writes as 1
  const { initializer_factor: _, ...textFields } = textEncoder.config;
  const textConfig = {
    ...textFields,
    architectures: ['CLIPTextModel'],
    dtype: 'float32', // else transformers 5 takes the file's, and a float16 encoder feeds a float32 U-Net
    model_type: 'clip_text_model',
  };
  save('text_encoder', TEXT_FILE, textConfig, parameters.textEncoder);
  tokenizer.save(join(folder, 'tokenizer'));
  writeJson(join(folder, 'scheduler', 'scheduler_config.json'), {
    ...scheduler.config,
    _class_name: schedulerClass,
  });
  if (Object.keys(defaults).length > 0) writeDefaults(folder, defaults);
  writeJson(join(folder, 'model_index.json'), {
    _class_name: 'StableDiffusionPipeline',
    feature_extractor: [null, null],
    requires_safety_checker: false,
    safety_checker: [null, null],
    scheduler: ['diffusers', schedulerClass],
    text_encoder: ['transformers', 'CLIPTextModel'],
    tokenizer: ['transformers', 'CLIPTokenizer'],
    unet: ['diffusers', 'UNet2DConditionModel'],
    vae: ['diffusers', vaeClass],
  });
}

/** Writes one network: `config.json` and the weights under their own names. */
export function saveNetwork(
  folder: string,
  file: string,
  config: object,
  parameters: Parameters,
  options: { dtype?: DType } = {},
): void {
  mkdirSync(folder, { recursive: true });
  noGrad(() =>
    scope(() => {
      const state: StateDict = new Map();
      for (const [name, tensor] of parameters.entries) {
        state.set(
          name,
          tensor
            .detach()
            .to({ dtype: options.dtype ?? tensor.dtype, device: 'cpu' })
            .contiguous(),
        );
      }
      const why = `nothing was written. ${options.dtype === undefined ? 'Use a checkpoint of before the training diverged.' : `Store it in float32: ${options.dtype} may not reach as far.`}`;
      refuseNonFinite(join(folder, file), state, why);
      writeSafetensors(join(folder, file), state, { format: 'pt' });
    }),
  );
  writeJson(join(folder, 'config.json'), config);
}

/**
 * The weights under their plain name, else as a variant such as fp16, whole or as the index of shards. diffusers and transformers
 * call the index of a variant NAME.safetensors.index.fp16.json; older files are called NAME.fp16.safetensors.index.json or
 * NAME.safetensors.fp16.index.json.
 *
 * @param file the plain name, NAME.safetensors
 * @throws UserError when there is none, or it cannot be told which
 */
export function findWeights(folder: string, file: string): string {
  const names = existsSync(folder) ? readdirSync(folder) : [];
  const plain = [file, `${file}.index.json`].find((name) => names.includes(name));
  if (plain !== undefined) return join(folder, plain);
  const stem = file.replace(/\.safetensors$/, '');
  const variant = '([A-Za-z0-9_]+)';
  const patterns = [
    `${variant}\\.safetensors`,
    `safetensors\\.index\\.${variant}\\.json`,
    `${variant}\\.safetensors\\.index\\.json`,
    `safetensors\\.${variant}\\.index\\.json`,
  ].map((pattern) => new RegExp(`^${stem}\\.${pattern}$`));
  const found = new Map<string, string>();
  for (const pattern of patterns) {
    for (const name of names) {
      const [, which] = pattern.exec(name) ?? [];
      if (which !== undefined && !found.has(which)) found.set(which, name);
    }
  }
  const chosen = found.get('fp16') ?? (found.size === 1 ? [...found.values()][0] : undefined);
  if (chosen !== undefined) return join(folder, chosen);
  if (found.size > 1) {
    throw new UserError(
      `${join(folder, file)}: is missing, and there are the variants ${[...found.keys()].sort().join(', ')} — fp16 or a single one is ` +
        'taken by itself. Rename the one you want, or delete the others.',
    );
  }
  throw new UserError(
    `${join(folder, file)}: is missing — weights are read from safetensors only. ${missing(names, stem)}`,
  );
}

/** Why weights may not have been found, by the names that are there. */
function missing(names: readonly string[], stem: string): string {
  const shard = names.find((name) => name.startsWith(stem) && /-\d+-of-\d+\.safetensors$/.test(name));
  if (shard !== undefined) return `${shard} is there, but not the index of the shards: restore it.`;
  // PyTorch's own names: pytorch_model.bin of transformers, NAME.bin of diffusers
  if (names.some((name) => /\.(bin|pt|pth|ckpt)$/.test(name)))
    return 'The .bin file beside it is a pickle, which can run code: convert it to safetensors.';
  return 'Restore the file or download the model again.';
}

function componentClass(
  folder: string,
  index: { [key: string]: unknown },
  name: string,
  supported: readonly string[],
): string {
  const entry = index[name];
  const found = Array.isArray(entry) ? entry[1] : undefined;
  if (typeof found === 'string' && supported.includes(found)) return found;
  throw new UserError(
    `${join(folder, 'model_index.json')}: ${name} is ${shown(entry)} — supported: ` +
      `${supported.join(', ')}. Use a model of the Stable Diffusion 1.x or 2.x kind.`,
  );
}

const DEFAULTS_FILE = 'generation_config.json';

function readDefaults(folder: string): Pipeline['defaults'] {
  const file = join(folder, DEFAULTS_FILE);
  if (!existsSync(file)) return {};
  const config = readJson(file);
  checkFields(file, config, generationFields);
  const { num_inference_steps: steps, guidance_scale: guidanceScale } = config;
  return {
    ...(typeof steps === 'number' ? { steps } : {}),
    ...(typeof guidanceScale === 'number' ? { guidanceScale } : {}),
  };
}

function writeDefaults(folder: string, { steps, guidanceScale }: Pipeline['defaults']): void {
  writeJson(join(folder, DEFAULTS_FILE), { num_inference_steps: steps, guidance_scale: guidanceScale });
}
