import { encodePrompts, NoiseSchedule, type Pipeline, tinyPipeline } from '@rldf/models';
import { cat, grad, noiseKey, normal, setThreads, type Tensor, tensor } from '@rldf/torch';
import { expect, test } from 'vitest';
import {
  type DenoisingRecipe,
  denoisingUpdate,
  type Example,
  type Objective,
  squaredError,
} from './denoising.js';
import { denoisingErrors, drawNoising } from './denoising-loss.js';
import { preferenceLoss } from './dpo.js';
import { Learner } from './learner.js';

setThreads(1);

const captions = ['a cat', 'a dog', 'a cat', 'a cow', 'a dog'];
const weights = [1, 0.5, 2, 1, 0.25];
const latents = normal(
  captions.map((_, i) => noiseKey(2, 'latents', i)),
  [4, 4, 4],
);
const at = (row: number, path = row) => ({ latents, row, caption: captions[row] as string, path: [4, path] });
const ownExamples = captions.map(
  (_, row): Example => ({ pictures: [at(row)], weight: weights[row] as number }),
);
const pairs: Example[] = [
  { pictures: [at(0), at(2, 0)], weight: 1 },
  { pictures: [at(1), at(4, 1)], weight: 1 },
];

interface Settings {
  objective?: Objective;
  base?: boolean;
  train?: Partial<DenoisingRecipe['train']>;
}

/** A learner, and updates with it. */
function learnerOf(pipeline: Pipeline, { objective = squaredError, base = false, train = {} }: Settings) {
  const recipe: DenoisingRecipe = {
    method: 'test',
    seed: 9,
    epochs: 1,
    negativePrompt: 'blurred',
    sample: { steps: 3, guidanceScale: 3, promptsPerEpoch: 2, picturesPerPrompt: 2, batchSize: 4, eta: 1 },
    train: {
      unet: 'lora',
      textEncoder: 'lora',
      rank: 2,
      learningRate: 1e-2,
      weightDecay: 0,
      maxGradNorm: 1e9,
      schedule: 'constant',
      warmup: 0,
      batchSize: 2,
      updatesPerEpoch: 1,
      captionDropout: 0,
      lossGuidanceScale: 1,
      ...train,
    },
  };
  const learner = new Learner(pipeline, recipe, 1);
  const update = (examples: readonly Example[]) =>
    denoisingUpdate(learner, recipe, examples, objective, 1e-2, { base });
  return { learner, update };
}

async function update({ update: updating }: ReturnType<typeof learnerOf>, examples: readonly Example[]) {
  const steps = updating(examples);
  for (;;) {
    const { done, value } = await steps.next();
    if (done) return value;
  }
}

/** Errors of some rows in one pass through the graph of all parameters, without any of the learner's short cuts. */
function errorsOf(pipeline: Pipeline, rows: readonly number[], paths = rows, guided = false): Tensor {
  const some = cat(rows.map((row) => latents.narrow(0, row, 1)));
  const schedule = new NoiseSchedule(pipeline.schedulerConfig);
  const noising = drawNoising(
    schedule,
    some,
    9,
    paths.map((path) => [4, path]),
  );
  const unguided = guided ? rows.map(() => 'blurred') : [];
  const text = encodePrompts(pipeline, [...unguided, ...rows.map((row) => captions[row] as string)]);
  return denoisingErrors(pipeline.unet, schedule, some, noising, text, guided ? 3 : 1);
}

const normOf = (gradients: readonly Tensor[]) =>
  Math.sqrt(gradients.reduce((sum, gradient) => sum + gradient.square().sum().item(), 0));

const relative = (a: number, b: number) => Math.abs(a / b - 1);

test('an update follows (1/n) Σ w e, in micro-batches, text encoder included', async () => {
  const pipeline = tinyPipeline(1);
  const learner = learnerOf(pipeline, {});
  await update(learner, ownExamples); // away from zero adapters, whose gradient is half missing
  const { unet, text } = learner.learner;
  const errors = errorsOf(pipeline, [0, 1, 2, 3, 4]);
  const loss = errors.mul(tensor(weights)).mean();
  const expected = grad(loss, [...unet, ...text]);
  const report = await update(learner, ownExamples);
  expect(relative(report['loss/weighted'] as number, loss.item())).toBeLessThan(1e-5);
  expect(relative(report['loss/denoising'] as number, errors.mean().item())).toBeLessThan(1e-5);
  expect(relative(report['gradient/norm'] as number, normOf(expected))).toBeLessThan(1e-4);
  learner.learner.free();
});

test('guided: the gradient is that of the guided prediction’s errors, the negative prompt’s half included', async () => {
  const pipeline = tinyPipeline(1);
  const learner = learnerOf(pipeline, { train: { lossGuidanceScale: 3 } });
  await update(learner, ownExamples);
  const { unet, text } = learner.learner;
  const errors = errorsOf(pipeline, [0, 1, 2, 3, 4], undefined, true);
  const loss = errors.mul(tensor(weights)).mean();
  const expected = normOf(grad(loss, [...unet, ...text]));
  const report = await update(learner, ownExamples);
  expect(relative(report['loss/weighted'] as number, loss.item())).toBeLessThan(1e-5);
  expect(relative(report['gradient/norm'] as number, expected)).toBeLessThan(1e-4);
  learner.learner.free();
});

test('a pair has one noise; the base errors are those without adapters', async () => {
  const pipeline = tinyPipeline(1);
  const before = errorsOf(tinyPipeline(1), [0, 1, 2, 4], [0, 1, 0, 1]).toNumbers();
  const seen: number[][] = [];
  const objective: Objective = ([better, worse], base) => {
    seen.push(base.flatMap((errors) => errors.toNumbers()));
    const { loss, margin } = preferenceLoss([better!, worse!], base as [Tensor, Tensor], 50);
    return { loss, observed: { margin } };
  };
  const learner = learnerOf(pipeline, { objective, base: true });
  const first = await update(learner, pairs);
  const errors = errorsOf(pipeline, [0, 1, 2, 4], [0, 1, 0, 1]);
  const [better, worse] = errors.split([2, 2]) as [Tensor, Tensor];
  const base = tensor(before).split([2, 2]) as [Tensor, Tensor];
  const { loss, margin } = preferenceLoss([better, worse], base, 50);
  const { unet, text } = learner.learner;
  const expected = normOf(grad(loss.mean(), [...unet, ...text]));
  const second = await update(learner, pairs);
  expect(Math.abs(first.margin as number)).toBeLessThan(1e-4);
  expect(relative(second.margin as number, margin.mean().item())).toBeLessThan(1e-3);
  expect(relative(second['gradient/norm'] as number, expected)).toBeLessThan(1e-3);
  const [b0, b1, w0, w1] = before as [number, number, number, number];
  for (const values of [seen.slice(0, 2), seen.slice(2)].map((parts) => parts.flat())) {
    [b0, w0, b1, w1].forEach((value, i) => {
      expect(relative(values[i] as number, value)).toBeLessThan(1e-5);
    });
  }
  learner.learner.free();
});

test('dropped captions are the empty one, for the picture whose path says so', async () => {
  const pipeline = tinyPipeline(1);
  const learner = learnerOf(pipeline, { train: { captionDropout: 1 } });
  const report = await update(learner, ownExamples);
  const told = captions.splice(0, 5, ...Array<string>(5).fill(''));
  const expected = errorsOf(tinyPipeline(1), [0, 1, 2, 3, 4]).mean().item();
  captions.splice(0, 5, ...told);
  expect(relative(report['loss/denoising'] as number, expected)).toBeLessThan(1e-5);
  learner.learner.free();
});
