// docs: docs/methods/ip-rldf.md · paper: Ge et al. 2023, "Iterative Prompt Relabeling for diffusion model with RLDF", section 4.3, equations 4 and 6
import { nouns, parseCaption } from '@rldf/emoji-world';
import { type Detection, type GroundedObject, MOST_OBJECTS } from '@rldf/models';
import type { Random } from '@rldf/torch';
import { UserError } from '@rldf/torch/errors';
import { askedInLabels, formsOf, wordsOf } from '../prompts/label-nouns.js';
import { extents, measures, type RelabelGrammar, type RelationRule } from './grammar.js';

/** What a prompt asks for. */
export interface Asked {
  /** How many of each noun, in the prompt's order. */
  counts: ReadonlyMap<string, number>;
  /** The name of a relation of the grammar, between the first noun and the second. */
  relation?: string;
}

export interface Verdict {
  /** Whether the picture shows what its prompt asks for: these objects, no others, in this relation. */
  matches: boolean;
  /** A caption that is true of the boxes. The prompt's clauses that boxes say nothing about are left out. */
  caption: string;
}

/**
 * What a prompt asks for, in the grammar's own words, in those of the built-in world, or in those of a detector's labels.
 * @param labels of the detector that will look, if it knows other things than the built-in world has
 * @throws UserError for a prompt that names what the detector does not know, or for a prompt that says neither how many of what, nor where, or where in words that the grammar lacks
 */
export function askedOf(grammar: RelabelGrammar, prompt: string, labels?: readonly string[]): Asked {
  if (labels === undefined) return askedOfWorld(grammar, prompt);
  const told = askedInLabels(prompt, wordsOf(labels));
  if (told === undefined)
    throw new UserError(
      `relabel: the prompt "${prompt}" names something else than the detector's ${labels.length} labels (${labels.slice(0, 8).join(', ')}, ...), or says it otherwise — it works on prompts such as "a cat to the left of a dog", "two cats" or "a photo of a cat and a dog". Choose other prompts, or another detector`,
    );
  return told.relation === undefined
    ? told
    : { ...told, relation: inGrammar(grammar, prompt, told.relation) };
}

function askedOfWorld(grammar: RelabelGrammar, prompt: string): Asked {
  for (const [relation, { say }] of Object.entries(grammar.relations)) {
    const pair = nounsAround(say, prompt.trim().toLowerCase());
    if (pair !== undefined) return { counts: new Map(pair.map((noun) => [noun, 1])), relation };
  }
  const plan = parseCaption(prompt);
  if (plan === undefined || plan.activity !== undefined || plan.people !== undefined) {
    throw new UserError(
      `relabel: the prompt "${prompt}" ${plan === undefined ? 'is no sentence of the built-in world' : 'asks for more than boxes tell'} — ` +
        'it works on prompts such as "a cat to the left of a dog", "two cats" or "a cat and a dog". Choose other prompts (`rldf world --prompts relation`)',
    );
  }
  const counts = new Map(plan.subjects.map(({ noun }) => [noun, plan.count]));
  const { relation } = plan;
  return relation === undefined ? { counts } : { counts, relation: inGrammar(grammar, prompt, relation) };
}

/** @throws UserError for a relation that the grammar does not tell */
function inGrammar(grammar: RelabelGrammar, prompt: string, relation: string): string {
  if (Object.hasOwn(grammar.relations, relation)) return relation;
  const known = Object.keys(grammar.relations);
  throw new UserError(
    `relabel: the prompt "${prompt}" asks for a relation (${relation}) that the grammar does not tell — it tells ${known.join(', ') || 'none'}, so a picture with the objects elsewhere would count as right. Set grammar: spatial, or choose prompts without a relation (\`rldf world --prompts count\`)`,
  );
}

/**
 * Compares a picture's boxes with what its prompt asks for, and tells them.
 *
 * A relation is told of two objects, one of each noun: the one asked for if it holds, else the one that does, by the same
 * measure if possible. Everything else is told as counts.
 * @returns undefined when nothing was found that could be told
 */
