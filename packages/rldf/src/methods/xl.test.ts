// Stable Diffusion XL's kind: two text encoders of which either learns, both weighted, and zeros in the place of no prompt.
import { encodePrompts, LORA_PARTS, LoraAdapter, type Pipeline, tinyXlPipeline } from '@rldf/models';
import { cat, grad, noGrad, noiseKey, normal, scope, setThreads, type Tensor, tensor } from '@rldf/torch';
import { expect, test } from 'vitest';
import { checkRecipe } from '../recipe/load.js';
import type { TrainingContext } from '../run/training.js';
import { settle } from '../sampling/model-settings.js';
import { networkGradient } from '../sampling/network-gradient.js';
import { encodeWeighted } from './diffexp.js';
import { methodOf } from './index.js';
import { minimalRecipe, prompts } from './minimal-recipes.fixture.js';
import { TextFeatures } from './texforce.js';

setThreads(1);

const brightness = (images: Tensor) =>
  noGrad(() => scope(() => images.to('float32').mean([1, 2, 3]).div(255).toNumbers()));
const context: TrainingContext = {
  prompts: prompts.map((text) => ({ text, meta: null })),
  score: async (images) => ({ total: brightness(images), parts: {} }),
  differentiable: (images01) => images01.mean([1, 2, 3]),
};

/** What of each network's adapter or weights moved in one epoch. */
async function moved(method: string, train: object): Promise<string[]> {
  const small = minimalRecipe(method);
  const recipe = checkRecipe({ ...small, epochs: 1, train: { ...small.train, ...train } });
  const training = methodOf(recipe).create(recipe, tinyXlPipeline(1), context);
  const numbers = () => {
    const { trainables } = training.state() as { trainables: Record<string, Tensor[]> };
    return LORA_PARTS.map((part) => (trainables[part] ?? []).flatMap((tensor) => tensor.toNumbers()).join());
  };
  const before = numbers();
  for await (const _ of training.run(0)); // to the end
  const after = numbers();
  training.free();
  return LORA_PARTS.filter((_, i) => before[i] !== after[i]);
}

test.each([
  ['ddpo', { unet: 'none', textEncoder: 'lora' }, ['textEncoder']],
  ['ddpo', { unet: 'none', textEncoder: 'none', textEncoder2: 'lora' }, ['textEncoder2']],
  [
    'ddpo',
    { unet: 'lora', textEncoder: 'full', textEncoder2: 'full' },
    ['unet', 'textEncoder', 'textEncoder2'],
  ],
  ['alignprop', { unet: 'none', textEncoder: 'none', textEncoder2: 'lora' }, ['textEncoder2']],
  ['rwr', { unet: 'none', textEncoder: 'lora', textEncoder2: 'lora' }, ['textEncoder', 'textEncoder2']],
])('%s with %j trains these: %j', async (method, train, expected) => {
  expect(await moved(method, train)).toEqual(expected);
});

test('a second text encoder is refused on models that have one, and sizes on those that are told none', () => {
  const { textEncoder2: _, ...plain } = tinyXlPipeline();
  expect(() => settle(plain, { train: { textEncoder2: 'lora' } })).toThrow(
    /train.textEncoder2: lora — this model has one text encoder/,
  );
  expect(() => settle(plain, { train: {}, microConditioning: {} })).toThrow(/this model is told no sizes/);
  expect(() => settle(tinyXlPipeline(), { train: {}, size: [8, 7] })).toThrow(
    /size: width is 7 — must be a positive multiple of 2/,
  );
});

/** All that learns: LoRA that is not zero on the U-Net, the sizes' embedding among it, and both text encoders whole. */
function learningPipeline() {
  const pipeline = tinyXlPipeline(4);
  const targets = ['to_q', 'to_k', 'to_v', 'linear_1', 'linear_2'];
  const adapter = LoraAdapter.attach(pipeline.parameters.unet, { rank: 2, targets, seed: 1 });
  const unet = adapter.trainable();
  noGrad(() => {
    for (const [i, parameter] of unet.entries())
      scope(() =>
        parameter.copy_(
          normal([noiseKey(i, 'weights')], parameter.shape)
            .squeeze(0)
            .mul(0.2),
        ),
      );
  });
  const { textEncoder, textEncoder2 } = pipeline.parameters;
  // neither the last layer nor the final norm of the first encoder is read
  const unread = /layers\.1\.|final_layer_norm/;
  const first = [...textEncoder.entries].filter(([path]) => !unread.test(path)).map(([, one]) => one);
  for (const parameters of [textEncoder, textEncoder2!]) parameters.trainable();
  const text = [...first, ...textEncoder2!.entries.values()];
  const ends = [unet.length, unet.length + first.length, unet.length + text.length];
  return { pipeline, adapter, unet, text, parts: ends.map((end, i) => [ends[i - 1] ?? 0, end] as const) };
}

