import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import {
  type Device,
  type DType,
  isFloating,
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
import { CLIPTextModel, CLIPTextModelWithProjection, withTowerPrefix } from './clip-text.js';
import { checkFields, generationFields } from './config-fields.js';
import { readJson, writeJson } from './files.js';
import { type ModelFiles, openModel, type WeightsPart } from './model-files.js';
import type { Pipeline } from './pipeline.js';
import { createScheduler } from './schedulers/scheduler.js';
import { UNet2DConditionModel } from './unet.js';
import { findWeights } from './weight-files.js';

const NETWORK_FILE = 'diffusion_pytorch_model.safetensors';
const TEXT_FILE = 'model.safetensors';

export interface LoadOptions {
  /**
   * float32 by default, whatever the files hold; one for all parts, or one each. An autoencoder whose configuration says
   * `force_upcast` would overflow in float16 and is float32 then, as diffusers computes it.
   */
  dtype?: DType | PerPart<DType>;
  device?: Device | PerPart<Device>;
}

export type PerPart<T> = { [part in keyof Pipeline['parameters']]?: T };

/** Of one part, where something is said of it. */
export const dtypeOf = (
  part: keyof Pipeline['parameters'],
  dtype: DType | PerPart<DType> | undefined,
): DType | undefined => (typeof dtype === 'object' ? dtype[part] : dtype);

/** As diffusers names the parts in files, and as a pipeline does. */
const partNames = {
  unet: 'unet',
  vae: 'vae',
  text_encoder: 'textEncoder',
  text_encoder_2: 'textEncoder2',
} as const;

/** Of one part. */
function optionsOf(
  part: WeightsPart,
  { dtype, device }: LoadOptions,
  config: { [key: string]: unknown },
): { dtype: DType; device?: Device } {
  const name = partNames[part];
  const wanted = dtypeOf(name, dtype) ?? 'float32';
  const place = typeof device === 'object' ? device[name] : device;
  const upcast = part === 'vae' && wanted === 'float16' && config.force_upcast === true;
  return { dtype: upcast ? 'float32' : wanted, ...(place !== undefined && { device: place }) };
}

/**
 * Loads a model folder in diffusers' layout: `model_index.json`, `unet/`, `vae/`, `text_encoder/`, `tokenizer/`,
 * `scheduler/`, of XL also `text_encoder_2/`, `tokenizer_2/`; safetensors only, whole or sharded. Or a single .safetensors file
 * that holds all of it.
 *
 * @param location `folder`, `folder:variant` or `file.safetensors`
 * @throws UserError naming file, tensor, expected and found shape for what is missing, broken or not supported
 */
export function loadPipeline(location: string, options: LoadOptions = {}): Pipeline {
  const files = openModel(location);
  const { where: folder } = files;
  const index = files.index();
  const vaeClass = componentClass(folder, index, 'vae', ['AutoencoderKL', 'AutoencoderTiny']);
  componentClass(folder, index, 'unet', ['UNet2DConditionModel']);
  componentClass(folder, index, 'text_encoder', ['CLIPTextModel']);
  const isXl = index.text_encoder_2 !== undefined || index._class_name === 'StableDiffusionXLPipeline';
  if (isXl) componentClass(folder, index, 'text_encoder_2', ['CLIPTextModelWithProjection']);

  const { config: schedulerConfig, where: schedulerFile } = files.config('scheduler');
  createScheduler(schedulerConfig, undefined, schedulerFile); // refuses now what generating would refuse later

  const loaded: Parameters[] = [];
  const load = <Model>(
    name: WeightsPart,
    rename: (state: StateDict) => StateDict,
    make: (config: { [key: string]: unknown }, path: ParameterPath, where: string) => Model,
  ) => {
    const network = loadPart(files, name, rename, make, options);
    loaded.push(network.parameters);
    return network;
  };
  try {
    const unet = load(
      'unet',
      (state) => state,
      (config, path, where) => new UNet2DConditionModel(config, path, { where }),
    );
    const vae = load('vae', renameOldAttention, (config, path, where) =>
      vaeClass === 'AutoencoderTiny'
        ? new AutoencoderTiny(config, path, where)
        : new AutoencoderKL(config, path, where),
    );
    const withPrefix = (state: StateDict) => withTowerPrefix(state, 'text_model');
    const text = load(
      'text_encoder',
      withPrefix,
      (config, path, where) => new CLIPTextModel(config, path, where),
    );
    const text2 =
      isXl &&
      load(
        'text_encoder_2',
        withPrefix,
        (config, path, where) => new CLIPTextModelWithProjection(config, path, where),
      );
    const pipeline: Pipeline = {
      unet: unet.model,
      vae: vae.model,
      textEncoder: text.model,
      tokenizer: files.tokenizer('tokenizer'),
      schedulerConfig,
      parameters: { unet: unet.parameters, vae: vae.parameters, textEncoder: text.parameters },
      defaults: readDefaults(files),
      location,
    };
    if (text2) {
      pipeline.textEncoder2 = text2.model;
      pipeline.tokenizer2 = files.tokenizer('tokenizer_2');
      pipeline.parameters.textEncoder2 = text2.parameters;
      pipeline.forceZerosForEmptyPrompt = index.force_zeros_for_empty_prompt !== false;
    }
    checkFit(folder, pipeline);
    return pipeline;
  } catch (error) {
    for (const parameters of loaded) parameters.free();
    throw error;
  }
}

/** @throws UserError when parts of different models lie in one folder */
function checkFit(folder: string, pipeline: Pipeline): void {
  const { unet, vae, textEncoder, textEncoder2 } = pipeline;
  const refuse = (what: string) => {
    throw new UserError(`${folder}: ${what} — the parts belong to different models. Restore the folder.`);
  };
  const { cross_attention_dim: dims = 1280, addition_embed_type: addition } = unet.config;
  const encoders = [
    { name: 'text encoder', config: textEncoder.config, tokenizer: pipeline.tokenizer },
    ...(textEncoder2 && pipeline.tokenizer2
      ? [{ name: 'second text encoder', config: textEncoder2.config, tokenizer: pipeline.tokenizer2 }]
      : []),
  ];
  const width = encoders.reduce((sum, { config }) => sum + (config.hidden_size ?? 512), 0);
  const other = [dims].flat().find((dim) => dim !== width);
  if (other !== undefined)
    refuse(
      `the U-Net reads text of width ${other}, the text encoder${textEncoder2 ? 's write' : ' writes'} ${width}`,
    );
  if ((addition === 'text_time') !== (textEncoder2 !== undefined))
    refuse(
      `the U-Net's addition_embed_type is ${shown(addition ?? null)}, and there is ${textEncoder2 ? 'a' : 'no'} second text encoder`,
    );
  if (textEncoder2) {
    const { projection_class_embeddings_input_dim: read, addition_time_embed_dim: size } = unet.config;
    const written = (textEncoder2.config.projection_dim ?? 512) + 6 * (size ?? 0);
    if (read !== written)
      refuse(`the U-Net reads ${read} numbers of prompt and sizes, of which there are ${written}`);
  }
  const phraseWidth = textEncoder.config.hidden_size ?? 512;
  if (unet.grounded && [dims].flat()[0] !== phraseWidth)
    refuse(
      `the position net reads phrases of width ${[dims].flat()[0]}, the text encoder writes ${phraseWidth}`,
    );
  if (unet.inChannels !== vae.latentChannels || unet.outChannels !== vae.latentChannels) {
    refuse(
      `the U-Net reads ${unet.inChannels} and writes ${unet.outChannels} channels, the autoencoder's latents have ${vae.latentChannels}`,
    );
  }
  for (const { name, config, tokenizer } of encoders) {
    const tokens = config.vocab_size ?? 49408;
    if (tokenizer.highestId >= tokens)
      refuse(`the tokenizer has ids up to ${tokenizer.highestId}, the ${name} knows ${tokens}`);
    const length = config.max_position_embeddings ?? 77;
    if (tokenizer.maxLength > length)
      refuse(`the tokenizer makes ${tokenizer.maxLength} tokens, the ${name} takes ${length}`);
  }
  const [first, second] = encoders.map(
    ({ tokenizer }) => `${tokenizer.maxLength} of ${tokenizer.highestId + 1} tokens`,
  );
  if (second !== undefined && first !== second)
    refuse(`the tokenizers make ${first} and ${second}, which stand side by side`);
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
  options: { dtype?: DType; device?: Device } = {},
): { model: Model; parameters: Parameters } {
  const configFile = join(folder, 'config.json');
  const weightsFile = findWeights(folder, file);
  return assembled(
    () => ({ config: readJson(configFile), where: configFile }),
    () => ({ state: rename(readSafetensors(weightsFile).tensors), where: weightsFile }),
    make,
    () => ({ dtype: 'float32', ...options }),
  );
}

function loadPart<Model>(
  files: ModelFiles,
  part: WeightsPart,
  rename: (state: StateDict) => StateDict,
  make: (config: { [key: string]: unknown }, path: ParameterPath, where: string) => Model,
  options: LoadOptions,
): { model: Model; parameters: Parameters } {
  const weights = () => {
    const { state, where } = files.weights(part);
    return { state: rename(state), where };
  };
  return assembled(
    () => files.config(part),
    weights,
    make,
    (config) => optionsOf(part, options, config),
  );
}

/** A network on the weights that it is given, all of which it must use. */
function assembled<Model>(
  configuration: () => { config: { [key: string]: unknown }; where: string },
  weights: () => { state: StateDict; where: string },
  make: (config: { [key: string]: unknown }, path: ParameterPath, where: string) => Model,
  options: (config: { [key: string]: unknown }) => { dtype: DType; device?: Device },
): { model: Model; parameters: Parameters } {
  return scope(() => {
    const { config, where: configFile } = configuration();
    const { state, where } = weights();
    const parameters = Parameters.from(state, { ...options(config), where });
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
 * The weights of U-Net and text encoders as they are stored, under the networks' names. The files are mapped, so only
 * what is looked at is read. In a `scope()`, or the caller's to free.
 */
export function storedWeights(location: string): {
  unet: StateDict;
  textEncoder: StateDict;
  textEncoder2?: StateDict;
} {
  const files = openModel(location);
  const text = (part: WeightsPart) => withTowerPrefix(files.weights(part).state, 'text_model');
  return {
    unet: files.weights('unet').state,
    textEncoder: text('text_encoder'),
    ...(files.index().text_encoder_2 !== undefined && { textEncoder2: text('text_encoder_2') }),
  };
}

/** Of each part's weights as they are stored. */
export function storedDtypes(location: string): PerPart<DType> & { unet: DType } {
  return scope(() => {
    const files = openModel(location);
    const parts = (Object.keys(partNames) as WeightsPart[]).filter(
      (part) => part !== 'text_encoder_2' || files.index().text_encoder_2 !== undefined,
    );
    const dtypes = parts.map((part) => {
      const weights = [...files.weights(part).state.values()];
      return [partNames[part], weights.find(({ dtype }) => isFloating(dtype))?.dtype ?? 'float32'] as const;
    });
    return Object.fromEntries(dtypes) as ReturnType<typeof storedDtypes>;
  });
}

/**
 * Writes a model folder that diffusers loads too.
 *
 * @param options `dtype` of the weight files, of all parts or of each; float16 halves them
 */
export function savePipeline(
  pipeline: Pipeline,
  folder: string,
  options: { dtype?: DType | PerPart<DType> } = {},
): void {
  const { unet, vae, textEncoder, tokenizer, schedulerConfig, parameters, defaults } = pipeline;
  const { textEncoder2, tokenizer2, forceZerosForEmptyPrompt = false } = pipeline;
  const vaeClass = vae instanceof AutoencoderTiny ? 'AutoencoderTiny' : 'AutoencoderKL';
  const scheduler = createScheduler(schedulerConfig);
  const schedulerClass = scheduler.constructor.name;
  const save = (name: keyof typeof partNames, file: string, config: object, weights: Parameters) => {
    const dtype = dtypeOf(partNames[name], options.dtype);
    saveNetwork(join(folder, name), file, config, weights, dtype && { dtype });
  };

  save('unet', NETWORK_FILE, { ...unet.config, _class_name: 'UNet2DConditionModel' }, parameters.unet);
  save('vae', NETWORK_FILE, { ...vae.config, _class_name: vaeClass }, parameters.vae);
  const saveText = (
    name: 'text_encoder' | 'text_encoder_2',
    className: string,
    config: object,
    weights: Parameters,
  ) => {
    // initializer_factor steers random weights only; transformers wants it as 1.0, which JavaScript writes as 1
    const { initializer_factor: _, ...textFields } = config as { initializer_factor?: unknown };
    const textConfig = {
      ...textFields,
      architectures: [className],
      dtype: 'float32', // else transformers 5 takes the file's, and a float16 encoder feeds a float32 U-Net
      model_type: 'clip_text_model',
    };
    save(name, TEXT_FILE, textConfig, weights);
  };
  saveText('text_encoder', 'CLIPTextModel', textEncoder.config, parameters.textEncoder);
  tokenizer.save(join(folder, 'tokenizer'));
  if (textEncoder2 && tokenizer2 && parameters.textEncoder2) {
    const className = 'CLIPTextModelWithProjection';
    saveText('text_encoder_2', className, textEncoder2.config, parameters.textEncoder2);
    tokenizer2.save(join(folder, 'tokenizer_2'));
  }
  writeJson(join(folder, 'scheduler', 'scheduler_config.json'), {
    ...scheduler.config,
    _class_name: schedulerClass,
  });
  if (Object.keys(defaults).length > 0) writeDefaults(folder, defaults);
  const parts = {
    scheduler: ['diffusers', schedulerClass],
    text_encoder: ['transformers', 'CLIPTextModel'],
    tokenizer: ['transformers', 'CLIPTokenizer'],
    unet: ['diffusers', 'UNet2DConditionModel'],
    vae: ['diffusers', vaeClass],
  };
  const index = textEncoder2
    ? {
        _class_name: 'StableDiffusionXLPipeline',
        feature_extractor: [null, null],
        force_zeros_for_empty_prompt: forceZerosForEmptyPrompt,
        image_encoder: [null, null],
        ...parts,
        text_encoder_2: ['transformers', 'CLIPTextModelWithProjection'],
        tokenizer_2: ['transformers', 'CLIPTokenizer'],
      }
    : {
        _class_name: unet.grounded ? 'StableDiffusionGLIGENPipeline' : 'StableDiffusionPipeline',
        feature_extractor: [null, null],
        requires_safety_checker: false,
        safety_checker: [null, null],
        ...parts,
      };
  writeJson(join(folder, 'model_index.json'), index);
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
      `${supported.join(', ')}. Use a model of the Stable Diffusion 1.x, 2.x or XL kind.`,
  );
}

const DEFAULTS_FILE = 'generation_config.json';

function readDefaults(files: ModelFiles): Pipeline['defaults'] {
  const { config, where } = files.generation() ?? {};
  if (config === undefined) return {};
  checkFields(where!, config, generationFields);
  const { num_inference_steps: steps, guidance_scale: guidanceScale } = config;
  return {
    ...(typeof steps === 'number' ? { steps } : {}),
    ...(typeof guidanceScale === 'number' ? { guidanceScale } : {}),
  };
}

function writeDefaults(folder: string, { steps, guidanceScale }: Pipeline['defaults']): void {
  writeJson(join(folder, DEFAULTS_FILE), { num_inference_steps: steps, guidance_scale: guidanceScale });
}
