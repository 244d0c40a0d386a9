import { createHash } from 'node:crypto';
import { captionOf } from './caption.js';
import { nouns, paperAnimals, unseenAnimals } from './nouns.js';
import { canBeSeen, type Plan, placePlan } from './plan.js';
import { type PromptScene, promptScenes } from './prompts.js';
import { HashRandom, hashString } from './random.js';
import type { SceneKind } from './sample.js';
import { activities, type Background, backgrounds, type Colour, colours, relations } from './scene.js';
import { allowedIn, type Split, splitOfKey } from './split.js';

/** A prompt of a set, with one scene that it is true of. */
export interface SetPrompt extends PromptScene {
  /** What is compared within the set: a capability, a relation, a scene told in several ways. Empty where nothing is. */
  readonly group: string;
}

/** A frozen list of prompts, named after the paper whose experiment it serves. */
export interface PromptSet {
  readonly name: string;
  readonly description: string;
  /** Prompts of a training set may be fine-tuned on; all others are unseen. */
  readonly purpose: 'training' | 'evaluation';
  readonly prompts: readonly SetPrompt[];
  /** SHA-256, in hex, over its prompts and groups in order: the version of the set. */
  readonly hash: string;
}

interface Definition {
  readonly description: string;
  readonly purpose: PromptSet['purpose'];
  make(): SetPrompt[];
}

const SELF_PROMPTS = 100;
const BASE_PROMPTS = 2000;
const SPATIAL_TEST_PROMPTS = 400;
const PARAPHRASES = 4;
/** Pairs at the head of each split's list that sets of pairs alone have taken. */
const TAKEN_PAIRS = {
  train: SELF_PROMPTS + BASE_PROMPTS + 100,
  validation: 0,
  test: SPATIAL_TEST_PROMPTS + 50,
};

const training = (description: string, make: () => SetPrompt[]): Definition => ({
  description,
  purpose: 'training',
  make,
});
const evaluation = (description: string, make: () => SetPrompt[]): Definition => ({
  description,
  purpose: 'evaluation',
  make,
});

/**
 * Training sets hold prompts of the train split, evaluation sets of the test split, with one exception: DiffExp's lists
 * of animals and activities are the paper's, whole, and divide seen from unseen by their own words.
 */
const definitions: Readonly<Record<string, Definition>> = {
  'ip-rldf-self': training('IP-RLDF: pairs with a relation that the model draws and is corrected on', () =>
    pairPrompts('train', 0, SELF_PROMPTS),
  ),
  'ip-rldf-base': training(
    'IP-RLDF: pairs with a relation, other ones, whose first pictures are the anchor',
    () => pairPrompts('train', SELF_PROMPTS, BASE_PROMPTS),
  ),
  'ip-rldf-test': evaluation('IP-RLDF: pairs of nouns that no training set holds, with a relation', () =>
    pairPrompts('test', 0, SPATIAL_TEST_PROMPTS),
  ),
  'diffexp-animals': training('DDPO and DiffExp: the 45 animals', () => animalPrompts(paperAnimals)),
  'diffexp-activities': training('DDPO and DiffExp: the 45 animals at three activities', () =>
    activityPrompts(activities.slice(0, 3)),
  ),
  'diffexp-unseen-animals': evaluation('DiffExp: six other animals', () => animalPrompts(unseenAnimals)),
  'diffexp-unseen-activities': evaluation('DiffExp: the 45 animals at three other activities', () =>
    activityPrompts(activities.slice(3)),
  ),
  'hard-train': training(
    'conflicting attributes, coloured counts, coloured pairs; in size DiffExp’s DrawBench set',
    () => hardPrompts('train', { conflict: 18, count: 20, composition: 20 }),
  ),
  'hard-unseen': evaluation('the same kinds, other combinations; in size DiffExp’s Parti set', () =>
    hardPrompts('test', { conflict: 50, count: 50, composition: 50 }),
  ),
  'texforce-seen': training(
    'TexForce and DPOK: a phrase for colour, composition, count and location each',
    () => capabilities('seen'),
  ),
  'texforce-unseen': evaluation('TexForce and DPOK: another phrase for each capability', () =>
    capabilities('unseen'),
  ),
  'long-train': training('several clauses: colours, two nouns, a background, a style', () =>
    ofKind('train', 'long', 300),
  ),
  'long-test': evaluation('several clauses, other combinations', () => ofKind('test', 'long', 100)),
  'paraphrases-train': training(
    `60 scenes told in ${PARAPHRASES} ways each; the group is the plain way`,
    () => paraphrases('train', 60),
  ),
  'paraphrases-test': evaluation(`40 other scenes told in ${PARAPHRASES} ways each`, () =>
    paraphrases('test', 40),
  ),
  'eval-single': evaluation('every noun alone', () => ofKind('test', 'single')),
  'eval-colour': evaluation('a noun in a colour', () => ofKind('test', 'colour', 120)),
  'eval-count': evaluation('two to four of a noun, on white and elsewhere', () => countPrompts(100)),
  'eval-mixed': evaluation('sixteen of each kind of scene', () => mixedPrompts(16)),
};

