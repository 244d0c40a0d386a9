// GLIGEN's kind of model: boxes in IP-RLDF, gated layers that learn, and the steps without them in what a picture is replayed by.
import { type Detection, type Detector, tinyGligenPipeline, tinyPipeline } from '@rldf/models';
import {
  free,
  keep,
  noGrad,
  noiseKey,
  normal,
  type StateTree,
  scope,
  setThreads,
  Tensor,
  tensor,
} from '@rldf/torch';
import { expect, test } from 'vitest';
import { checkRecipe } from '../recipe/load.js';
import type { Training, TrainingContext } from '../run/training.js';
import { settle } from '../sampling/model-settings.js';
import { networkGradient } from '../sampling/network-gradient.js';
import { meanLogProb, policyMoments, policyScheduler } from '../sampling/rollout.js';
import { picturesOfEpoch, textOf } from './diffexp.js';
import { methodOf } from './index.js';
import { createIpRldf } from './ip-rldf.js';
import type { IpRldfRecipe } from './ip-rldf-schema.js';
import { createTrainables, rolloutBatches } from './learner.js';
import { minimalRecipe, prompts } from './minimal-recipes.fixture.js';
import { TextFeatures } from './texforce.js';

setThreads(1);

const self = ['a cat to the left of a dog', 'a dog above a cat'];
const context: TrainingContext = {
  prompts: self.map((text) => ({ text, meta: null })),
  score: async (images) => ({
    total: scope(() => images.to('float32').mean([1, 2, 3]).toNumbers()),
    parts: {},
  }),
  differentiable: (images01) => images01.mean([1, 2, 3]),
};
const found: Detection[] = [
  { label: 'dog', score: 1, box: [0, 0, 4, 2] },
  { label: 'cat', score: 0.5, box: [2, 4, 8, 8] },
];
const detector: Detector = {
  labels: ['cat', 'dog'],
  detect: (images) => Array.from({ length: images.shape[0]! }, () => found),
};

const recipeOf = (grounding?: object, more: object = {}) =>
  checkRecipe({
    method: 'ip-rldf',
    detector: 'detector',
    prompts: self,
    reward: 'spatial',
    rounds: 1,
    epochs: 1,
    seed: 3,
    grounding,
    sample: { steps: 2, promptsPerEpoch: 2, picturesPerPrompt: 1, batchSize: 2, picturesPerStep: 2 },
    train: { rank: 2, batchSize: 2, updatesPerEpoch: 2, updatesPerStep: 1, learningRate: 1e-2 },
    ...more,
  }) as IpRldfRecipe;

const create = (grounding?: object) => {
  const pipeline = tinyGligenPipeline(1);
  const recipe = recipeOf(grounding && { beta: 1, ...grounding });
  settle(pipeline, recipe);
  return createIpRldf(recipe, pipeline, context, detector);
};
const words = (tree: StateTree) =>
  JSON.stringify(tree, (_, value) => (value instanceof Tensor ? value.toNumbers() : value));

async function trained(training: Training): Promise<string> {
  for await (const _ of training.run(0)); // to the end
  return words(training.state());
}
const drawn = async (training: Training) => {
  const images = await training.draw([{ prompt: self[0]!, seed: 1 }]);
  const bytes = images.bytes();
  images.free();
  return bytes;
};

test('IP-RLDF draws with boxes of the prompt, and learns with those that were found', async () => {
  const [both, neither, learned] = await Promise.all([
    trained(create({})),
    trained(create({ draw: 'none', learn: 'none' })),
    trained(create({ draw: 'none' })),
  ]);
  const pictures = (state: string) => JSON.parse(state).pictures;
  expect(pictures(both).latents).not.toEqual(pictures(neither).latents);
  expect(pictures(learned).latents).toEqual(pictures(neither).latents);
  expect(JSON.parse(learned).trainables).not.toEqual(JSON.parse(neither).trainables);
  expect(pictures(neither).objects).toBeUndefined();
  expect(pictures(both).objects).toEqual(
    Array(2).fill([
      { phrase: 'a dog', box: [0, 0, 0.5, 0.25] },
      { phrase: 'a cat', box: [0.25, 0.5, 1, 1] },
    ]),
  );
  expect(pictures(both).captions).toEqual(['a cat to the right of a dog', 'a dog above a cat']); // relabelled; matches
});

