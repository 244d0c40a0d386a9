// What cannot be trained is refused before anything loads: here the model has no autoencoder, and reward modules fail when read.
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { baseFingerprint, baseKey } from '@rldf/common/instruments/adapter-base';
import { LoraAdapter, saveLora, tinyPipeline } from '@rldf/models';
import { afterAll, expect, test } from 'vitest';
import { rldf } from '../cli/command-line.fixture.js';
import { evaluate } from '../eval/evaluate.js';
import { methods } from '../methods/index.js';
import type { Method } from '../methods/method.js';
import { prompts } from '../methods/minimal-recipes.fixture.js';
import { train } from '../train/from-recipe.js';
import { drain, saveTinyModel } from '../train/tiny-run.fixture.js';

const folder = mkdtempSync(join(tmpdir(), 'rldf-bad-input-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));
const model = saveTinyModel(join(folder, 'model'));
rmSync(join(model, 'vae'), { recursive: true });
const root = join(folder, 'runs');
const unread = { module: join(folder, 'unread.mjs') };
writeFileSync(unread.module, 'throw new Error("the reward was read")');
const withoutGradient = { module: join(folder, 'plain.mjs') };
writeFileSync(withoutGradient.module, 'export const reward = ({ images }) => images.map(() => 0)');

const refused = (recipe: object) =>
  drain(train({ model, prompts, reward: unread, ...recipe }, { name: 'run', root })).then(
    () => 'not refused',
    (error: Error) => error.message,
  );

const those = (which: (method: Method<never>) => boolean) =>
  Object.entries(methods).flatMap(([name, method]) => (which(method as never) ? [name] : []));
const gradientMethods = those(({ followsReward }) => followsReward === true);
const explorers = those(({ schema }) => 'explore' in schema.shape);
const sampling = { steps: 3, promptsPerEpoch: 2, picturesPerPrompt: 2 };

test.each(gradientMethods)('%s: a reward without a gradient', async (method) => {
  expect(gradientMethods).toEqual(['alignprop', 'draft-k', 'draft-lv', 'refl']);
  for (const reward of ['spatial', [{ reward: 'aesthetic' }, { reward: 'count' }]]) {
    expect(await refused({ method, reward })).toMatch(
      /reward.*follows the reward’s gradient, and (spatial|count) has none — set reward to one of .*aesthetic/s,
    );
  }
  expect(await refused({ method, reward: withoutGradient })).toMatch(
    /plain\.mjs has none — set reward to one of/,
  );
});

test('exploration on an offline method', async () => {
  expect(those(({ schema }) => !('explore' in schema.shape))).toEqual(['ip-rldf']);
  expect(await refused({ method: 'ip-rldf', detector: 'detector', explore: { words: {} } })).toMatch(
    /explore: ip-rldf is an offline method: .* Remove explore, or set method to one of ddpo, /,
  );
});

test.each(explorers)('%s: eta 0, if it follows the probability of what is drawn', async (method) => {
  const message = await refused({ method, sample: { ...sampling, eta: 0 } });
  const deterministic = /sample\.eta: must be above 0: at eta 0 DDIM is deterministic, .* Use 1 \(paper\)/;
  if (gradientMethods.includes(method)) expect(message).not.toMatch(deterministic);
  else expect(message).toMatch(deterministic);
});

test.each([
  ['no detector', {}, /detector: missing, with relabel: true and rescale: 0\.5 .* Set detector: detector/],
  ['a judge as detector', { detector: 'judge-detector' }, /is a judge.* Set detector: detector/],
  ['too few prompts', { detector: 'detector' }, /prompts has 3 prompts, 100 are needed .* Lower it/],
  [
    'prompts that boxes do not tell',
    { detector: 'detector', prompts: ['a cat', 'a cat riding a bike'] },
    /"a cat riding a bike" asks for more than boxes tell .* Choose other prompts/,
  ],
  [
    'base prompts that boxes do not tell',
    { detector: 'detector', base: { prompts: ['a cat', 'peace'], ratio: 1 } },
    /"peace" is no sentence of the built-in world .* Choose other prompts/,
  ],
  [
    'a relation that the grammar lacks',
    { detector: 'detector', grammar: 'counts', prompts: ['a cat above a dog', 'a cat'] },
    /asks for a relation \(above\) that the grammar does not tell .* Set grammar: spatial/,
  ],
])('ip-rldf: %s', async (what, more, message) => {
  const few = { sample: { ...sampling, promptsPerEpoch: what === 'too few prompts' ? 100 : 2 } };
  expect(await refused({ method: 'ip-rldf', train: { updatesPerEpoch: 1 }, ...few, ...more })).toMatch(
    message,
  );
});

test('an adapter that was made on another base model, by its hash', async () => {
  const other = tinyPipeline(7);
  const adapter = LoraAdapter.attach(other.parameters.unet, { rank: 1, targets: ['to_q'], seed: 1 });
  const file = join(folder, 'other.safetensors');
  saveLora(file, { unet: adapter }, { metadata: { [baseKey]: baseFingerprint(other) } });
  const message =
    /other\.safetensors: made on another base model .* Give the model it was trained on as --model/;
  const output = join(folder, 'pictures');
  const drawn = await rldf('generate', 'a cat', '--model', model, '--adapter', file, '--output', output);
  expect([drawn.code, drawn.err]).toEqual([2, expect.stringMatching(message)]);
  expect(existsSync(output)).toBe(false);
  const arm = { model, adapters: [{ path: file, strength: 1 }] };
  await expect(evaluate({ suites: ['single'], arms: [arm] })).rejects.toThrow(message);
  const words = ['fuse', file, '--output', output, '--grid', folder, '--model', model];
  expect((await rldf(...words)).err).toMatch(message); // before that it adapts one network only
});

test('nothing of all that made a run', () => {
  expect(existsSync(root)).toBe(false);
});
