/** Prompts in the words of a detector's labels: "a photo of two dogs", "a cat to the left of a bench". */

import { nouns, type Relation } from '@rldf/emoji-world';

/** What a prompt asks for. */
export interface AskedObjects {
  /** How many of each label, in the prompt's order. */
  counts: ReadonlyMap<string, number>;
  /** Between the first label and the second. */
  relation?: Relation;
}

export interface NounForms {
  article: string;
  singular: string;
  plural: string;
}

const worldNouns = new Map(nouns.map((noun) => [noun.name, noun]));

/** How a label is told: by the built-in world where it has the noun, else by the rules of English. */
export function formsOf(label: string): NounForms {
  const known = worldNouns.get(label);
  if (known !== undefined) return known;
  const article = /^[aeiou]/i.test(label) ? 'an' : 'a';
  return { article, singular: label, plural: pluralOf(label) };
}

const irregular: Readonly<Record<string, string>> = {
  person: 'people',
  man: 'men',
  woman: 'women',
  child: 'children',
  sheep: 'sheep',
  skis: 'skis',
  scissors: 'scissors',
  mouse: 'mice',
  knife: 'knives',
  fish: 'fish',
  foot: 'feet',
  tooth: 'teeth',
};

function pluralOf(label: string): string {
  const [, before = '', last = label] = /^(.* )?(\S+)$/.exec(label) ?? [];
  const own = irregular[last];
  if (own !== undefined) return before + own;
  if (/(s|x|z|ch|sh)$/.test(last)) return `${label}es`;
  if (/[^aeiou]y$/.test(last)) return `${label.slice(0, -1)}ies`;
  return `${label}s`;
}

/** Other words for labels of COCO, as prompts have them. */
const synonyms: Readonly<Record<string, readonly string[]>> = {
  person: ['man', 'woman', 'boy', 'girl', 'child', 'human'],
  motorcycle: ['motorbike'],
  airplane: ['aeroplane', 'plane'],
  couch: ['sofa'],
  'potted plant': ['houseplant'],
  'dining table': ['table'],
  tv: ['television', 'tv monitor'],
  mouse: ['computer mouse'],
  remote: ['tv remote', 'remote control'],
  keyboard: ['computer keyboard'],
  'cell phone': ['phone', 'mobile phone', 'smartphone'],
  refrigerator: ['fridge'],
  donut: ['doughnut'],
  'hair drier': ['hair dryer'],
  handbag: ['purse'],
};

/** Each way of writing a label, in lower case, with the label and whether it is a plural. */
export function wordsOf(labels: readonly string[]): Map<string, { label: string; plural: boolean }> {
  const words = new Map<string, { label: string; plural: boolean }>();
  const add = (word: string, label: string, plural: boolean) => {
    if (!words.has(word)) words.set(word, { label, plural });
  };
  for (const label of labels) {
    const { singular, plural } = formsOf(label);
    add(singular.toLowerCase(), label, false);
    add(label.toLowerCase(), label, false);
    add(plural.toLowerCase(), label, true);
  }
  for (const label of labels) {
    for (const other of synonyms[label.toLowerCase()] ?? []) {
      add(other, label, false);
      add(pluralOf(other), label, true);
    }
  }
  return words;
}

const numbers = ['zero', 'one', 'two', 'three', 'four', 'five', 'six', 'seven', 'eight', 'nine', 'ten'];
const relationWords: readonly [RegExp, Relation][] = [
  [/ (?:is )?(?:to the |on the )?left (?:side )?of /, 'left'],
  [/ (?:is )?(?:to the |on the )?right (?:side )?of /, 'right'],
  [/ (?:is )?(?:above|over|on top of) /, 'above'],
  [/ (?:is )?(?:below|under|underneath|beneath) /, 'below'],
];
const colourWord = /^(?:red|orange|yellow|green|blue|purple|pink|brown|black|white|grey|gray) /;

/**
 * Reads a prompt that names objects of a detector, with numbers, and perhaps where the first stands to the second.
 * @returns undefined for one that names anything else
 */
export function askedInLabels(
  prompt: string,
  words: ReadonlyMap<string, { label: string; plural: boolean }>,
): AskedObjects | undefined {
  const text = prompt
    .trim()
    .toLowerCase()
    .replace(/[.!]+$/, '')
    .replace(
      /^(?:(?:an?|the) )?(?:photo|photograph|picture|image|painting|drawing) (?:of|with|showing) /,
      '',
    );
  const relation = relationWords.find(([pattern]) => pattern.test(text));
  const parts = relation === undefined ? text.split(/,? and |, /) : text.split(relation[0]);
  const counts = new Map<string, number>();
  for (const part of parts) {
    const one = phraseOf(part.trim(), words);
    if (one === undefined || counts.has(one.label)) return undefined;
    counts.set(one.label, one.count);
  }
  if (relation === undefined) return { counts };
  const single = [...counts.values()].every((count) => count === 1);
  return counts.size === 2 && single ? { counts, relation: relation[1] } : undefined;
}

function phraseOf(
  phrase: string,
  words: ReadonlyMap<string, { label: string; plural: boolean }>,
): { label: string; count: number } | undefined {
  const [, first = '', rest = ''] = /^(\S+) (.+)$/.exec(phrase) ?? [];
  const number = /^\d+$/.test(first) ? Number(first) : numbers.indexOf(first);
  const counted = number > 0 || /^(?:an?|the)$/.test(first);
  const noun = (counted ? rest : phrase).replace(colourWord, '');
  const found = words.get(noun);
  if (found === undefined) return undefined;
  if (counted) return { label: found.label, count: Math.max(1, number) };
  return found.plural ? undefined : { label: found.label, count: 1 }; // "dogs": nobody says how many
}
