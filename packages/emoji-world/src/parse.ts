import { BACKGROUND_PHRASES, NUMBERS, PEOPLE_PHRASES, RELATION_PHRASES, STYLE_PREFIXES } from './caption.js';
import { nouns } from './nouns.js';
import type { Plan } from './plan.js';
import { activities, backgrounds, type Colour, colours, peopleCounts, relations, styles } from './scene.js';

type Subject = Plan['subjects'][number];

/** Other ways to say a relation than the world's own captions have. */
const MORE_RELATION_PHRASES = [
  ['on the left of', 'left'],
  ['left of', 'left'],
  ['on the right of', 'right'],
  ['right of', 'right'],
  ['on top of', 'above'],
  ['over', 'above'],
  ['beneath', 'below'],
  ['under', 'below'],
] as const;

const RELATIONS = [
  ...relations.map((relation) => [RELATION_PHRASES[relation], relation] as const),
  ...MORE_RELATION_PHRASES,
];
const OPENINGS = /^(?:an? (?:photo|picture|image|drawing) of|there (?:is|are)) /;
const SINGULAR = new Map(
  nouns.flatMap((noun) => [noun.singular, noun.name].map((word) => [word, noun.name])),
);
const PLURAL = new Map(nouns.map((noun) => [noun.plural, noun.name]));

/**
 * What a caption of the built-in world asks for: the inverse of `captionOf`, paraphrases included. A clause that the
 * caption leaves out is left out of the plan (background: white). A relation told from the other side stays so.
 * @returns undefined for a text that is no sentence of this world
 */
export function parseCaption(text: string): Plan | undefined {
  let rest = text.trim().toLowerCase().replace(/\s+/g, ' ').replace(/[.!]$/, '');
  /** The value whose phrase the rest ends with; the phrase is cut off. */
  const suffix = <Value extends string>(values: readonly Value[], phrase: (value: Value) => string) => {
    const found = values.find((value) => rest.endsWith(phrase(value)));
    if (found !== undefined) rest = rest.slice(0, -phrase(found).length);
    return found;
  };
  const prefixed = styles.find((style) => rest.startsWith(`${STYLE_PREFIXES[style]} `));
  if (prefixed !== undefined) rest = rest.slice(STYLE_PREFIXES[prefixed].length + 1);
  const style = suffix(styles, (value) => `, ${value}`) ?? prefixed;
  rest = rest.replace(OPENINGS, '');
  const background = suffix(backgrounds, (value) => ` ${BACKGROUND_PHRASES[value]}`) ?? 'white';
  const people = suffix(peopleCounts, (value) => ` with ${PEOPLE_PHRASES[value]}`);
  const activity = suffix(activities, (value) => ` ${value}`);
  const core = parseCore(rest);
  if (core === undefined || (core.subjects.length > 1 && (people ?? activity) !== undefined))
    return undefined;
  return {
    ...core,
    background,
    ...(style === undefined ? {} : { style }),
    ...(people === undefined ? {} : { people }),
    ...(activity === undefined ? {} : { activity }),
  };
}

/** "two red cats", "a cat above a dog", "a cat and a dog", "a cat", "cat". */
function parseCore(text: string): Pick<Plan, 'subjects' | 'count' | 'relation'> | undefined {
  const [first = '', ...others] = text.split(' ');
  const count = NUMBERS.indexOf(first);
  if (count > 1) {
    const subject = parseNoun(others.join(' '), PLURAL);
    return subject && { subjects: [subject], count };
  }
  for (const [phrase, relation] of RELATIONS) {
    const subjects = parsePair(text, ` ${phrase} `);
    if (subjects !== undefined) return { subjects, count: 1, relation };
  }
  const subjects = parsePair(text, ' and ');
  if (subjects !== undefined) return { subjects, count: 1 };
  const subject = parseNounPhrase(text);
  return subject && { subjects: [subject], count: 1 };
}

function parsePair(text: string, between: string): Subject[] | undefined {
  const sides = text.split(between);
  if (sides.length !== 2) return undefined;
  const [a, b] = sides.map(parseNounPhrase);
  return a === undefined || b === undefined || a.noun === b.noun ? undefined : [a, b];
}

const parseNounPhrase = (text: string) => parseNoun(text.replace(/^(?:an?|the|one) /, ''), SINGULAR);

/** A noun, perhaps behind a colour. */
function parseNoun(text: string, words: ReadonlyMap<string, string>): Subject | undefined {
  const plain = words.get(text);
  if (plain !== undefined) return { noun: plain };
  const colour: Colour | undefined = colours.find((name) => text.startsWith(`${name} `));
  const noun = colour && words.get(text.slice(colour.length + 1));
  return noun === undefined ? undefined : { noun, colour: colour as Colour };
}
