// TexForce (Chen et al. 2024): DDPO on the text encoder, with one backward through it for all denoising steps.
import { encodePrompts, tinyPipeline } from '@rldf/models';
import { cat, grad, noGrad, noiseKey, normal, scope, setThreads, type Tensor, tensor } from '@rldf/torch';
import { expect, test } from 'vitest';
import { checkRecipe } from '../recipe/load.js';
import { networkGradient } from '../sampling/network-gradient.js';
import { guidedConditioning, meanLogProb, policyMoments, policyScheduler } from '../sampling/rollout.js';
import { importanceSamplingLoss } from './ddpo.js';
import { methodOf } from './index.js';
import { createTrainables } from './learner.js';
import { TextFeatures } from './texforce.js';

setThreads(1);

// B pictures · C, h, w latent
const prompts = ['a cat', 'a dog', 'a cat'];
const steps = 4;
const behaviours = prompts.map((_, i) => ({ seed: 1, path: [i], guidance: [1, 3, 3, 3] }));
const drawn = (name: string, step: number) =>
  normal(
    prompts.map((_, i) => noiseKey(i, name, step)),
    [4, 4, 4],
    { dtype: 'float64' },
  ); // [B, C, h, w]

test.each([
  ['text encoder', { unet: 'none', textEncoder: 'lora' }],
  ['both networks', { unet: 'lora', textEncoder: 'lora' }],
] as const)(
  'one backward of the text encoder is the gradient of every step, to 1e-6 in float64: %s',
  (_, trained) => {
    const pipeline = tinyPipeline(1, 'float64');
    const trainables = createTrainables(pipeline, { ...trained, rank: 2, seed: 0 });
    const { textEncoder, unet } = trainables;
    noGrad(() => {
      for (const [i, parameter] of [...textEncoder, ...unet].entries())
        scope(() => {
          const values = normal([noiseKey(i, 'weights')], parameter.shape, { dtype: 'float64' });
          parameter.copy_(values.squeeze(0).mul(0.2));
        });
    });
    const scheduler = policyScheduler(pipeline, steps, 1);
    const old = tensor([-1, -2, -3], { dtype: 'float64' });
    const advantage = tensor([1, -0.5, 2], { dtype: 'float64' });
    const loss = (step: number, conditioning: { hiddenStates: Tensor }) => {
      const now = drawn('now', step);
      const { mean, std } = policyMoments(pipeline, scheduler, now, step, conditioning, behaviours, 1);
      const logProb = meanLogProb(mean.detach().add(drawn('next', step).mul(std)), mean, std); // [B]
      return importanceSamplingLoss(logProb, logProb.detach().add(old.mul(1e-3)), advantage, 1).sum();
    };

    const perStep = Array.from({ length: steps }, (_, step) =>
      grad(
        loss(step, guidedConditioning(encodePrompts(pipeline, ['']), encodePrompts(pipeline, prompts))),
        textEncoder,
      ),
    );
    const expected = textEncoder.map((_, i) =>
      perStep.map((gradients) => gradients[i] as Tensor).reduce((sum, more) => sum.add(more)),
    );

    const text = new TextFeatures(pipeline, ['', ...prompts], {
      parameters: textEncoder,
      network: networkGradient(unet),
    });
    for (let step = 0; step < steps; step++)
      text.gather(networkGradient(unet).grad(loss(step, text.guided('', prompts)), text.leaves).inputs);
    const found = text.backward().text;
    expect(found).toHaveLength(expected.length);
    const flat = (list: readonly Tensor[]) => cat(list.map((gradient) => gradient.flatten(0)));
    const scale = flat(expected).abs().amax().item();
    expect(scale).toBeGreaterThan(1e-6);
    expect(flat(found).sub(flat(expected)).abs().amax().item() / scale).toBeLessThan(1e-6);
    text.free();
  },
);

test('a TexForce recipe changes the text encoder’s adapter only, and the pictures with it', async () => {
  const recipe = checkRecipe({
    method: 'ddpo',
    prompts: ['a cat', 'a dog'],
    reward: 'jpeg-compressibility',
    epochs: 1,
    sample: { steps: 3, promptsPerEpoch: 2, picturesPerPrompt: 2, batchSize: 4 },
    train: { unet: 'none', textEncoder: 'lora', rank: 2, clipNats: 5, updatesPerEpoch: 1, learningRate: 0.1 },
  });
  const training = methodOf(recipe).create(recipe, tinyPipeline(1), {
    prompts: ['a cat', 'a dog'].map((text) => ({ text, meta: null })),
    score: async () => ({ total: [0, 1, 2, 3], parts: {} }),
  });
  const draw = async () => {
    const images = await training.draw([{ prompt: 'a cat', seed: 0 }]);
    return images.toNumbers();
  };
  const before = await draw();
  for await (const event of training.run(0)) void event;
  const { trainables } = training.state() as { trainables: { unet: Tensor[]; textEncoder: Tensor[] } };
  expect(trainables.unet).toEqual([]);
  expect(trainables.textEncoder.length).toBeGreaterThan(0);
  expect(await draw()).not.toEqual(before);
  training.free();
});
