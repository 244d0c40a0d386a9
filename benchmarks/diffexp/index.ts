// What DiffExp changes in the pictures that a training would learn from, before any training: the shipped model draws prompts
// of two nouns at low, at high and at scheduled guidance, each with and without a word that counts more, from the same noise.
import { promptScenes } from '@rldf/emoji-world';
import { loadPipeline } from '@rldf/models';
import { cat, free, noGrad, noiseKey, Random, type Tensor } from '@rldf/torch';
import { findModel, loadReward, mean, quantile, scorePictures } from 'rldf';
import { loadJudges, meanPairwiseDistance } from 'rldf/eval';
import { behavioursOf, type EpochPrompt, type Explore, exploreSchema, rolloutBatches } from 'rldf/learning';
import { type OptionsOf, whole } from '../shared/options.js';
import { markdownTable } from '../shared/page.js';
import type { Result } from '../shared/rows.js';

const PROMPTS = 32;
const PICTURES = 8; // of each
const REWARD = 'image-reward';
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
  secondObject: number[];
  bothObjects: number[];
  rewards: number[];
  features: number[][];
}

const measures: Record<string, (prompts: readonly Looked[]) => number> = {
  'second noun there': (prompts) => mean(prompts.flatMap(({ secondObject }) => secondObject)),
  'both nouns there': (prompts) => mean(prompts.flatMap(({ bothObjects }) => bothObjects)),
  'diversity within a prompt': (prompts) =>
    mean(prompts.map(({ features }) => meanPairwiseDistance(features) ?? Number.NaN)),
  '90th percentile of the reward': (prompts) =>
    quantile(
      prompts.flatMap(({ rewards }) => rewards).sort((a, b) => a - b),
      0.9,
    ),
  'mean reward': (prompts) => mean(prompts.flatMap(({ rewards }) => rewards)),
};

export const options = { pictures: whole(`of each prompt; default: ${PICTURES}`) };

export async function run({ pictures = PICTURES, say }: OptionsOf<typeof options>): Promise<Result> {
  const pipeline = loadPipeline(findModel('emoji').path);
  const { judges } = await loadJudges(['detector', 'features']);
  const reward = await loadReward(REWARD);
  const scenes = new Random(noiseKey(SEED, 'scenes')).shuffle(promptScenes('train', 'and')).slice(0, PROMPTS);
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
    const { total } = await scorePictures(reward, { images, prompts: texts, meta });
    return scenes.map(({ scene }, p) => {
      const own = chosen.flatMap(({ path }, i) => (path[0] === p ? [i] : []));
      const shows = (i: number, object: number) =>
        detections[i]?.some(({ label }) => label === scene.objects[object]?.noun) === true;
      return {
        secondObject: own.map((i) => Number(shows(i, 1))),
        bothObjects: own.map((i) => Number(shows(i, 0) && shows(i, 1))),
        rewards: own.map((i) => total[i] as number),
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
  const cell = ({ value, ci95 }: Measured) =>
    `${value.toFixed(3)} [${ci95.map((end) => end.toFixed(3)).join(', ')}]`;
  const rows = Object.entries(data).map(([arm, of]) => [
    arm,
    ...Object.keys(measures).map((name) => cell(of[name] as Measured)),
  ]);
  const settings = {
    prompts: PROMPTS,
    pictures,
    steps: STEPS,
    low: LOW,
    high: HIGH,
    reward: REWARD,
    seed: SEED,
  };
  return {
    data: { settings, arms: data },
    text: `${markdownTable(['guidance', ...Object.keys(measures)], rows)}\n`,
  };
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