export function judge(
  grammar: RelabelGrammar,
  asked: Asked,
  detections: readonly Detection[],
): Verdict | undefined {
  const seen = detections.filter(({ label }) => grammar.objects === 'all' || asked.counts.has(label));
  if (seen.length === 0) return undefined;
  const counts = countsOf(asked, seen);
  const numberRight =
    counts.size === asked.counts.size &&
    [...counts].every(([noun, count]) => asked.counts.get(noun) === count);
  const relation =
    numberRight && asked.relation !== undefined ? relationThatHolds(grammar, asked, seen) : undefined;
  const phrases = [...counts].map(([noun, count]) => phraseOf(grammar, noun, count));
  const caption =
    relation === undefined
      ? phrases.join(grammar.counts.between)
      : fill(ruleOf(grammar, relation).say, { a: phrases[0] as string, b: phrases[1] as string });
  return { matches: numberRight && relation === asked.relation, caption };
}

/** The asked nouns first, in their order, then others as they were found. */
function countsOf(asked: Asked, seen: readonly Detection[]): Map<string, number> {
  const counts = new Map<string, number>();
  for (const noun of [...asked.counts.keys(), ...seen.map(({ label }) => label)]) {
    const count = seen.filter(({ label }) => label === noun).length;
    if (count > 0) counts.set(noun, count);
  }
  return counts;
}

/** The relation that holds between the one object of each noun. */
function relationThatHolds(
  grammar: RelabelGrammar,
  asked: Asked,
  seen: readonly Detection[],
): string | undefined {
  const [a, b] = [...asked.counts.keys()].map(
    (noun) => seen.find(({ label }) => label === noun) as Detection,
  );
  const own = ruleOf(grammar, asked.relation as string);
  const rank = (name: string) =>
    name === asked.relation ? 0 : ruleOf(grammar, name).measure === own.measure ? 1 : 2;
  return Object.keys(grammar.relations)
    .toSorted((one, other) => rank(one) - rank(other))
    .find((name) => holds(ruleOf(grammar, name), a as Detection, b as Detection, grammar.margin));
}

const ruleOf = (grammar: RelabelGrammar, name: string) => grammar.relations[name] as RelationRule;

/**
 * Strictly, as in the paper's code, or by a margin, as in GenEval (Ghosh et al. 2023, arXiv 2310.11513: 0.1): of two
 * objects side by side one is always a pixel higher, and told as "above", that pixel teaches chance.
 */
export function holds({ measure, order }: RelationRule, a: Detection, b: Detection, margin = 0): boolean {
  const difference = measures[measure](a.box) - measures[measure](b.box);
  const least = margin * (extents[measure](a.box) + extents[measure](b.box));
  return order === 'less' ? difference < -least : difference > least;
}

/** "an apple", "two apples", "many apples". */
function phraseOf({ counts }: RelabelGrammar, name: string, count: number): string {
  const { article, singular, plural } = formsOf(name);
  if (count === 1) return fill(counts.one, { article, singular });
  const number = counts.numbers[count - 2];
  return number === undefined ? fill(counts.more, { plural }) : fill(counts.several, { number, plural });
}

const fill = (template: string, values: Readonly<Record<string, string>>) =>
  template.replace(/\{(\w+)\}/g, (slot, name: string) => values[name] ?? slot);

const byWords = new Map(
  nouns.flatMap((noun) => [noun.singular, noun.name].map((words) => [words, noun.name])),
);

/** The two nouns of a sentence that is told by a template; undefined if it is not. */
function nounsAround(template: string, sentence: string): [string, string] | undefined {
  const literal = template.toLowerCase().replace(/[.*+?^$()|[\]\\]/g, '\\$&');
  const pattern = literal.replace('{a}', '(?<a>.+)').replace('{b}', '(?<b>.+)');
  const { a, b } = new RegExp(`^${pattern}$`).exec(sentence)?.groups ?? {};
  const [first, second] = [a, b].map((text) => byWords.get(text?.replace(/^(?:an?|the|one) /, '') ?? ''));
  return first === undefined || second === undefined || first === second ? undefined : [first, second];
}

// Boxes for a grounded model (GLIGEN, Li et al. 2023): where a prompt says that its objects are, and where they were found.

