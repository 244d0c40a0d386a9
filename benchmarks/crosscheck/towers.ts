// Tokenizer, text towers and vision tower beside those of transformers.
import { join } from 'node:path';
import { type CLIPConfig, CLIPModel, loadPipeline, readJson } from '@rldf/models';
import {
  noGrad,
  noiseKey,
  normal,
  Parameters,
  readSafetensors,
  scope,
  type Tensor,
  tensor,
} from '@rldf/torch';
import { relativeDifference } from '../shared/differences.js';
import { ask, type Check, type Context, same, writeTensors } from './checks.js';
import { hardPrompts } from './prompts.js';

const pictures = 64;
const limit = 1e-5;

export async function towerChecks(context: Context): Promise<Check[]> {
  const { model, folder } = context;
  const prompts = hardPrompts(500);
  const pipeline = loadPipeline(model);
  const clip = join(model, 'clip');
  const config = readJson(join(clip, 'config.json')) as unknown as CLIPConfig;
  const { tensors } = readSafetensors(join(clip, 'model.safetensors'));
  const towers = new CLIPModel(config, Parameters.from(tensors, { dtype: 'float32' }).at());

  const { ids } = pipeline.tokenizer.encode(prompts);
  if (context.planted.has('token')) ids[100]![1] = (ids[100]![1]! + 1) % 900;
  const answer = await ask(context, { ask: 'tokenize', tokenizer: join(model, 'tokenizer'), prompts });
  const theirIds = answer.ids as number[][];
  const different = prompts.filter((_, i) => `${ids[i]}` !== `${theirIds[i]}`);
  const note = different.length === 0 ? undefined : different.slice(0, 5).map((text) => JSON.stringify(text)).join(' '); // biome-ignore format: one thought
  const checks = [same(`tokenizer: ${prompts.length} prompts`, different.length, 0, 'prompts differ', note)];

  const compare = async (
    name: string,
    input: Tensor,
    key: string,
    ours: () => { hidden: Tensor; embeds: Tensor },
  ) => {
    const [question, output] = [writeTensors(context, `${name}.safetensors`, new Map([[key, input]])), join(folder, `${name}-theirs.safetensors`)]; // biome-ignore format: one thought
    await ask(context, { ask: name, model, clip, input: question, output });
    const theirs = readSafetensors(output).tensors;
    const found = noGrad(() => scope(ours));
    for (const part of ['hidden', 'embeds'] as const) {
      const numbers = (values: Tensor) => values.toArray() as Float32Array;
      const error = relativeDifference(numbers(found[part]), numbers(theirs.get(part)!));
      checks.push(
        same(
          `${name} tower, ${part === 'hidden' ? 'hidden states' : 'embeddings'}`,
          error,
          limit,
          'of the largest',
        ),
      );
    }
  };
  const idTensor = tensor(theirIds, { dtype: 'int64' }); // [500, 32]
  await compare('text', idTensor, 'ids', () => ({
    hidden: pipeline.textEncoder.forward(idTensor).lastHiddenState,
    embeds: towers.encodeText(idTensor),
  }));
  const { image_size: size = 224 } = config.vision_config;
  const keys = Array.from({ length: pictures }, (_, i) => noiseKey(0, 'crosscheck pictures', i));
  const pixels = scope(() => normal(keys, [3, size, size]).mul(0.5).clamp(-1, 1)); // [64, 3, S, S]
  await compare('vision', pixels, 'pixels', () => ({
    hidden: towers.vision.forward(pixels).lastHiddenState,
    embeds: towers.encodeImage(pixels),
  }));
  return checks;
}