export const promptSetNames: readonly string[] = Object.keys(definitions);

const cache = new Map<string, PromptSet>();

/** @throws {Error} if there is no set of that name. */
export function promptSet(name: string): PromptSet {
  const known = cache.get(name);
  if (known !== undefined) return known;
  const definition = Object.hasOwn(definitions, name) ? definitions[name] : undefined;
  if (definition === undefined) {
    throw new Error(`promptSet: no set "${name}" — the sets are ${promptSetNames.join(', ')}.`);
  }
  const { description, purpose } = definition;
  const prompts = definition.make();
  const text = prompts.map(({ prompt, group }) => `${prompt}\t${group}\n`).join('');
  const hash = createHash('sha256').update(text).digest('hex');
  const set: PromptSet = { name, description, purpose, prompts, hash };
  cache.set(name, set);
  return set;
}

/** A plan's canonical prompt with a scene that depends on the plan alone. */
function told(plan: Plan, group = ''): SetPrompt {
  const scene = placePlan(plan, new HashRandom(hashString(JSON.stringify(plan))));
  return { prompt: captionOf(scene), scene, group };
}

/** The first `most` canonical prompts of a kind, which `promptScenes` has shuffled. */
function ofKind(split: Split, kind: SceneKind, most?: number): SetPrompt[] {
  return promptScenes(split, kind)
    .slice(0, most)
    .map((prompt) => ({ ...prompt, group: '' }));
}

/** Sorted by hash: the first n are a fair sample. */
function shuffled<T>(items: readonly T[], keyOf: (item: T) => string): T[] {
  return items
    .map((item) => ({ item, key: keyOf(item) }))
    .map(({ item, key }) => ({ item, key, order: hashString(`set/${key}`) }))
    .sort((a, b) => a.order - b.order || (a.key < b.key ? -1 : 1))
    .map(({ item }) => item);
}

/** Unordered pairs of nouns that belong to a split, each in a random order of its own. */
function pairsOf(split: Split): [string, string][] {
  const names = nouns.map(({ name }) => name).sort();
  const pairs = names.flatMap((a, i) => names.slice(i + 1).map((b): [string, string] => [a, b]));
  const own = pairs.filter(([a, b]) => splitOfKey(`pair/${a}/${b}`) === split);
  return shuffled(own, (pair) => pair.join('/')).map(([a, b]) =>
    hashString(`turn/${a}/${b}`) % 2 === 0 ? [a, b] : [b, a],
  );
}