test.each([
  ['merged adapter', true],
  ['adapter in the graph', false],
])('texts computed once give the gradient through every step, of both encoders: %s', (_, merge) => {
  const { pipeline, adapter, unet, text: parameters, parts } = learningPipeline();
  const latents = normal(
    prompts.map((_, i) => noiseKey(i, 'latents')),
    [4, 4, 6],
  ); // [B, C, h, w]
  const timesteps = [900, 20];
  const loss = (conditioning: ReturnType<TextFeatures['of']>, timestep: number) => {
    const both = tensor(Array(2 * prompts.length).fill(timestep), { dtype: 'int64' });
    return pipeline.unet
      .forward(cat([latents, latents]), both, conditioning)
      .square()
      .sum();
  };
  const expected = timesteps
    .map((timestep) =>
      grad(loss(encodePrompts(pipeline, [null, null, null, ...prompts]), timestep), [...unet, ...parameters]),
    )
    .reduce((sum, more) => sum.map((gradient, i) => gradient.add(more[i] as Tensor)));

  if (merge) adapter.merge();
  const made = () => networkGradient(unet, merge ? adapter : undefined);
  const network = made();
  const text = new TextFeatures(pipeline, [null, ...prompts], { parameters, network: made() });
  const sums: (Tensor | undefined)[] = unet.map(() => undefined);
  const add = (more: readonly (Tensor | undefined)[]) => {
    for (const [i, gradient] of more.entries()) if (gradient) sums[i] = sums[i]?.add(gradient) ?? gradient;
  };
  for (const timestep of timesteps) {
    const one = network.record(() => loss(text.guided(null, prompts), timestep));
    const { parameters: found, inputs } = network.grad(one, text.leaves);
    network.clear();
    add(found);
    text.gather(inputs);
  }
  const behind = text.backward();
  add(behind.network);
  const found = [...sums, ...behind.text];
  for (const [start, end] of parts) {
    const numbers = (list: readonly (Tensor | undefined)[]) =>
      list.slice(start, end).flatMap((tensor) => tensor?.toNumbers() ?? []);
    const wanted = numbers(expected);
    const scale = Math.max(...wanted.map(Math.abs));
    expect(scale).toBeGreaterThan(0);
    const worst = Math.max(...numbers(found).map((value, i) => Math.abs(value - (wanted[i] as number))));
    expect(worst / scale).toBeLessThan(1e-5);
  }
  text.free();
  network.free();
});

test('explore weights a word in the features of both encoders; the summary stays', () => {
  const pipeline = tinyXlPipeline(2);
  const numbers = (tensor: Tensor, row: number) => tensor.select(0, row).toNumbers(); // [L * 28]
  noGrad(() => {
    const weighted = encodeWeighted(pipeline, [
      { prompt: 'a bird', wordWeights: [{ word: 1, weight: 1.7 }] },
    ]);
    const plain = encodePrompts(pipeline, ['a bird', '']);
    const [z, empty, found] = [
      numbers(plain.hiddenStates, 0),
      numbers(plain.hiddenStates, 1), // the encoded empty prompt, not the zeros of none
      numbers(weighted.hiddenStates, 0),
    ];
    expect(empty.every((value) => value !== 0)).toBe(true);
    const width = 16 + 12; // of the two encoders
    for (const [i, value] of found.entries()) {
      const token = Math.floor(i / width);
      const [a, b] = [z[i] as number, empty[i] as number];
      if (token < 2 || token > 5) expect(value).toBe(a);
      else expect(value).toBeCloseTo(b + 1.7 * (a - b), 5);
    }
    expect(weighted.pooled!.toNumbers()).toEqual(numbers(plain.pooled!, 0));
    expect(weighted.timeIds!.toNumbers()).toEqual([8, 8, 0, 0, 8, 8]);
  });
});

test('no negative prompt and dropped captions are zeros; the empty prompt is not', () => {
  const told = (pipeline: Pipeline) =>
    noGrad(() => {
      const { hiddenStates, pooled } = new TextFeatures(pipeline, [null, '', 'a cat'], { prepare: false }).of(
        [null, ''],
      );
      return [hiddenStates, pooled!].map((tensor) =>
        [0, 1].map((row) => tensor.select(0, row).abs().amax().item()),
      );
    });
  for (const [none, empty] of told(tinyXlPipeline())) {
    expect(none).toBe(0);
    expect(empty).toBeGreaterThan(0.1);
  }
  for (const [none, empty] of told({ ...tinyXlPipeline(), forceZerosForEmptyPrompt: false }))
    expect(none).toBe(empty);
});
