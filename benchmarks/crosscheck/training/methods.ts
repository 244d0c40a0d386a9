import {
  type Detection,
  type Detector,
  initialNoiseKeys,
  latentShape,
  NoiseSchedule,
  type Pipeline,
  TEXT_ATTENTION,
  UNET_ATTENTION,
} from '@rldf/models';
import {
  keep,
  noiseKey,
  normal,
  Random,
  type StateDict,
  stack,
  type Tensor,
  tensor,
  zeros,
} from '@rldf/torch';
import {
  askedOf,
  behavioursOf,
  checkRecipe,
  createIpRldf,
  drawNoising,
  dropped,
  followedSteps,
  labelOf,
  loadGrammar,
  methodOf,
  pictureSeed,
  promptsOfEpoch,
} from 'rldf/training';
import { type Case, type CaseOf, UPDATES } from './comparison.js';
import { copies, integers, SEED } from './fitting.js';
import {
  awaken,
  contextOf,
  drawn,
  idsOf,
  learned,
  type Made,
  pattern,
  prompts,
  put,
  type Recipe,
  rewardOf,
  shuffled,
  tinyModel,
  WORDS,
} from './tiny.js';

const sample = {
  steps: 3,
  promptsPerEpoch: 2,
  picturesPerPrompt: 4,
  batchSize: 4,
  guidanceScale: 3,
};
const PICTURES = sample.promptsPerEpoch * sample.picturesPerPrompt;
const train = {
  rank: 2,
  alpha: 3,
  batchSize: 3, // micro-batches of unequal size
  updatesPerEpoch: 1,
  learningRate: 3e-4,
  weightDecay: 0.2,
  maxGradNorm: 0.05,
};
/** In the other side's words. */
const options = {
  learningRate: train.learningRate,
  weightDecay: train.weightDecay,
  maxGradNorm: train.maxGradNorm,
  betas: [0.9, 0.999],
};

interface Setting {
  name: string;
  ask: string;
  recipe: { method: string; epochs: number; train?: object; sample?: object; [key: string]: unknown };
  /** What the other side is told beside what all are. */
  told: Record<string, unknown>;
  /** Whether the text encoder learns too. */
  text?: boolean;
  /** The metric that is compared. */
  loss: string;
  /** Further data of an epoch. */
  epochData?(epoch: number, made: Made): Record<string, Tensor>;
  limits?: Case['limits'];
}

const method = (setting: Setting): CaseOf => (context) => {
  const { name, ask, told, text = false, loss } = setting;
  const { folder, pipeline } = tinyModel(context, setting.name);
  const given = setting.recipe;
  const recipe = checkRecipe({
    prompts: WORDS,
    reward: 'aesthetic', // not loaded: the context scores
    ...given,
    seed: SEED,
    sample: { ...sample, ...given.sample },
    train: { ...train, ...(text ? { textEncoder: 'lora' } : {}), ...given.train },
  }) as Recipe;
  const wanted = pattern();
  const training = methodOf(recipe).create(recipe, pipeline, contextOf(wanted));
  const own = learned(training, pipeline, text);
  awaken(own);
  const data: StateDict = new Map([['pattern', wanted], ['empty', keep(idsOf(pipeline, ['']))]]);
  for (let epoch = 0; epoch < given.epochs; epoch++) {
    const chosen = promptsOfEpoch(prompts, { seed: SEED, epoch, ...sample });
    const made = { recipe, pipeline, chosen, behaviours: behavioursOf(recipe as never, pipeline.tokenizer, epoch, chosen) };
    put(data, `${epoch}.`, () => ({
      ...drawn(made),
      rewards: tensor(chosen.map((_, i) => rewardOf(epoch, i)), { dtype: 'float64' }),
      ...setting.epochData?.(epoch, made),
    }));
  }
  put(data, 'base.', () => (given.method === 'refl' ? basePictures(recipe, pipeline) : {}));
  return {
    name,
    question: {
      ask,
      method: given.method,
      model: folder,
      ...{ steps: sample.steps, guidance: sample.guidanceScale, eta: (recipe.sample as { eta: number }).eta },
      ...{ rank: train.rank, alpha: train.alpha, targets: UNET_ATTENTION, textTargets: text ? TEXT_ATTENTION : null },
      epochs: given.epochs,
      options,
      ...told,
    },
    start: copies(own),
    data,
    async train() {
      const losses: number[] = [];
      const norms: number[] = [];
      for await (const event of training.run(0)) {
        if (event.kind !== 'step') continue;
        losses.push(event.metrics[loss] as number);
        norms.push(event.metrics['gradient/norm'] as number);
      }
      const weights = copies(learned(training, pipeline, text));
      training.free();
      return { losses, norms, weights };
    },
    limits: setting.limits ?? {},
  };
}; // biome-ignore format: rows of related things