/** Each with a pair of its own; the four relations equally often. */
function pairPrompts(split: Split, skip: number, most: number): SetPrompt[] {
  return pairsOf(split)
    .slice(skip, skip + most)
    .map(([a, b], index) => {
      const relation = relations[index % relations.length] as (typeof relations)[number];
      return told(
        { subjects: [{ noun: a }, { noun: b }], count: 1, background: 'white', relation },
        relation,
      );
    });
}

function animalPrompts(animals: typeof paperAnimals): SetPrompt[] {
  return animals.map(({ name }) => told({ subjects: [{ noun: name }], count: 1, background: 'white' }));
}

function activityPrompts(chosen: readonly (typeof activities)[number][]): SetPrompt[] {
  return chosen.flatMap((activity) =>
    paperAnimals.map(({ name }) =>
      told({ subjects: [{ noun: name }], count: 1, background: 'white', activity }, activity),
    ),
  );
}

/** DPOK's four phrases, in words of this world that the splits deal to train and to test. */
function capabilities(which: 'seen' | 'unseen'): SetPrompt[] {
  const phrases: Record<string, { seen: Plan; unseen: Plan }> = {
    colour: {
      seen: { subjects: [{ noun: 'dog', colour: 'green' }], count: 1, background: 'white' },
      unseen: { subjects: [{ noun: 'chicken', colour: 'green' }], count: 1, background: 'white' },
    },
    composition: {
      seen: { subjects: [{ noun: 'cat' }, { noun: 'cup' }], count: 1, background: 'white' },
      unseen: { subjects: [{ noun: 'cat' }, { noun: 'lion' }], count: 1, background: 'white' },
    },
    count: {
      seen: { subjects: [{ noun: 'wolf' }], count: 4, background: 'grass' },
      unseen: { subjects: [{ noun: 'deer' }], count: 4, background: 'grass' },
    },
    location: {
      seen: { subjects: [{ noun: 'dog' }], count: 1, background: 'snow' },
      unseen: { subjects: [{ noun: 'fox' }], count: 1, background: 'snow' },
    },
  };
  return Object.entries(phrases).map(([group, plans]) => told(plans[which], group));
}

/** Nouns that everybody knows in one colour and at home in some places. */
const AT_HOME: readonly [noun: string, colour: Colour, places: readonly Background[]][] = [
  ['banana', 'yellow', []],
  ['strawberry', 'red', ['grass']],
  ['carrot', 'orange', ['grass']],
  ['tangerine', 'orange', []],
  ['broccoli', 'green', ['grass']],
  ['tree', 'green', ['grass']],
  ['cactus', 'green', ['sand']],
  ['frog', 'green', ['grass', 'sea']],
  ['crocodile', 'green', ['sea', 'sand']],
  ['pig', 'pink', ['grass']],
  ['lobster', 'red', ['sea']],
  ['whale', 'blue', ['sea']],
  ['dolphin', 'blue', ['sea']],
  ['shark', 'blue', ['sea']],
  ['fish', 'blue', ['sea']],
  ['lion', 'orange', ['sand', 'grass']],
  ['tiger', 'orange', ['grass']],
  ['camel', 'brown', ['sand']],
  ['bear', 'brown', ['grass', 'snow']],
  ['heart', 'red', []],
  ['sun', 'yellow', ['sky']],
  ['moon', 'yellow', ['night', 'sky']],
  ['crown', 'yellow', []],
  ['sheep', 'white', ['grass']],
];

const elsewhere = backgrounds.filter((background) => background !== 'white');

