/** What a noun is, as far as scenes care: only animals do activities, a person is counted by `people`. */
export type NounKind = 'animal' | 'thing' | 'person';

/** One noun of the world: one word, one meaning, one glyph. */
export interface Noun {
  /** Its name, and the key of its sprites: "cat", "wine glass". */
  readonly name: string;
  /** The phrase after "a"/"an": equal to the name but for "pair of skis". */
  readonly singular: string;
  /** The phrase after a number: "mice", "pairs of skis". */
  readonly plural: string;
  readonly article: 'a' | 'an';
  readonly kind: NounKind;
  /** The icon's key in the four art sets. */
  readonly icon: string;
}

// name[:icon], where the icon has another key. The order is the order of the atlas: append only.
const PAPER_ANIMALS = `ant bat bear beetle bee:honeybee bird butterfly camel cat chicken cow deer dog dolphin duck
fish fly fox frog goat goose gorilla hedgehog horse kangaroo lion lizard llama monkey mouse:mouse-face pig rabbit raccoon rat
shark sheep:ewe snake spider squirrel:chipmunk tiger turkey turtle whale wolf zebra`;

const UNSEEN_ANIMALS = 'hippopotamus snail crocodile cheetah:leopard lobster octopus';

const OTHER_ANIMALS = 'elephant giraffe penguin owl';

const THINGS = `bicycle car:automobile motorcycle airplane bus train truck:delivery-truck boat:sailboat
traffic_light:vertical-traffic-light stop_sign:stop-sign backpack umbrella handbag tie:necktie suitcase:luggage
frisbee:flying-disc skis sports_ball:soccer-ball kite skateboard bottle:bottle-with-popping-cork wine_glass:wine-glass
cup:hot-beverage knife:kitchen-knife spoon bowl:bowl-with-spoon banana apple:red-apple sandwich tangerine broccoli
carrot hot_dog:hot-dog pizza donut:doughnut cake:shortcake chair potted_plant:potted-plant bed toilet tv:television
laptop keyboard cell_phone:mobile-phone book:closed-book clock:mantelpiece-clock scissors teddy_bear:teddy-bear
toothbrush tree:deciduous-tree flower:sunflower house star sun moon:crescent-moon heart:red-heart key balloon rocket
guitar drum crown mushroom cactus strawberry plate:fork-and-knife-with-plate chess_pawn:chess-pawn shirt:t-shirt`;

/** Those whose plural is not made by the rules of `pluralOf`. */
const IRREGULAR_PLURALS: Readonly<Record<string, string>> = {
  deer: 'deer',
  fish: 'fish',
  goose: 'geese',
  knife: 'knives',
  mouse: 'mice',
  person: 'people',
  sheep: 'sheep',
  wolf: 'wolves',
  broccoli: 'broccolis',
};

const PAIRS = new Set(['skis', 'scissors']);

function pluralOf(name: string): string {
  const irregular = IRREGULAR_PLURALS[name];
  if (irregular !== undefined) return irregular;
  if (/(?:s|x|ch|sh)$/.test(name)) return `${name}es`;
  if (/[^aeiou]y$/.test(name)) return `${name.slice(0, -1)}ies`;
  return `${name}s`;
}

function parse(list: string, kind: NounKind): Noun[] {
  return list.split(/\s+/).map((entry) => {
    const [key = '', icon = key] = entry.split(':');
    const name = key.replaceAll('_', ' ');
    const singular = PAIRS.has(name) ? `pair of ${name}` : name;
    const plural = PAIRS.has(name) ? `pairs of ${name}` : pluralOf(name);
    return { name, singular, plural, article: articleOf(singular), kind, icon };
  });
}

/** "a" or "an" before a word of this world (every word here that begins with a vowel letter takes "an"). */
export function articleOf(word: string): 'a' | 'an' {
  return /^[aeiou]/.test(word) ? 'an' : 'a';
}

/** The 45 animals of DDPO and DiffExp: "[animal]", "a photo of a [animal]". */
export const paperAnimals: readonly Noun[] = parse(PAPER_ANIMALS, 'animal');

/** The six animals that the papers keep for generalisation. They are drawn by the base model like all others. */
export const unseenAnimals: readonly Noun[] = parse(UNSEEN_ANIMALS, 'animal');

/** Every noun of the world, in the order of the atlases. */
export const nouns: readonly Noun[] = [
  ...paperAnimals,
  ...unseenAnimals,
  ...parse(OTHER_ANIMALS, 'animal'),
  ...parse('person:person-standing', 'person'),
  ...parse(THINGS, 'thing'),
];

const byName = new Map(nouns.map((noun) => [noun.name, noun]));

/** @throws {Error} if the world has no noun of that name. */
export function nounOf(name: string): Noun {
  const noun = byName.get(name);
  if (noun === undefined) {
    throw new Error(`nounOf: no noun "${name}" — the world has ${nouns.length}. See the list \`nouns\`.`);
  }
  return noun;
}
