import { encodePrompts, tinyPipeline } from '@rldf/models';
import { grad, noGrad, setThreads, type Tensor } from '@rldf/torch';
import { expect, test } from 'vitest';
import { encodeWeighted, tokenFactors } from './diffexp.js';
import { TextFeatures } from './texforce.js';

setThreads(1);
const pipeline = tinyPipeline(2);
const length = 12;
const width = 16;

test('a word’s weight is that of all its tokens; start, end and padding keep 1', () => {
  // "bird" is four letters of this vocabulary, "cat" one token
  const factors = tokenFactors(pipeline.tokenizer, {
    prompt: 'a bird cat',
    wordWeights: [{ word: 1, weight: 1.5 }],
  });
  expect(factors).toEqual([1, 1, 1.5, 1.5, 1.5, 1.5, 1, 1, 1, 1, 1, 1]);
  expect(tokenFactors(pipeline.tokenizer, { prompt: 'a cat' })).toEqual(Array(length).fill(1));
});

test('z′ = z∅ + a (z − z∅) at the word’s tokens, z to the bit elsewhere', () => {
  const [weighted = [], z = [], empty = []] = noGrad(() => [
    encodeWeighted(pipeline, [
      { prompt: 'a bird', wordWeights: [{ word: 1, weight: 1.7 }] },
    ]).hiddenStates.toNumbers(),
    encodePrompts(pipeline, ['a bird', '']).hiddenStates.narrow(0, 0, 1).toNumbers(),
    encodePrompts(pipeline, ['a bird', '']).hiddenStates.narrow(0, 1, 1).toNumbers(),
  ]);
  for (let token = 0; token < length; token++) {
    for (let i = token * width; i < (token + 1) * width; i++) {
      const [a, b, c] = [weighted[i], z[i], empty[i]] as [number, number, number];
      if (token < 2 || token > 5) expect(a).toBe(b);
      else expect(a).toBeCloseTo(c + 1.7 * (b - c), 5);
    }
  }
});

test('prompts of other weights are other texts; the gradient of a weighted one reaches the encoder once', () => {
  const own = tinyPipeline(2);
  const parameters = own.parameters.textEncoder.trainable();
  const heavy = { prompt: 'a cat', wordWeights: [{ word: 1, weight: 2 }] };
  const direct = grad(encodeWeighted(own, [heavy]).hiddenStates.square().sum(), parameters);
  const text = new TextFeatures(own, ['', 'a cat', heavy], { parameters, prepare: false });
  const { hiddenStates } = text.of([heavy]);
  text.gather(grad(hiddenStates.square().sum(), [...text.leaves]));
  const gradients = text.backward().text as Tensor[];
  const numbers = (list: readonly Tensor[]) => list.flatMap((gradient) => gradient.toNumbers());
  const expected = numbers(direct);
  const scale = Math.max(...expected.map(Math.abs));
  numbers(gradients).forEach((value, i) => {
    expect(Math.abs(value - (expected[i] as number)) / scale).toBeLessThan(1e-5);
  });
  text.free();
});
