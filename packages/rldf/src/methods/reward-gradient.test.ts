// What holds for all methods that follow a reward's gradient; the gradient through the steps: differentiable-sampling.test.ts.
import { existsSync, mkdtempSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { DDIMScheduler, decodeLatents, latentShape, tinyPipeline } from '@rldf/models';
import {
  clipGradNorm,
  grad,
  liveTensors,
  noGrad,
  noiseKey,
  normal,
  scope,
  setThreads,
  type Tensor,
} from '@rldf/torch';
import { expect, test } from 'vitest';
import { promptsOfEpoch } from '../prompts/prompts.js';
import { checkRecipe } from '../recipe/load.js';
import type { Recipe } from '../recipe/recipe.js';
import { readMetrics } from '../run/metrics.js';
import type { TrainingContext } from '../run/training.js';
import { policyMoments } from '../sampling/rollout.js';
import { train } from '../train/from-recipe.js';
import { drain, saveTinyModel } from '../train/tiny-run.fixture.js';
import { followedSteps } from './alignprop.js';
import { behavioursOf } from './diffexp.js';
import { methodOf } from './index.js';
import { createTrainables } from './learner.js';
import type { AlignPropRecipe } from './reward-gradient-schema.js';
import { TextFeatures } from './texforce.js';

setThreads(1);

type Overrides = { sample?: object; train?: object; [key: string]: unknown };

const prompts = ['a cat', 'a dog'];
const names = ['alignprop', 'draft-k', 'draft-lv', 'refl'];

function recipeOf(method: string, { sample, train, ...rest }: Overrides = {}): Recipe {
  return checkRecipe({
    method,
    prompts,
    reward: 'aesthetic', // not loaded: the context rewards brightness
    epochs: 2,
    seed: 3,
    sample: { steps: 3, promptsPerEpoch: 2, picturesPerPrompt: 2, guidanceScale: 3, ...sample },
    train: { rank: 2, batchSize: 4, updatesPerEpoch: 1, learningRate: 0.02, ...train },
    ...rest,
  });
}

const brightness = (images01: Tensor) => images01.mean([1, 2, 3]);

const context: TrainingContext = {
  prompts: prompts.map((text) => ({ text, meta: null })),
  score: async (images) => {
    const total = noGrad(() =>
      scope(() => brightness(images.to('float32').div(255).permute([0, 3, 1, 2])).toNumbers()),
    );
    return { total, parts: { brightness: total } };
  },
  differentiable: (images01) => brightness(images01),
};

interface Ran {
  rows: Record<string, number>[];
  /** Mean brightness of pictures with fixed noise. */
  before: number;
  after: number;
  weights: { unet: number[]; textEncoder: number[] };
}

async function run(recipe: Recipe, given = context, pictures = 0): Promise<Ran> {
  const pipeline = tinyPipeline(1);
  const training = methodOf(recipe).create(recipe, pipeline, given);
  const requests = Array.from({ length: pictures }, (_, seed) => ({
    prompt: prompts[seed % 2] as string,
    seed,
  }));
  const measured = async () => {
    if (pictures === 0) return 0;
    const images = await training.draw(requests);
    const { total } = await context.score(images, []);
    images.free();
    return total.reduce((sum, value) => sum + value, 0) / total.length;
  };
  const before = await measured();
  const rows: Record<string, number>[] = [];
  for await (const event of training.run(0)) if (event.kind === 'step') rows.push(event.metrics);
  const after = await measured();
  const { trainables } = training.state() as { trainables: { unet: Tensor[]; textEncoder: Tensor[] } };
  const values = (tensors: readonly Tensor[]) => tensors.flatMap((tensor) => tensor.toNumbers());
  const weights = { unet: values(trainables.unet), textEncoder: values(trainables.textEncoder) };
  training.free();
  for (const parameters of Object.values(pipeline.parameters)) parameters.free();
  return { rows, before, after, weights };
}

test.each(names)(
  '%s: the reward rises, on the same noise, and the statistics are those of the reward',
  async (method) => {
    const { rows, before, after } = await run(
      recipeOf(method, { epochs: 3, train: { targets: ['conv_out', 'time_emb_proj'], learningRate: 0.1 } }),
      context,
      8,
    );
    expect(after).toBeGreaterThan(before + 0.003);
    for (const row of rows) {
      expect(row['reward/mean']).toBeCloseTo(row['reward/brightness'] as number, 2); // but for rounding to bytes
      expect(row['gradient/norm']).toBeGreaterThan(0);
    }
  },
);

test.each(names)('%s: micro-batches do not change the update', async (method) => {
  const [one, many] = [
    await run(recipeOf(method, { epochs: 1 })),
    await run(recipeOf(method, { epochs: 1, train: { batchSize: 1 } })),
  ];
  for (const name of ['reward/mean', 'loss/reward', 'gradient/norm']) {
    const [a, b] = [one.rows[0]?.[name] as number, many.rows[0]?.[name] as number];
    expect(Math.abs(a / b - 1)).toBeLessThan(1e-4);
  }
});

test('learns with the text encoder alone, and with both', async () => {
  const pair = { textEncoder: 'lora', unet: 'none' };
  const alone = await run(recipeOf('alignprop', { epochs: 3, train: pair }), context, 4);
  expect(alone.after).toBeGreaterThan(alone.before);
  expect(alone.weights.unet).toEqual([]);
  const both = (train: object) =>
    run(recipeOf('refl', { epochs: 1, train: { textEncoder: 'lora', ...train } }));
  const [moved, still] = [await both({}), await both({ learningRate: 1e-12 })];
  const distance = (a: number[], b: number[]) => Math.max(...a.map((value, i) => Math.abs(value - b[i]!)));
  expect(distance(moved.weights.unet, still.weights.unet)).toBeGreaterThan(1e-3);
  expect(distance(moved.weights.textEncoder, still.weights.textEncoder)).toBeGreaterThan(1e-3);
});

test.each(names)(
  '%s: an epoch leaves as many tensors as it found; leaving in the middle frees everything',
  async (method) => {
    const more = method === 'refl' ? { pretraining: { weight: 1, pictures: 3 } } : {};
    const recipe = recipeOf(method, { epochs: 2, train: { batchSize: 2, updatesPerEpoch: 2, ...more } });
    const pipeline = tinyPipeline(1);
    const training = methodOf(recipe).create(recipe, pipeline, context);
    const weight = [...pipeline.parameters.unet.entries].find(([name]) => name.endsWith('to_q.weight'))?.[1];
    const before = (weight as Tensor).toNumbers();
    const counts: number[] = [];
    for await (const event of training.run(0)) if (event.kind === 'step') counts.push(liveTensors());
    expect(new Set(counts).size).toBe(1);
    for (const phase of ['drawing', 'learning']) {
      for (const late of [1, 4]) {
        let seen = 0;
        for await (const event of training.run(1)) {
          if (event.kind === 'progress' && event.phase === phase && ++seen >= late) break;
        }
        expect(liveTensors()).toBe(counts[0]);
        expect((weight as Tensor).toNumbers()).toEqual(before);
      }
    }
    training.free();
  },
);

test.each([
  ['as in evaluation', undefined],
  ['exploring', { guidance: { low: 1, steps: 1 }, words: { minimum: 1.5, maximum: 2 }, share: 1 }],
])(
  'DRaFT with K = T, %s: the gradient is that of the mean reward in one graph from the noise to the pixels',
  async (_, explore) => {
    const recipe = recipeOf('draft-k', {
      epochs: 1,
      train: { gradientSteps: 3 },
      ...(explore && { explore }),
    });
    const { rows } = await run(recipe);
    const { seed, sample, train } = recipe;
    const pipeline = tinyPipeline(1);
    const { unet } = createTrainables(pipeline, { ...train, seed });
    const chosen = promptsOfEpoch(context.prompts, { seed, epoch: 0, ...sample });
    const behaviours = behavioursOf(recipe, pipeline.tokenizer, 0, chosen);
    const texts = chosen.map(({ prompt }, i) => ({
      prompt: prompt.text,
      wordWeights: behaviours[i]?.wordWeights,
    }));
    const scheduler = new DDIMScheduler(pipeline.schedulerConfig);
    scheduler.setTimesteps(sample.steps);
    const [reward, norm] = scope(() => {
      const text = new TextFeatures(pipeline, ['', ...texts], { prepare: false }).guided('', texts);
      const keys = behaviours.map(({ path }) => noiseKey(seed, 'rollout start', ...path));
      let latents = normal(keys, latentShape(pipeline));
      for (let step = 0; step < sample.steps; step++) {
        latents = policyMoments(pipeline, scheduler, latents, step, text, behaviours, 0).mean;
      }
      const mean = brightness(decodeLatents(pipeline, latents).div(2).add(0.5).clamp(0, 1)).mean();
      return [mean.item(), clipGradNorm(grad(mean, unet), 1e9)];
    });
    expect(reward).toBeCloseTo(rows[0]?.['reward/mean'] as number, 5);
    expect(Math.abs((rows[0]?.['gradient/norm'] as number) / norm - 1)).toBeLessThan(1e-4);
  },
);

test('DRaFT-LV: with more noisings the gradient varies less; the drawn picture stays the same', async () => {
  const norms = async (noisings: number) => {
    const { rows } = await run(recipeOf('draft-lv', { epochs: 1, train: { noisings } }));
    return rows[0] as Record<string, number>;
  };
  const [one, many] = [await norms(1), await norms(8)];
  expect(one['reward/mean']).toBeCloseTo(many['reward/mean'] as number, 6);
  expect(many['gradient/norm']).not.toBe(one['gradient/norm']);
  expect((many['gradient/norm'] as number) / (one['gradient/norm'] as number)).toBeLessThan(1.2);
});

test('AlignProp’s windows: contiguous to the end, of each length as likely, of a mean length, of one, or TRL’s', () => {
  const steps = 10;
  const draw = (window: object, count = 4000) => {
    const recipe = recipeOf('alignprop', { sample: { steps }, train: { window } }) as AlignPropRecipe;
    return Array.from({ length: count }, (_, i) => followedSteps(recipe, { path: [i] }));
  };
  const contiguous = (set: Set<number>) => [...Array(set.size).keys()].every((i) => set.has(steps - 1 - i));
  const shares = (sets: Set<number>[], of: (set: Set<number>) => boolean) =>
    sets.filter(of).length / sets.length;
  const uniform = draw({ kind: 'uniform' });
  expect(uniform.every(contiguous)).toBe(true);
  for (let length = 1; length <= steps; length++) {
    expect(Math.abs(shares(uniform, ({ size }) => size === length) - 0.1)).toBeLessThan(0.025);
  }
  const gaussian = draw({ kind: 'gaussian', steps: 5, spread: 1.5 });
  expect(gaussian.every(contiguous)).toBe(true);
  const sizes = gaussian.map(({ size }) => size);
  const mean = sizes.reduce((sum, size) => sum + size, 0) / sizes.length;
  const variance = sizes.reduce((sum, size) => sum + (size - mean) ** 2, 0) / sizes.length;
  expect(mean).toBeCloseTo(5, 1);
  expect(variance).toBeCloseTo(1.5 ** 2 + 1 / 12, 0);
  expect(draw({ kind: 'fixed', steps: 3 }, 5).every((set) => set.size === 3 && contiguous(set))).toBe(true);
  const trl = draw({ kind: 'trl-per-step' });
  for (let step = 0; step < steps; step++) {
    const expected = (step + 1) / (steps + 1);
    expect(Math.abs(shares(trl, (set) => set.has(step)) - expected)).toBeLessThan(0.03);
  }
  expect(shares(trl, contiguous)).toBeLessThan(0.2);
});

test('ReFL: a reached target teaches nothing; the pre-training term holds the model back', async () => {
  const reached = await run(recipeOf('refl', { epochs: 1, train: { rewardTarget: 0 } }));
  expect(reached.rows[0]).toMatchObject({ 'reward/reached': 1, 'loss/reward': 0, 'gradient/norm': 0 });
  const far = await run(recipeOf('refl', { epochs: 1 }));
  expect(far.rows[0]).toMatchObject({ 'reward/reached': 0 });
  expect(far.rows[0]).not.toHaveProperty('loss/pretraining');
  const free = await run(recipeOf('refl'));
  const held = await run(recipeOf('refl', { train: { pretraining: { weight: 100, pictures: 4 } } }));
  expect(held.rows.every((row) => (row['loss/pretraining'] as number) > 0)).toBe(true);
  expect(held.weights.unet).not.toEqual(free.weights.unet);
});

test('ReFL: each picture is judged at one of the late steps', async () => {
  const { rows } = await run(recipeOf('refl', { epochs: 1, train: { lateSteps: 1 } }));
  expect(rows[0]?.['refl/step']).toBe(3);
  const unguided = await run(recipeOf('refl', { epochs: 1, train: { lateSteps: 1, guided: false } }));
  const weak = await run(
    recipeOf('refl', { epochs: 1, sample: { guidanceScale: 1 }, train: { lateSteps: 1 } }),
  );
  expect(unguided.rows[0]).toEqual(weak.rows[0]);
  expect(unguided.rows[0]?.['reward/mean']).not.toBe(rows[0]?.['reward/mean']);
});

test('a reward without a gradient is refused, with names of those that have one', () => {
  const refused = (method: string, reward: unknown) => {
    try {
      checkRecipe({ method, prompts, reward });
    } catch (error) {
      return (error as Error).message;
    }
  };
  expect(refused('alignprop', 'jpeg-compressibility')).toMatchInlineSnapshot(
    `"recipe  reward: alignprop follows the reward’s gradient, and jpeg-compressibility has none — set reward to one of jpeg-estimate, clip-score, preference, image-reward, aesthetic, to a module that also exports \`differentiable(images01, prompts)\`, or method to one that needs no gradient, such as ddpo"`,
  );
  for (const method of names) expect(refused(method, 'spatial')).toMatch(/spatial has none/);
  expect(refused('refl', { ratings: 'people.csv' })).toMatch(/people’s ratings has none/);
  expect(refused('refl', [{ reward: 'aesthetic' }, { reward: 'count', weight: 2 }])).toMatch(
    /reward\.1\.reward: refl .* count has none/,
  );
  expect(refused('refl', [{ reward: 'aesthetic' }, { reward: 'clip-score' }])).toBeUndefined();
  expect(refused('refl', { module: 'own.ts' })).toBeUndefined(); // shows when it is loaded
  const pipeline = tinyPipeline(1);
  const { differentiable: _, ...without } = context;
  const recipe = recipeOf('draft-k');
  expect(() => methodOf(recipe).create(recipe, pipeline, without)).toThrow(/the given reward has none/);
});

test('a whole run by a module’s own gradient; without the export it is refused before anything is written', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'rldf-gradient-'));
  const model = saveTinyModel(join(folder, 'model'));
  const scores = 'export const reward = ({ images }) => images.map(({ data }) => data[0] / 255);\n';
  writeFileSync(join(folder, 'scores.mjs'), scores);
  const gradient =
    'export const differentiable = (images01) => images01.select(1, 0).select(1, 0).select(1, 0);';
  writeFileSync(join(folder, 'both.mjs'), `${scores}${gradient}`);
  const runOf = (module: string) =>
    drain(
      train(
        {
          ...recipeOf('draft-k', { epochs: 1, threads: 1, watch: { mode: 'off' } }),
          model,
          reward: { module: join(folder, module) },
        },
        { name: module.slice(0, 4), root: folder },
      ),
    );
  await expect(runOf('scores.mjs')).rejects.toThrow(/scores.mjs has none .*`differentiable/);
  expect(existsSync(join(folder, 'scor'))).toBe(false);
  const events = await runOf('both.mjs');
  expect(events.at(-1)).toMatchObject({ kind: 'finished' });
  const row = readMetrics(join(folder, 'both', 'metrics.jsonl')).at(-1);
  const name = Object.keys(row ?? {}).find((key) => key.endsWith('both.mjs')) as string;
  expect(row?.['reward/mean']).toBeCloseTo(row?.[name] as number, 2);
});

test('a reward that is not one finite number a picture, or does not depend on it, ends the run with its name', async () => {
  const recipe = recipeOf('draft-k', { epochs: 1 });
  const given = (differentiable: NonNullable<TrainingContext['differentiable']>) =>
    run(recipe, { ...context, differentiable });
  await expect(given((images) => brightness(images).mul(Number.NaN))).rejects.toThrow(/NaN/);
  await expect(given((images) => brightness(images).sum())).rejects.toThrow(/1 scores for 4 pictures/);
  await expect(given((images) => brightness(images).detach())).rejects.toThrow(
    /does not depend on the pictures/,
  );
});

test('mistakes between fields are told with the way out', () => {
  const problem = (method: string, more: Overrides) => {
    try {
      recipeOf(method, more);
    } catch (error) {
      return (error as Error).message;
    }
  };
  expect(problem('draft-k', { train: { gradientSteps: 5 } })).toMatch(
    /gradientSteps: 5 of 3 denoising steps .* 1 to 3/,
  );
  expect(problem('alignprop', { train: { window: { kind: 'fixed' } } })).toMatch(/fixed without steps/);
  expect(problem('alignprop', { train: { window: { kind: 'gaussian', steps: 9 } } })).toMatch(/9 of 3/);
  expect(problem('alignprop', { train: { window: { steps: 2 } } })).toMatch(
    /window\.steps: 2, but kind: uniform .* would not be looked at/,
  );
  expect(problem('alignprop', { train: { window: { kind: 'gaussian', steps: 2, spread: 1e6 } } })).toMatch(
    /spread: must be at most 1000/,
  );
  expect(problem('refl', { train: { lateSteps: 5 } })).toMatch(/5 of 3/);
  const explore = { guidance: { steps: 1 }, words: {} };
  expect(problem('refl', { train: { guided: false }, explore })).toMatch(
    /explore\.guidance: train\.guided is false .* would change no step/,
  );
  expect(problem('refl', { explore })).toBeUndefined();
  expect(problem('refl', { train: { guided: false }, explore: { words: {} } })).toBeUndefined();
  expect(problem('refl', { train: { unet: 'full', pretraining: { weight: 1 } } })).toMatch(
    /all weights .* learn/,
  );
  expect(problem('draft-lv', { sample: { promptsPerEpoch: 1, picturesPerPrompt: 1 } })).toBeUndefined();
});

test('arithmetic: what is drawn and what is followed', () => {
  const forwards = (method: string, train: object = {}) => {
    const recipe = recipeOf(method, { sample: { steps: 10 }, train });
    const { samplingForwards, trainingForwards, trainedSteps } = methodOf(recipe).plan.arithmetic(recipe);
    return [samplingForwards, trainingForwards, trainedSteps]; // of 4 pictures, 2 epochs
  };
  expect(forwards('draft-k', { gradientSteps: 3 })).toEqual([160, 48, 3]);
  expect(forwards('draft-lv', { noisings: 2 })).toEqual([192, 32, 2]);
  expect(forwards('alignprop')).toEqual([160, 88, 5.5]);
  expect(forwards('alignprop', { window: { kind: 'gaussian', steps: 2 } })).toEqual([160, 32, 2]);
  expect(forwards('refl', { lateSteps: 3 })).toEqual([144, 16, 1]);
});
