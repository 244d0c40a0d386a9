// A process with `RLDF_TORCH=shapes`: names and shapes of all tensors of the models that ship as configurations, as JSON.
import { createHash } from 'node:crypto';
import {
  AutoencoderKL,
  CLIPTextModel,
  CLIPTextModelWithProjection,
  UNet2DConditionModel,
} from '@rldf/models';
import { type ParameterPath, Parameters } from '@rldf/torch';
import { configNames, findConfigs, type ModelConfigs } from './model-configs.js';

/** As packages/models/parity/reference/real_models.py sums them up. */
function summary(build: (path: ParameterPath) => void) {
  const parameters = Parameters.random(0);
  build(parameters.at());
  const lines = [...parameters.entries].map(([name, { shape }]) => `${name} ${shape}`).sort();
  const sha256 = createHash('sha256').update(lines.join('\n')).digest('hex');
  const found = { tensors: lines.length, parameters: parameters.count, sha256 };
  parameters.free();
  return found;
}

const models = configNames().map((name) => {
  const { unet, vae, text_encoder: text, text_encoder_2: text2 } = findConfigs(name) as ModelConfigs;
  const networks = {
    unet: summary((path) => new UNet2DConditionModel(unet, path)),
    vae: summary((path) => new AutoencoderKL(vae, path)),
    text_encoder: summary((path) => new CLIPTextModel(text, path)),
    ...(text2 && { text_encoder_2: summary((path) => new CLIPTextModelWithProjection(text2, path)) }),
  };
  return [name, networks] as const;
});
process.stdout.write(JSON.stringify(Object.fromEntries(models)));