// ---- data of the methods

/** Timesteps and noise of every picture of an epoch, or of every two. */
function noisings({ pipeline, chosen }: Made, epoch: number, pairs: boolean): Record<string, Tensor> {
  const schedule = new NoiseSchedule(pipeline.schedulerConfig);
  const paths = chosen.map(({ path }) => [epoch, ...path]);
  const both = paths.flatMap((a) => paths.map((b) => [...a, b.at(-1) as number, 0]));
  const chosenPaths = pairs ? both : paths.map((path) => [...path, 0]);
  const shape = latentShape(pipeline);
  const { timesteps, noise } = drawNoising(
    schedule,
    zeros([chosenPaths.length, ...shape]),
    SEED,
    chosenPaths,
  );
  if (!pairs) return { timesteps: integers(timesteps), noise };
  const square = [PICTURES, PICTURES];
  return {
    'pair.timesteps': integers(timesteps).reshape(square),
    'pair.noise': noise.reshape([...square, ...shape]),
  };
}

function lessons(epoch: number, made: Made, count: number): Record<string, Tensor> {
  const missing = made.chosen.map(({ prompt, path }) =>
    dropped(prompt.text, SEED, [epoch, ...path, 0], 0.3) === null ? 1 : 0,
  );
  return {
    'order.0': shuffled(SEED, epoch, 0, count),
    dropped: integers(missing),
    ...noisings(made, epoch, false),
  };
}

const value = { learningRate: 1e-3, updates: 3, batchSize: 16, width: 12 };

function valueBatches(epoch: number): Record<string, Tensor> {
  const batches = Array.from({ length: value.updates }, (_, update) => {
    const random = new Random(noiseKey(SEED, 'value batch', epoch, update));
    const rows = Array.from({ length: value.batchSize }, () => random.integer(PICTURES));
    return { rows, steps: rows.map(() => random.integer(sample.steps)) };
  });
  return {
    'value.rows': stack(batches.map(({ rows }) => integers(rows))),
    'value.steps': stack(batches.map(({ steps }) => integers(steps))),
  };
}

const LATE = 2;
const BASE_PICTURES = 3;

/** ReFL's pictures of before the training. */
function basePictures(_: Recipe, pipeline: Pipeline): Record<string, Tensor> {
  const order = new Random(noiseKey(SEED, 'pretraining prompts')).shuffle(WORDS);
  const seeds = Array.from({ length: BASE_PICTURES }, (_, i) => 3_000_000 + i);
  return {
    ids: idsOf(pipeline, order.slice(0, BASE_PICTURES)),
    start: normal(initialNoiseKeys(seeds), latentShape(pipeline)),
  };
}

const policy = { clipNats: 0.3, innerEpochs: 1, updatesPerEpoch: 1, klWeight: 0 };
const statistics = { bufferSize: 12, minimumCount: 6 };

const ddpo = (name: string, inner: number, text: boolean): CaseOf =>
  method({
    name,
    ask: 'policy_gradient',
    recipe: {
      method: 'ddpo',
      epochs: UPDATES / inner,
      train: {
        clipNats: policy.clipNats,
        innerEpochs: inner,
        promptStatistics: statistics,
        advantageClip: 1.2,
      },
    },
    told: { ...policy, ...statistics, innerEpochs: inner, advantageClip: 1.2 },
    text,
    loss: 'loss/policy',
    epochData: (epoch) =>
      Object.fromEntries(
        Array.from({ length: inner }, (_, pass) => [`order.${pass}`, shuffled(SEED, epoch, pass, PICTURES)]),
      ),
  });

const weighted = (name: string, recipe: Setting['recipe'], told: Setting['told'], count: number): CaseOf =>
  method({
    name,
    ask: 'weighted',
    recipe: {
      ...recipe,
      train: { innerEpochs: 1, captionDropout: recipe.method === 'dpo' ? 0 : 0.3, ...recipe.train },
    },
    told,
    loss: 'loss/weighted',
    epochData: (epoch, made) => ({
      ...lessons(epoch, made, count),
      ...(recipe.method === 'dpo' ? noisings(made, epoch, true) : {}),
    }),
  });