test('a resumed grounded run equals the whole one', async () => {
  const whole = create({});
  let middle: StateTree | undefined;
  for await (const event of whole.run(0))
    if (event.kind === 'step' && event.step === 2) middle = copied(whole.state());
  const resumed = create({});
  resumed.load(middle!);
  for await (const _ of resumed.run(2)); // to the end
  expect(words(resumed.state())).toBe(words(whole.state()));
});

function copied(tree: StateTree): StateTree {
  if (tree instanceof Tensor) return keep(tree.detach().clone());
  if (Array.isArray(tree)) return tree.map(copied);
  if (tree === null || typeof tree !== 'object') return tree;
  return Object.fromEntries(Object.entries(tree).map(([name, child]) => [name, copied(child)]));
}

test('evaluations are drawn without boxes, as in the paper, or with those of the prompt', async () => {
  const plain = await drawn(create());
  expect(await drawn(create({}))).not.toEqual(plain); // beta 1 instead of 0.3: null features at all steps
  expect(await drawn(create({ evaluate: 'prompt' }))).not.toEqual(await drawn(create({})));
});

test.each(['ddpo', 'alignprop', 'rwr'])('%s trains the gated layers alone', async (method) => {
  const pipeline = tinyGligenPipeline(2);
  const small = minimalRecipe(method);
  const train = { ...small.train, unet: 'gated', textEncoder: 'none' };
  const recipe = checkRecipe({ ...small, epochs: 1, train });
  settle(pipeline, { ...recipe, grounding: { beta: 1 } });
  const numbers = () =>
    new Map([...pipeline.parameters.unet.entries].map(([name, value]) => [name, value.toNumbers().join()]));
  const before = numbers();
  const told = { ...context, prompts: prompts.map((text) => ({ text, meta: null })) };
  const training = methodOf(recipe).create(recipe, pipeline, told);
  for await (const _ of training.run(0)); // to the end
  const moved = [...numbers()].filter(([name, value]) => before.get(name) !== value).map(([name]) => name);
  expect(moved.length).toBeGreaterThan(0);
  expect(moved.filter((name) => !name.includes('.fuser.'))).toEqual([]);
  expect(moved.some((name) => name.endsWith('alpha_attn'))).toBe(true);
});

test('block by block, gated layers learn the same', async () => {
  // of one update, whose first moment is the gradient: behind it AdamW makes a rounding of a small gradient a whole step
  const once = { updatesPerEpoch: 1, innerEpochs: 1, captionDropout: 0 };
  const gradient = async (checkpointing: boolean) => {
    const pipeline = tinyGligenPipeline(2);
    const small = minimalRecipe('rwr');
    const train = { ...small.train, ...once, unet: 'gated', checkpointing };
    const recipe = checkRecipe({ ...small, epochs: 1, explore: null, train });
    settle(pipeline, { ...recipe, grounding: { beta: 1 } });
    const training = methodOf(recipe).create(recipe, pipeline, context);
    for await (const _ of training.run(0)); // to the end
    const { optimiser } = training.state() as { optimiser: { first: Tensor[] } };
    return optimiser.first.flatMap((tensor) => tensor.toNumbers());
  };
  const [whole, parts] = [await gradient(false), await gradient(true)];
  const norm = (values: number[]) => Math.sqrt(values.reduce((sum, value) => sum + value ** 2, 0));
  // sums in another order round by 2 ** -24 of their size, in each of some 30 layers, there and back
  expect(norm(whole.map((value, i) => value - parts[i]!)) / norm(whole)).toBeLessThan(60 * 2 ** -24);
});