/** Width and height of an object's box, as a share of the place it has. */
const FILLS = 0.88;
/** Of two objects that differ in size. */
const SMALL = 0.5;
/** How far a drawn layout may be from the plain one: a centre by so much, a size by so much of itself. */
const SHIFT = 0.06;
const SHRINK = 0.2;

type Place = [x: number, y: number, width: number, height: number]; // centre, shares of the picture

/**
 * A layout in which a picture shows what its prompt asks for: of a relation, the two objects in opposite halves, or of two sizes;
 * of counts, a grid.
 *
 * @param random varies the layout; without, it is the plain one
 */
export function boxesAsked(
  grammar: RelabelGrammar,
  { counts, relation }: Asked,
  random?: Random,
): GroundedObject[] {
  const names = [...counts].flatMap(([noun, count]) => Array.from({ length: count }, () => noun));
  const rule = relation === undefined ? undefined : grammar.relations[relation];
  const places = rule === undefined ? gridOf(names.length) : pairOf(rule.measure, rule.order);
  return names.slice(0, MOST_OBJECTS).map((noun, i) => ({
    phrase: phraseOf(grammar, noun, 1),
    box: boxOf(moved(places[i] as Place, random)),
  }));
}

/** The same from the prompt itself; nothing of a prompt that tells none. @param labels as `askedOf` */
export function boxesTold(
  grammar: RelabelGrammar,
  prompt: string,
  labels?: readonly string[],
  random?: Random,
): GroundedObject[] {
  try {
    return boxesAsked(grammar, askedOf(grammar, prompt, labels), random);
  } catch (error) {
    if (error instanceof UserError) return [];
    throw error;
  }
}

function pairOf(measure: RelabelGrammar['relations'][string]['measure'], order: 'less' | 'greater'): Place[] {
  const half = FILLS / 2;
  const [less, more] = ((): [Place, Place] => {
    switch (measure) {
      case 'x':
        return [
          [0.25, 0.5, half, half],
          [0.75, 0.5, half, half],
        ];
      case 'y':
        return [
          [0.5, 0.25, half, half],
          [0.5, 0.75, half, half],
        ];
      case 'width':
        return [
          [0.25, 0.5, SMALL * half, half],
          [0.75, 0.5, half, half],
        ];
      case 'height':
        return [
          [0.25, 0.5, half, SMALL * half],
          [0.75, 0.5, half, half],
        ];
      case 'area':
        return [
          [0.25, 0.5, SMALL * half, SMALL * half],
          [0.75, 0.5, half, half],
        ];
    }
  })();
  return order === 'less' ? [less, more] : [more, less];
}

/** Row by row, in cells of the same size. */
function gridOf(count: number): Place[] {
  const columns = Math.ceil(Math.sqrt(count));
  const rows = Math.ceil(count / columns);
  return Array.from({ length: count }, (_, i) => [
    ((i % columns) + 0.5) / columns,
    (Math.floor(i / columns) + 0.5) / rows,
    FILLS / columns,
    FILLS / rows,
  ]);
}

function moved([x, y, width, height]: Place, random: Random | undefined): Place {
  if (random === undefined) return [x, y, width, height];
  const [dx, dy, smaller] = [random.uniform(), random.uniform(), random.uniform()];
  const size = 1 - SHRINK * smaller;
  return [x + SHIFT * (2 * dx - 1), y + SHIFT * (2 * dy - 1), size * width, size * height];
}

const share = (edge: number) => Math.min(1, Math.max(0, edge));

function boxOf([x, y, width, height]: Place): GroundedObject['box'] {
  return [share(x - width / 2), share(y - height / 2), share(x + width / 2), share(y + height / 2)];
}

/** What was found, best first, where it was found: pixels -> shares. */
export function boxesFound(
  grammar: RelabelGrammar,
  detections: readonly Detection[],
  [height, width]: readonly [height: number, width: number],
): GroundedObject[] {
  return detections
    .map(
      ({ label, box: [left, top, right, bottom] }): GroundedObject => ({
        phrase: phraseOf(grammar, label, 1),
        box: [share(left / width), share(top / height), share(right / width), share(bottom / height)],
      }),
    )
    .filter(({ box: [left, top, right, bottom] }) => left < right && top < bottom)
    .slice(0, MOST_OBJECTS);
}
