import { expect, test } from 'vitest';
import { checkRecipe } from '../recipe/load.js';
import { describeSeam } from './seam.js';

const recipe = (epochs: number, schedule: string) =>
  checkRecipe({
    method: 'ddpo',
    prompts: ['a cat', 'a dog'],
    reward: 'jpeg-compressibility',
    epochs,
    sample: { steps: 4, promptsPerEpoch: 2, picturesPerPrompt: 2 },
    train: { clipNats: 1, learningRate: 1e-3, updatesPerEpoch: 2, schedule },
  });

test('a schedule over another length jumps where the run goes on, and that is said with both rates', () => {
  // behind 3 of 4 epochs, 2 updates each: cosine of 6/8 and of 6/16
  const expected = [6 / 8, 6 / 16].map((share) => 1e-3 * 0.5 * (1 + Math.cos(Math.PI * share)));
  const [was, is] = expected.map((rate) => String(Number(rate.toPrecision(3))));
  const text = describeSeam(recipe(4, 'cosine'), recipe(8, 'cosine'), 3);
  expect(text).toContain(`(cosine) now spans 8 epochs instead of 4: the learning rate goes on at ${is}`);
  expect(text).toContain(`had come to ${was}`);
  expect(describeSeam(recipe(4, 'linear'), recipe(8, 'linear'), 3)).toContain('goes on at 0.000625');
});

test('nothing jumps with a constant rate, or with the same length', () => {
  expect(describeSeam(recipe(4, 'constant'), recipe(8, 'constant'), 3)).toBeUndefined();
  expect(describeSeam(recipe(4, 'cosine'), recipe(4, 'cosine'), 3)).toBeUndefined();
});