test('a picture is replayed with its grounded steps: the probability is that of drawing, and of no other number of steps', async () => {
  const pipeline = { ...tinyGligenPipeline(3), groundingBeta: 0.5 };
  const recipe = checkRecipe({ ...minimalRecipe('ddpo'), explore: null });
  const [first] = picturesOfEpoch(recipe as never, pipeline, context.prompts, 0);
  expect(first!.behaviour.grounding).toEqual({ objects: [], steps: 1 }); // of 3
  const plain = picturesOfEpoch(recipe as never, tinyPipeline(), context.prompts, 0);
  expect(plain[0]!.behaviour).not.toHaveProperty('grounding');

  const objects = [{ phrase: 'a dog', box: [0.1, 0.2, 0.6, 0.9] as const }];
  const behaviour = { ...first!.behaviour, grounding: { objects, steps: 1 } };
  const batches = rolloutBatches(pipeline, {
    prompts: ['a cat'],
    behaviours: [behaviour],
    negativePrompt: null,
    batchSize: 1,
    steps: 3,
    eta: 1,
  });
  let step = await batches.next();
  while (!step.done) step = await batches.next();
  const [{ trajectory, images }] = step.value as [(typeof step.value & object)[number]];
  const scheduler = policyScheduler(pipeline, 3, 1);
  const replay = (of: typeof behaviour) =>
    noGrad(() =>
      scope(() => {
        const text = textOf('a cat', of);
        const conditioning = new TextFeatures(pipeline, [null, text]).guided(null, [text]);
        return [0, 1, 2].map((at) => {
          const current = trajectory.latents.select(0, at);
          const { mean, std } = policyMoments(pipeline, scheduler, current, at, conditioning, [of], 1);
          return meanLogProb(trajectory.latents.select(0, at + 1), mean, std).item();
        });
      }),
    );
  const expected = trajectory.logProbs.toNumbers();
  expect(replay(behaviour)).toEqual(expected);
  const never = replay({ ...behaviour, grounding: { objects, steps: 0 } });
  expect(never[0]).not.toBe(expected[0]);
  expect(never.slice(1)).toEqual(expected.slice(1));
  const longer = replay({ ...behaviour, grounding: { objects, steps: 2 } });
  expect(longer.map((value, i) => value === expected[i])).toEqual([true, false, true]);
  expect(replay({ ...behaviour, grounding: { objects: [], steps: 1 } })[0]).not.toBe(expected[0]);
  free([trajectory.latents, trajectory.logProbs, images]);
});

test('the gradient of gated layers is the same whether what they read is prepared or not', () => {
  const pipeline = tinyGligenPipeline(4);
  const { unet } = createTrainables(pipeline, { unet: 'gated', textEncoder: 'none', rank: 1, seed: 0 });
  expect(unet).toHaveLength(4 * 17);
  const text = { prompt: 'a cat', objects: [{ phrase: 'a dog', box: [0.1, 0.2, 0.6, 0.9] as const }] };
  const latents = normal([noiseKey(0, 'latents')], [4, 4, 4]);
  const times = tensor([900], { dtype: 'int64' });
  const gradients = (prepare: boolean) => {
    const network = networkGradient(unet);
    const features = told(prepare);
    const loss = network.record(() =>
      pipeline.unet
        .forward(latents, times, features.of([text]))
        .square()
        .sum(),
    );
    const { parameters, inputs } = network.grad(loss, features.leaves);
    features.gather(inputs);
    const behind = features.backward().network;
    return parameters.map((own, i) => {
      const parts = [own, behind[i]].flatMap((part) => (part ? [part.toNumbers()] : []));
      return (parts[0] ?? []).map((value, k) => value + (parts[1]?.[k] ?? 0));
    });
  };
  function told(prepare: boolean) {
    return new TextFeatures(pipeline, [text], { network: networkGradient(unet), prepare });
  }
  const [prepared, direct] = [gradients(true), gradients(false)];
  const largest = Math.max(...direct.flat().map(Math.abs));
  expect(largest).toBeGreaterThan(0);
  for (const [i, own] of prepared.entries())
    for (const [k, value] of own.entries())
      expect(Math.abs(value - direct[i]![k]!) / largest).toBeLessThan(1e-5);
});

test('refused: gated layers or boxes on a model that has none; boxes that nobody finds', () => {
  expect(() => settle(tinyPipeline(), { train: { unet: 'gated' } })).toThrow(
    /train.unet: gated: this model has no gated layers/,
  );
  expect(() => settle(tinyPipeline(), recipeOf({}))).toThrow(/grounding: this model has no gated layers/);
  const quiet = { relabel: false, rescale: 1 };
  expect(() => recipeOf({}, { ...quiet, detector: undefined })).toThrow(
    /grounding.learn: detected, without a detector/,
  );
  expect(() => recipeOf({}, { ...quiet, pictures: 'oracle' })).toThrow(/grounding: with pictures: oracle/);
  expect(() => recipeOf({ beta: 2 })).toThrow(/grounding.beta/);
  // what is trained so cannot be taken off again
  expect(() => minimalRecipe('dpo', { train: { unet: 'gated' } })).toThrow(/all weights of a network learn/);
});
