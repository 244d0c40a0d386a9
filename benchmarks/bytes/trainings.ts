// Trainings in miniature: every method on the tiny pipeline, by what learns and how it draws, and what each ends with.
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { loadPipeline, tinyPipeline } from '@rldf/models';
import { free, noGrad, scope, setThreads } from '@rldf/torch';
import {
  checkRecipe,
  findModel,
  loadCheckpoint,
  methodOf,
  openDetector,
  saveCheckpoint,
  type TrainingContext,
} from 'rldf';
import { type Hashes, hashOf } from './hash.js';

const prompts = ['a cat', 'a dog', 'a cow'];
const explore = { words: {}, guidance: { steps: 1 } };

/** Brightness, also as a function whose gradient can be followed. */
const context: TrainingContext = {
  prompts: prompts.map((text) => ({ text, meta: null })),
  score: async (images) => {
    const rows = images.shape[0] as number;
    const total = noGrad(() =>
      scope(() => images.to('float32').reshape([rows, -1]).mean(1).div(255).toNumbers()),
    );
    return { total, parts: { brightness: total } };
  },
  differentiable: (images01) => images01.mean([1, 2, 3]),
};

interface Case {
  method: string;
  train?: object;
  more?: object;
  /** On the shipped model, whose pictures the shipped detector can read. */
  shipped?: true;
  /** Besides, a training that is continued from the checkpoint of its first step. */
  resumed?: true;
}

const policy = { clipNats: 5 };
const needs: Record<string, object> = { ddpo: policy, dpok: policy, refl: { lateSteps: 2 } };
const learns = {
  unet: {},
  text: { unet: 'none', textEncoder: 'lora' },
  both: { textEncoder: 'lora' },
};

/** Of IP-RLDF, where nobody looks at the pictures. */
const unseen = { epochs: 1, relabel: false, rescale: 1 };
const online = ['ddpo', 'dpok', 'dpo', 'raft', 'rwr', 'alignprop', 'draft-k', 'draft-lv', 'refl'];

const cases: Record<string, Case> = {
  ...Object.fromEntries(
    online.flatMap((method) =>
      Object.entries(learns).flatMap(([what, train]): [string, Case][] => [
        [`${method} ${what}`, { method, train, ...(what === 'both' && { resumed: true }) }],
        [`${method} ${what} explore`, { method, train, more: { explore } }],
      ]),
    ),
  ),
  ...Object.fromEntries(
    Object.entries(learns).map(([what, train]): [string, Case] => [
      `ip-rldf ${what}`,
      { method: 'ip-rldf', train, more: unseen, ...(what === 'both' && { resumed: true }) },
    ]),
  ),
  'ip-rldf base': {
    method: 'ip-rldf',
    more: { ...unseen, base: { prompts: ['a cow', 'a dog', 'a cat', 'cow'], ratio: 2 } },
  },
  'ip-rldf relabel and rescale': { method: 'ip-rldf', shipped: true, more: { detector: 'detector' } },
  'ip-rldf rescale': { method: 'ip-rldf', shipped: true, more: { detector: 'detector', relabel: false } },
  'ip-rldf world': { method: 'ip-rldf', shipped: true, more: { ...unseen, pictures: 'world' } },
  'ddpo full': { method: 'ddpo', train: { unet: 'full', textEncoder: 'full' } },
  'ddpo score function': { method: 'ddpo', train: { estimator: 'sf', updatesPerEpoch: 1 } },
  'ddpo in passes': { method: 'ddpo', train: { innerEpochs: 2, timestepFraction: 0.5, schedule: 'cosine' } },
  'ddpo near the base': {
    method: 'ddpo',
    train: { textEncoder: 'lora', klWeight: 0.1, stepWeights: 'balanced' },
    more: { explore },
  },
  'ddpo without reuse': { method: 'ddpo', train: { textEncoder: 'lora', reuse: false } },
  'dpok public code': { method: 'dpok', train: { variant: 'publicCode', textEncoder: 'lora' } },
  'rwr sparse': { method: 'rwr', train: { weights: 'sparse', topFraction: 0.5, lossGuidanceScale: 3 } },
  'rwr over prompts': { method: 'rwr', train: { over: 'prompt', standardise: false, temperature: 5 } },
  'dpo all pairs': {
    method: 'dpo',
    train: { pairs: 'all', textEncoder: 'lora', schedule: 'linear', warmup: 2 },
  },
  'alignprop trl': { method: 'alignprop', train: { window: { kind: 'trl-per-step' } } },
  'alignprop gaussian': { method: 'alignprop', train: { window: { kind: 'gaussian', steps: 2 } } },
  'draft all steps': { method: 'draft-k', train: { gradientSteps: 3, textEncoder: 'lora' } },
  'refl pretraining': {
    method: 'refl',
    train: { textEncoder: 'lora', rewardMap: 'linear', pretraining: { weight: 1, pictures: 3 } },
    resumed: true,
  },
  'refl unguided': { method: 'refl', train: { guided: false, rewardTarget: 0.4 } },
};