const climbing = (name: string, recipe: Setting['recipe'], told: Setting['told'] = {}, text = false): CaseOf =>
  method({
    name,
    ask: 'reward_gradient',
    recipe,
    told,
    text,
    loss: 'loss/reward',
    epochData: (_epoch, { recipe: whole, behaviours, pipeline }) => {
      const shape = latentShape(pipeline);
      const steps = Array.from({ length: sample.steps }, (_, step) => step);
      switch (recipe.method) {
        case 'alignprop':
        case 'draft-k': {
          const followed = (b: (typeof behaviours)[number]) =>
            recipe.method === 'alignprop' ? followedSteps(whole as never, b) : new Set(steps.slice(-2));
          return {
            followed: integers(behaviours.flatMap((b) => steps.map((step) => (followed(b).has(step) ? 1 : 0)))).reshape([PICTURES, sample.steps]),
          };
        }
        case 'draft-lv':
          return {
            again: stack([0, 1].map((which) => normal(behaviours.map((b) => noiseKey(b.seed, 'noised again', ...b.path, which)), shape))),
          };
        default: {
          const late = (b: (typeof behaviours)[number]) => sample.steps - 1 - new Random(noiseKey(SEED, 'late step', ...b.path)).integer(LATE);
          const index = behaviours.map((b) => new Random(noiseKey(SEED, 'pretraining picture', ...b.path)).integer(BASE_PICTURES));
          const { timesteps, noise } = drawNoising(new NoiseSchedule(pipeline.schedulerConfig), zeros([PICTURES, ...shape]), SEED, behaviours.map(({ path }) => path));
          return { late: integers(behaviours.map(late)), 'base.index': integers(index), timesteps: integers(timesteps), noise };
        }
      }
    },
  }); // biome-ignore format: a line a thing

// ---- IP-RLDF draws in rounds, with a detector

const rounds = { rounds: 2, epochs: 5, updatesPerEpoch: 2, rescale: 0.4, roundDecay: 0.6 };
const ASKED = ['a cat to the left of a dog', 'a dog above a cat'];

/** Every third picture shows what its prompt asks for, every fifth nothing, the others something else. */
function seenIn(round: number, row: number): Detection[] {
  if ((row + round) % 5 === 4) return [];
  const at = (label: string, x: number, y: number): Detection => ({
    label,
    score: 0.9,
    box: [x, y, x + 2, y + 2],
  });
  const left = row < 4 ? 'cat' : 'dog';
  const right = row < 4 ? 'dog' : 'cat';
  const matching = row < 4 ? [at(left, 0, 3), at(right, 5, 3)] : [at(left, 3, 0), at(right, 3, 5)];
  return (row + round) % 3 === 0 ? matching : [at(right, 0, 3), at(left, 5, 3)];
}

