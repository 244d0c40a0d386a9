// What DiffExp changes in the pictures that a training would learn from, before any training: the shipped model draws training
// prompts at low, at high and at scheduled guidance, each with and without a word that counts more, from the same noise.
import type { Scene } from '@rldf/emoji-world';
import { type Detection, loadPipeline } from '@rldf/models';
import { cat, free, noGrad, noiseKey, Random, type Tensor } from '@rldf/torch';
import { findModel, loadReward, mean, quantile, scorePictures } from 'rldf';
import { loadJudges, meanPairwiseDistance } from 'rldf/eval';
import { behavioursOf, type EpochPrompt, type Explore, exploreSchema, rolloutBatches } from 'rldf/learning';
import { type OptionsOf, text, whole } from '../shared/options.js';
import { markdownTable } from '../shared/page.js';
import { promptsNamed } from '../shared/prompts.js';
import type { Result } from '../shared/rows.js';

const PROMPTS = 32;
const PICTURES = 8; // of each
const REWARDS = ['image-reward', 'preference'];
const SEED = 20;
const STEPS = 10;
const [LOW, HIGH] = [1, 4];
const RESAMPLES = 1000;

/** What stands in a table's cell: the value, its 95 % interval over prompts, and that of the difference from fixed high guidance. */
interface Measured {
  value: number;
  ci95: [low: number, high: number];
  differenceCi95: [low: number, high: number];
}

interface Arm {
  guidance: number;
  explore?: Explore;
}

const words = { words: { minimum: 1, maximum: 1.5 } };
const guidances: Record<string, { guidance: number; explore?: object }> = {
  'fixed high': { guidance: HIGH },
  'fixed low': { guidance: LOW },
  'low for 1 step': { guidance: HIGH, explore: { guidance: { low: LOW, steps: 1 } } },
  'low for 3 steps': { guidance: HIGH, explore: { guidance: { low: LOW, steps: 3 } } },
};
const arms: Record<string, Arm> = Object.fromEntries(
  Object.entries(guidances).flatMap(([name, { guidance, explore }]): [string, Arm][] => [
    [name, { guidance, ...(explore && { explore: exploreSchema.parse({ ...explore, share: 1 }) }) }],
    [`${name}, words`, { guidance, explore: exploreSchema.parse({ ...explore, ...words, share: 1 }) }],
  ]),
);
const reference = 'fixed high';

/** Of each prompt's pictures. */
interface Looked {
  /** Share of the objects asked for. */
  found: number[];
  /** By name. */
  rewards: Record<string, number[]>;
  features: number[][];
}

const best = (values: readonly number[]): number => Math.max(...values);

const measures: Record<string, (prompts: readonly Looked[]) => number> = {
  'objects there': (prompts) => mean(prompts.flatMap(({ found }) => found)),
  'all objects there': (prompts) =>
    mean(prompts.flatMap(({ found }) => found.map((share) => Number(share === 1)))),
  'a prompt has one picture with all': (prompts) =>
    mean(prompts.map(({ found }) => Number(best(found) === 1))),
  'diversity within a prompt': (prompts) =>
    mean(prompts.map(({ features }) => meanPairwiseDistance(features) ?? Number.NaN)),
  ...Object.fromEntries(
    REWARDS.flatMap((name) => {
      const of = ({ rewards }: Looked) => rewards[name] as number[];
      return [
        [`${name}: mean`, (prompts: readonly Looked[]) => mean(prompts.flatMap(of))],
        [
          `${name}: best of a prompt's pictures`,
          (prompts: readonly Looked[]) => mean(prompts.map((prompt) => best(of(prompt)))),
        ],
      ];
    }),
  ),
};

export const options = {
  prompts: text('NAME', 'kind of training prompts, or a set of them (`rldf prompts`); default: and'),
  pictures: whole(`of each prompt; default: ${PICTURES}`),
};

