import { grad, type Parameters, type Tensor } from '@rldf/torch';
import { AutoencoderKL } from '../src/autoencoder-kl.js';
import { AutoencoderTiny } from '../src/autoencoder-tiny.js';
import { CLIPModel } from '../src/clip.js';
import { CLIPTextModel, CLIPTextModelWithProjection } from '../src/clip-text.js';
import { CLIPVisionModelWithProjection } from '../src/clip-vision.js';
import { ResNet18, type ResNet18Options } from '../src/resnet-18.js';
import { UNet2DConditionModel } from '../src/unet.js';
import { build, Golden, type Output } from './golden.js';
import { trace } from './trace.js';

type Outputs = { [name: string]: Output };
type Config = { [key: string]: unknown };

/** Gradients of sum(output * cotangent) for every tensor the golden has one for. */
function gradients(
  golden: Golden,
  output: Tensor,
  parameters: Parameters,
  inputs: { [name: string]: Tensor },
): Outputs {
  const names = [...golden.group('gradients.').keys()];
  const targets = names.map((name) => inputs[name] ?? parameters.entries.get(name)!);
  const found = grad(output, targets, { gradOutputs: [golden.input('cotangent')] });
  return Object.fromEntries(names.map((name, i) => [`gradients.${name}`, found[i]!]));
}

const states = (hidden: readonly Tensor[] | undefined): Outputs =>
  Object.fromEntries((hidden ?? []).map((state, i) => [`blocks.hidden_states.${i}`, state]));

export function clipText(golden: Golden): Outputs {
  const config = golden.json.config as Config;
  const ids = golden.input('input_ids');
  const options = { hiddenStates: true } as const;
  if (golden.json.class === 'CLIPTextModelWithProjection') {
    const { model, parameters } = build(golden, (path) => new CLIPTextModelWithProjection(config, path));
    const output = model.forward(ids, options);
    return {
      ...textOutputs(golden, output, parameters),
      'outputs.penultimate_normed': model.forward(ids, { clipSkip: 1 }).lastHiddenState,
      'outputs.text_embeds': output.textEmbeds,
    };
  }
  const { model, parameters } = build(golden, (path) => new CLIPTextModel(config, path));
  return {
    ...textOutputs(golden, model.forward(ids, options), parameters),
    'outputs.penultimate_normed': model.forward(ids, { clipSkip: 1 }).lastHiddenState,
  };
}

function textOutputs(
  golden: Golden,
  output: { lastHiddenState: Tensor; pooled: Tensor; hiddenStates?: Tensor[] },
  parameters: Parameters,
): Outputs {
  return {
    'outputs.last_hidden_state': output.lastHiddenState,
    'outputs.pooled': output.pooled,
    ...states(output.hiddenStates),
    ...gradients(golden, output.lastHiddenState, parameters, {}),
  };
}

export function clipVision(golden: Golden): Outputs {
  const { model, parameters } = build(
    golden,
    (path) => new CLIPVisionModelWithProjection(golden.json.config as Config, path),
  );
  const pixels = golden.input('pixel_values').requiresGrad_();
  const output = model.forward(pixels, { hiddenStates: true });
  return {
    'outputs.image_embeds': output.imageEmbeds,
    'outputs.last_hidden_state': output.lastHiddenState,
    'outputs.pooled': output.pooled,
    ...states(output.hiddenStates),
    ...gradients(golden, output.imageEmbeds, parameters, { pixel_values: pixels }),
  };
}

export function clip(golden: Golden): Outputs {
  const config = golden.json.config as ConstructorParameters<typeof CLIPModel>[0];
  const { model, parameters } = build(golden, (path) => new CLIPModel(config, path));
  const pixels = golden.input('pixel_values').requiresGrad_();
  const output = model.forward(golden.input('input_ids'), pixels);
  return {
    'outputs.logits_per_image': output.logitsPerImage,
    'outputs.logits_per_text': output.logitsPerImage.transpose(0, 1),
    'outputs.image_embeds': output.imageEmbeds,
    'outputs.text_embeds': output.textEmbeds,
    ...gradients(golden, output.logitsPerImage, parameters, { pixel_values: pixels }),
  };
}

export function unet(golden: Golden): Outputs {
  const weights =
    golden.json.weightsOf === golden.name ? golden : new Golden(golden.json.weightsOf as string);
  const { model, parameters } = build(
    weights,
    (path) => new UNet2DConditionModel(golden.json.config as Config, path),
  );
  const latents = golden.input('latents').requiresGrad_();
  const hiddenStates = golden.input('hidden_states').requiresGrad_();
  const isXl = (golden.json.config as Config).addition_embed_type === 'text_time';
  const pooled = isXl ? golden.input('pooled').requiresGrad_() : undefined;
  const sizes = pooled && { pooled, timeIds: golden.input('time_ids') };
  const isGrounded = golden.group('inputs.').has('boxes');
  const phrases = isGrounded ? golden.input('phrases').requiresGrad_() : undefined;
  const grounding = phrases && {
    grounding: { phrases, boxes: golden.input('boxes'), masks: golden.input('masks') },
  };
  const { result, blocks } = trace(golden.json.order as { [kind: string]: string[] }, () =>
    model.forward(latents, golden.input('timesteps'), { hiddenStates, ...sizes, ...grounding }),
  );
  const hasGradients = golden.group('gradients.').size > 0;
  return {
    'outputs.sample': result,
    ...blocks,
    ...(hasGradients
      ? gradients(golden, result, parameters, {
          latents,
          hidden_states: hiddenStates,
          ...(pooled && { pooled }),
          ...(phrases && { phrases }),
        })
      : {}),
  };
}

export function autoencoderKL(golden: Golden): Outputs {
  const { model, parameters } = build(
    golden,
    (path) => new AutoencoderKL(golden.json.config as Config, path),
  );
  const latents = golden.input('latents').requiresGrad_();
  const { result, blocks } = trace(golden.json.order as { [kind: string]: string[] }, () => ({
    encoded: model.encode(golden.input('images')),
    decoded: model.decode(latents),
  }));
  const { encoded, decoded } = result;
  return {
    'outputs.mean': encoded.mean,
    'outputs.logvar': encoded.logvar,
    'outputs.decoded': decoded,
    ...blocks,
    ...gradients(golden, decoded, parameters, { latents }),
  };
}

export function autoencoderTiny(golden: Golden): Outputs {
  const { model, parameters } = build(
    golden,
    (path) => new AutoencoderTiny(golden.json.config as Config, path),
  );
  const latents = golden.input('latents').requiresGrad_();
  const decoded = model.decode(latents);
  return {
    'outputs.latents': model.encode(golden.input('images')),
    'outputs.decoded': decoded,
    ...gradients(golden, decoded, parameters, { latents }),
  };
}

/** Evaluation, then one training forward: its logits, the running statistics that it leaves, and gradients. */
export function resnet18(golden: Golden): Outputs {
  const { model, parameters } = build(
    golden,
    (path) => new ResNet18(path, golden.json.config as ResNet18Options),
  );
  const images = golden.input('images').to('float32');
  const logits = model.forward(images, { training: false });
  const training = model.forward(images, { training: true });
  const names = [...golden.group('outputs.after.').keys()];
  return {
    'outputs.logits': logits,
    'outputs.training': training,
    ...Object.fromEntries(names.map((name) => [`outputs.after.${name}`, parameters.entries.get(name)!])),
    ...gradients(golden, training, parameters, {}),
  };
}