function recipeOf({ method, train, more, shipped }: Case) {
  return checkRecipe({
    method,
    prompts: shipped ? ['a cat to the left of a dog', 'a cow above a duck'] : prompts,
    reward: 'aesthetic', // not loaded: the context scores
    epochs: shipped ? 1 : 2,
    sample: { steps: 3, promptsPerEpoch: 2, picturesPerPrompt: 2, batchSize: 4 },
    train: { rank: 2, batchSize: 2, updatesPerEpoch: 2, learningRate: 0.01, ...needs[method], ...train },
    ...more,
  });
}

/** Runs to the end, from a checkpoint if there is one. */
async function run(one: Case, checkpoints: string, resume: boolean): Promise<Hashes> {
  const recipe = recipeOf(one);
  const pipeline = one.shipped ? loadPipeline(findModel('emoji').path) : tinyPipeline(1);
  const { detector } = recipe as { detector?: string };
  const given = {
    ...context,
    prompts: (recipe.prompts as string[]).map((text) => ({ text, meta: null })),
    ...(detector !== undefined && { detector: openDetector(detector) }),
  };
  const training = methodOf(recipe).create(recipe, pipeline, given);
  const rows: object[] = [];
  const loaded = resume ? loadCheckpoint(checkpoints, { like: training.state() }) : undefined;
  if (loaded) training.load(loaded.state);
  for await (const event of training.run(loaded?.step ?? 0)) {
    if (event.kind !== 'step') continue;
    rows.push(event);
    if (event.step === 1 && one.resumed && !resume) saveCheckpoint(checkpoints, 1, training.state());
  }
  const images = await training.draw([{ prompt: 'a dog', seed: 7 }]);
  const hashes: Hashes = { metrics: hashOf(JSON.stringify(rows)), pictures: hashOf(images.toArray()) };
  if (resume) {
    const at = saveCheckpoint(checkpoints, 99, training.state()).path;
    hashes.state = hashOf(readFileSync(join(at, 'state.safetensors')), readFileSync(join(at, 'state.json')));
  }
  const adapters =
    one.train && 'unet' in one.train && one.train.unet === 'full'
      ? []
      : [await training.exportTo(checkpoints)];
  hashes.adapter = hashOf(...adapters.flat().map((file) => readFileSync(file)));
  images.free();
  training.free();
  free(Object.values(pipeline.parameters));
  return hashes;
}

/** Every training's name and what it ends with. */
export async function* trainings(): AsyncGenerator<{ name: string; hashes: Hashes; shipped: boolean }> {
  setThreads(1);
  for (const [name, one] of Object.entries(cases)) {
    const folder = mkdtempSync(join(tmpdir(), 'rldf-bytes-'));
    try {
      yield { name, hashes: await run(one, folder, false), shipped: one.shipped === true };
      if (one.resumed)
        yield { name: `${name} resumed`, hashes: await run(one, folder, true), shipped: false };
    } finally {
      rmSync(folder, { recursive: true });
    }
  }
}