export async function run({
  prompts: named = 'and',
  pictures = PICTURES,
  say,
}: OptionsOf<typeof options>): Promise<Result> {
  const pipeline = loadPipeline(findModel('emoji').path);
  const { judges } = await loadJudges(['detector', 'features']);
  const rewards = await Promise.all(REWARDS.map((name) => loadReward(name)));
  const scenes = new Random(noiseKey(SEED, 'scenes')).shuffle(promptsNamed(named)).slice(0, PROMPTS);
  const chosen = scenes.flatMap(({ prompt, scene }, p) =>
    Array.from(
      { length: pictures },
      (_, i): EpochPrompt => ({ prompt: { text: prompt, meta: scene }, path: [p, i] }),
    ),
  );
  const texts = chosen.map(({ prompt }) => prompt.text);

  const look = async (images: Tensor): Promise<Looked[]> => {
    const detections = await judges.detect(images);
    const features = judges.features(images);
    const meta = chosen.map(({ prompt }) => prompt.meta);
    const scores: Record<string, readonly number[]> = {};
    for (const [r, reward] of rewards.entries())
      scores[REWARDS[r] as string] = (await scorePictures(reward, { images, prompts: texts, meta })).total;
    return scenes.map(({ scene }, p) => {
      const own = chosen.flatMap(({ path }, i) => (path[0] === p ? [i] : []));
      return {
        found: own.map((i) => shareFound(scene, detections[i] ?? [])),
        rewards: Object.fromEntries(
          REWARDS.map((name) => [name, own.map((i) => scores[name]?.[i] as number)]),
        ),
        features: own.map((i) => features[i] as number[]),
      };
    });
  };

  const looked: Record<string, Looked[]> = {};
  for (const [name, { guidance: guidanceScale, explore }] of Object.entries(arms)) {
    const recipe = { seed: SEED, epochs: 1, sample: { steps: STEPS, guidanceScale }, explore };
    const drawing = rolloutBatches(pipeline, {
      prompts: texts,
      behaviours: behavioursOf(recipe, pipeline.tokenizer, 0, chosen),
      negativePrompt: '',
      batchSize: 32,
      steps: STEPS,
      eta: 1,
    });
    let next = await drawing.next();
    while (!next.done) next = await drawing.next();
    const { value: rollouts } = next;
    const images = noGrad(() => cat(rollouts.map((part) => part.images))); // [B, H, W, 3]
    free(rollouts);
    looked[name] = await look(images);
    images.free();
    say(`${name}: drawn`);
  }

  const data = Object.fromEntries(
    Object.keys(arms).map((arm) => [
      arm,
      Object.fromEntries(
        Object.entries(measures).map(([measure, of]) => [
          measure,
          measured(of, looked[arm] as Looked[], looked[reference] as Looked[]),
        ]),
      ),
    ]),
  );
  const cell = ({ value, ci95, differenceCi95: [low, high] }: Measured) => {
    const shown = low > 0 || high < 0 ? `**${value.toFixed(3)}**` : value.toFixed(3);
    return `${shown} [${ci95.map((end) => end.toFixed(3)).join(', ')}]`;
  };
  const rows = Object.entries(data).map(([arm, of]) => [
    arm,
    ...Object.keys(measures).map((name) => cell(of[name] as Measured)),
  ]);
  const settings = {
    prompts: named,
    of: scenes.length,
    pictures,
    steps: STEPS,
    low: LOW,
    high: HIGH,
    rewards: REWARDS,
    seed: SEED,
  };
  return {
    data: { settings, arms: data },
    text: `${markdownTable(['guidance', ...Object.keys(measures)], rows)}\n`,
  };
}

/** Of the scene's objects, the share that was drawn: two of three cats are two thirds. */
function shareFound({ objects }: Scene, detections: readonly Detection[]): number {
  const left = detections.map(({ label }) => label);
  const found = objects.filter(({ noun }) => {
    const at = left.indexOf(noun);
    return at >= 0 && left.splice(at, 1).length > 0;
  });
  return found.length / objects.length;
}

/** A measure with its interval, prompts drawn again with replacement; the same draws for both arms. */
function measured(
  of: (prompts: readonly Looked[]) => number,
  own: readonly Looked[],
  other: readonly Looked[],
): Measured {
  const random = new Random(noiseKey(SEED, 'bootstrap'));
  const values: number[] = [];
  const differences: number[] = [];
  for (let resample = 0; resample < RESAMPLES; resample++) {
    const rows = own.map(() => random.integer(own.length));
    const [here, there] = [own, other].map((prompts) => of(rows.map((row) => prompts[row] as Looked)));
    values.push(here as number);
    differences.push((here as number) - (there as number));
  }
  const interval = (list: number[]): [number, number] => {
    const sorted = list.sort((a, b) => a - b);
    return [quantile(sorted, 0.025), quantile(sorted, 0.975)];
  };
  return { value: of(own), ci95: interval(values), differenceCi95: interval(differences) };
}