const ipRldf: CaseOf = (context) => {
  const name = 'IP-RLDF';
  const { folder, pipeline } = tinyModel(context, name);
  const recipe = checkRecipe({
    method: 'ip-rldf',
    prompts: ASKED,
    reward: 'aesthetic',
    seed: SEED,
    detector: 'detector',
    ...{ rounds: rounds.rounds, epochs: rounds.epochs, rescale: rounds.rescale },
    sample: { ...sample, picturesPerStep: PICTURES, batchSize: PICTURES, eta: 0 },
    train: { ...train, updatesPerEpoch: rounds.updatesPerEpoch, updatesPerStep: 1, roundDecay: rounds.roundDecay, captionDropout: 0 },
  }) as Recipe;
  let round = 0;
  const detector: Detector = {
    labels: ['cat', 'dog'],
    detect: (images) => {
      const found = Array.from({ length: images.shape[0] as number }, (_, row) => seenIn(round, row));
      round++;
      return found;
    },
  };
  const given = ASKED.map((text) => ({ text, meta: null }));
  const trainingContext = { ...contextOf(pattern()), prompts: given };
  const training = createIpRldf(recipe as never, pipeline, trainingContext, detector);
  const own = learned(training, pipeline, false);
  awaken(own);
  const grammar = loadGrammar('spatial');
  const texts = Array.from({ length: PICTURES }, (_, row) => ASKED[Math.floor(row / sample.picturesPerPrompt)] as string);
  const schedule = new NoiseSchedule(pipeline.schedulerConfig);
  const shape = latentShape(pipeline);
  const data: StateDict = new Map([['empty', keep(idsOf(pipeline, ['']))]]);
  for (let r = 0; r < rounds.rounds; r++) {
    const labels = texts.map((text, row) => labelOf({ relabel: true, rescale: rounds.rescale }, grammar, text, askedOf(grammar, text), seenIn(r, row)));
    const kept = labels.flatMap(({ weight }, row) => (weight > 0 ? [row] : []));
    put(data, `${r}.`, () => ({
      ids: idsOf(pipeline, texts),
      start: normal(initialNoiseKeys(texts.map((_, row) => pictureSeed(SEED, r, row))), shape),
      captions: idsOf(pipeline, labels.map(({ caption }) => caption)),
      matches: integers(labels.map(({ matches }) => (matches ? 1 : 0))),
      ...Object.fromEntries(
        Array.from({ length: rounds.epochs }, (_, epoch) => {
          const order = new Random(noiseKey(SEED, 'round order', r, epoch)).shuffle(kept);
          const paths = texts.map((_, row) => [r, epoch, row]);
          const { timesteps, noise } = drawNoising(schedule, zeros([PICTURES, ...shape]), SEED, paths);
          return [[`${epoch}.order`, integers(order)], [`${epoch}.timesteps`, integers(timesteps)], [`${epoch}.noise`, noise]] as const;
        }).flat(),
      ),
    }));
  }
  return {
    name,
    question: {
      ask: 'relabelled',
      model: folder,
      ...{ steps: sample.steps, guidance: sample.guidanceScale, rank: train.rank, alpha: train.alpha, targets: UNET_ATTENTION },
      options,
      ...rounds,
    },
    start: copies(own),
    data,
    async train() {
      const losses: number[] = [];
      const norms: number[] = [];
      for await (const event of training.run(0)) {
        const loss = event.kind === 'step' ? event.metrics['loss/weighted'] : undefined;
        if (event.kind !== 'step' || loss === undefined) continue;
        losses.push(loss);
        norms.push(event.metrics['gradient/norm'] as number);
      }
      const weights = copies(learned(training, pipeline, false));
      training.free();
      return { losses, norms, weights };
    },
  };
}; // biome-ignore format: rows of related things

export const methodCases: Record<string, CaseOf> = {
  ddpo: ddpo('DDPO', 1, false),
  'ddpo-twice': ddpo('DDPO, two passes, text encoder too', 2, true),
  dpok: method({
    name: 'DPOK with its value network',
    ask: 'policy_gradient',
    recipe: { method: 'dpok', epochs: UPDATES, train: { clipNats: policy.clipNats, klWeight: 0.5, rewardWeight: 10, value } },
    told: { ...policy, klWeight: 0.5, rewardWeight: 10, value: { ...value, inputs: 4 * 4 * 4 + 16, steps: sample.steps } },
    loss: 'loss/policy',
    epochData: (epoch) => ({ 'order.0': shuffled(SEED, epoch, 0, PICTURES), ...valueBatches(epoch) }),
  }),
  rwr: weighted('RWR', { method: 'rwr', epochs: UPDATES, train: { temperature: 0.5 } }, { temperature: 0.5 }, PICTURES),
  raft: weighted('RAFT', { method: 'raft', epochs: UPDATES, train: { best: 2 } }, { best: 2 }, 2 * sample.promptsPerEpoch),
  dpo: weighted('Diffusion-DPO', { method: 'dpo', epochs: UPDATES, train: { beta: 50 } }, { beta: 50 }, sample.promptsPerEpoch),
  'ip-rldf': ipRldf,
  alignprop: climbing('AlignProp, text encoder too', { method: 'alignprop', epochs: UPDATES, train: { window: { kind: 'uniform' } } }, {}, true),
  'draft-k': climbing('DRaFT-K', { method: 'draft-k', epochs: UPDATES, train: { gradientSteps: 2 } }),
  'draft-lv': climbing('DRaFT-LV', { method: 'draft-lv', epochs: UPDATES, train: { noisings: 2 } }),
  refl: climbing(
    'ReFL',
    { method: 'refl', epochs: UPDATES, train: { lateSteps: LATE, guided: false, rewardMap: 'relu', rewardTarget: 2, rewardScale: 0.7, pretraining: { weight: 0.3, pictures: BASE_PICTURES } } },
    { rewardTarget: 2, rewardScale: 0.7, pretraining: 0.3 },
  ),
}; // biome-ignore format: a line each