function hardPrompts(
  split: Split,
  counts: { conflict: number; count: number; composition: number },
): SetPrompt[] {
  const conflict = AT_HOME.flatMap(([noun, own, places]) =>
    colours
      .filter((colour) => colour !== own)
      .flatMap((colour) =>
        elsewhere
          .filter((background) => !places.includes(background))
          .map((background): Plan => ({ subjects: [{ noun, colour }], count: 1, background })),
      ),
  );
  const count = nouns.flatMap(({ name }) =>
    [2, 3, 4].flatMap((many) =>
      colours.map((colour): Plan => {
        const background = elsewhere[
          hashString(`${colour}/${name}/${many}`) % elsewhere.length
        ] as Background;
        return { subjects: [{ noun: name, colour }], count: many, background };
      }),
    ),
  );
  const composition = pairsOf(split)
    .slice(TAKEN_PAIRS[split])
    .map(([a, b], index): Plan => {
      const random = new HashRandom(hashString(`composition/${a}/${b}`));
      const [first, second] = random.sample(colours, 2) as [Colour, Colour];
      const subjects = [
        { noun: a, colour: first },
        { noun: b, colour: second },
      ];
      const relation = relations[index % relations.length] as (typeof relations)[number];
      return { subjects, count: 1, background: random.choice(elsewhere), relation };
    });
  const drawn = (group: keyof typeof counts, plans: readonly Plan[]) =>
    shuffled(
      plans.filter((plan) => canBeSeen(plan) && allowedIn(split, plan)),
      (plan) => JSON.stringify(plan),
    )
      .slice(0, counts[group])
      .map((plan) => told(plan, group));
  return [...drawn('conflict', conflict), ...drawn('count', count), ...drawn('composition', composition)];
}

/** Plain groups first, then groups on a background, the numbers mixed. */
function countPrompts(most: number): SetPrompt[] {
  const plain = ofKind('test', 'count').map((prompt) => ({ ...prompt, group: 'plain' }));
  const plans = nouns.flatMap(({ name }) =>
    [2, 3, 4].flatMap((count) =>
      elsewhere.map((background): Plan => ({ subjects: [{ noun: name }], count, background })),
    ),
  );
  const placed = shuffled(
    plans.filter((plan) => allowedIn('test', plan)),
    (plan) => JSON.stringify(plan),
  )
    .slice(0, most - plain.length)
    .map((plan) => told(plan, 'background'));
  return [...plain, ...placed];
}

function mixedPrompts(each: number): SetPrompt[] {
  const grouped = (group: string, prompts: readonly SetPrompt[]) =>
    prompts.slice(0, each).map((prompt) => ({ ...prompt, group }));
  const kinds = ['single', 'colour', 'background', 'count', 'style', 'long'] as const;
  const pairs = pairsOf('test').slice(SPATIAL_TEST_PROMPTS);
  const and = pairs
    .slice(0, each)
    .map(([a, b]) => told({ subjects: [{ noun: a }, { noun: b }], count: 1, background: 'white' }));
  return [
    ...kinds.flatMap((kind) => grouped(kind, ofKind('test', kind, each))),
    ...grouped('and', and),
    ...grouped('relation', pairPrompts('test', SPATIAL_TEST_PROMPTS + each, each)),
  ];
}

const unseenNames = new Set(unseenAnimals.map(({ name }) => name));

/** Scenes of four kinds in turn, each told in different words of one meaning: nothing is left out. */
function paraphrases(split: Split, scenes: number): SetPrompt[] {
  const share = scenes / 4;
  const chosen = [
    ...ofKind(split, 'single')
      .filter(({ scene }) => !unseenNames.has((scene.objects[0] as { noun: string }).noun))
      .slice(0, share),
    ...ofKind(split, 'background', share),
    ...ofKind(split, 'colour', share),
    ...pairPrompts(split, split === 'train' ? SELF_PROMPTS + BASE_PROMPTS : SPATIAL_TEST_PROMPTS + 32, share),
  ];
  return chosen.flatMap(({ prompt, scene }) => {
    const ways = new Set([prompt]);
    for (let variant = 1 + (hashString(prompt) % 1e6); ways.size < PARAPHRASES; variant++) {
      ways.add(captionOf(scene, variant, { partial: false }));
    }
    return [...ways].map((way): SetPrompt => ({ prompt: way, scene, group: prompt }));
  });
}
