import { articleOf, nounOf } from './nouns.js';
import { HashRandom } from './random.js';
import {
  type Background,
  type People,
  type Relation,
  type Scene,
  type SceneObject,
  type Style,
  subjectsOf,
} from './scene.js';

export interface CaptionOptions {
  /** Whether variants may leave out a colour, background or style that the picture shows. Default true. */
  readonly partial?: boolean;
}

export const BACKGROUND_PHRASES: Readonly<Record<Background, string>> = {
  white: 'on a white background',
  grass: 'on the grass',
  sand: 'on the sand',
  snow: 'in the snow',
  night: 'at night',
  sky: 'in the sky',
  sea: 'in the sea',
  road: 'on the road',
};

export const RELATION_PHRASES: Readonly<Record<Relation, string>> = {
  left: 'to the left of',
  right: 'to the right of',
  above: 'above',
  below: 'below',
};

const OPPOSITE: Readonly<Record<Relation, Relation>> = {
  left: 'right',
  right: 'left',
  above: 'below',
  below: 'above',
};

export const STYLE_PREFIXES: Readonly<Record<Style, string>> = {
  sketch: 'a sketch of',
  'pixel art': 'pixel art of',
  silhouette: 'a silhouette of',
};

export const NUMBERS: readonly string[] = ['zero', 'one', 'two', 'three', 'four'];
export const PEOPLE_PHRASES: Readonly<Record<People, string>> = {
  no: 'no people',
  one: 'one person',
  many: 'many people',
};

/** How often a variant leaves a clause out, and how often it says "on a white background". */
const DROP_BACKGROUND = 0.1;
const DROP_COLOUR = 0.05;
const DROP_STYLE = 0.05;
const SAY_WHITE = 0.03;

/** Openings of a variant's caption with their weights; "bare" is the noun alone, as in DDPO's "[animal]". */
const OPENINGS = [
  ['', 60],
  ['a photo of', 14],
  ['a picture of', 8],
  ['an image of', 5],
  ['there is', 8],
  ['bare', 5],
] as const;

/**
 * What a scene shows, in words. Never says what is not in the picture.
 * @param variant 0 is the canonical, complete caption ("a red cat on the grass, pixel art"); any other integer draws
 *   a paraphrase by itself alone: an opening, the relation told from the other side, a clause left out.
 * @throws {Error} if the scene names a noun the world does not have.
 */
export function captionOf(scene: Scene, variant = 0, options: CaptionOptions = {}): string {
  const plain = variant === 0;
  const random = new HashRandom(variant, 0x636170);
  const drops = !plain && (options.partial ?? true);
  const sayColour = !(random.chance(DROP_COLOUR) && drops);
  const sayBackground = !(random.chance(DROP_BACKGROUND) && drops);
  const sayStyle = !(random.chance(DROP_STYLE) && drops);
  const sayWhite = random.chance(SAY_WHITE) && !plain;
  const opening = plain ? '' : random.weighted(OPENINGS);
  const turned = random.chance(0.5) && !plain;
  const stylePrefix = random.chance(0.5) && !plain;

  let text = core(scene, sayColour, turned, opening === 'bare');
  if (scene.people !== undefined) text += ` with ${PEOPLE_PHRASES[scene.people]}`;
  const { background, style } = scene;
  const white = background === 'white';
  // A sketch has white paper only: the words would add nothing there.
  if (white ? sayWhite && style !== 'sketch' : sayBackground) text += ` ${BACKGROUND_PHRASES[background]}`;
  if (style !== undefined && sayStyle) {
    return stylePrefix && opening !== 'bare' ? `${STYLE_PREFIXES[style]} ${text}` : `${text}, ${style}`;
  }
  if (opening === '' || opening === 'bare') return text;
  if (opening === 'there is') return `there ${isCount(scene) ? 'are' : 'is'} ${text}`;
  return `${opening} ${text}`;
}

function isCount(scene: Scene): boolean {
  const subjects = subjectsOf(scene);
  return subjects.length > 1 && subjects.every((subject) => subject.noun === subjects[0]?.noun);
}

/** The clause of nouns and verb, with neither background nor style. */
function core(scene: Scene, sayColour: boolean, turned: boolean, bare: boolean): string {
  const subjects = subjectsOf(scene);
  const [first, second] = subjects;
  if (first === undefined) throw new Error('captionOf: a scene without objects — it shows at least one.');
  const phrase = (object: SceneObject) => nounPhrase(object, sayColour);
  if (isCount(scene)) {
    const colour = sayColour && first.colour !== undefined ? `${first.colour} ` : '';
    return `${NUMBERS[subjects.length]} ${colour}${nounOf(first.noun).plural}`;
  }
  if (second !== undefined) {
    const [a, b] = turned ? [second, first] : [first, second];
    if (scene.relation === undefined) return `${phrase(a)} and ${phrase(b)}`;
    return `${phrase(a)} ${RELATION_PHRASES[turned ? OPPOSITE[scene.relation] : scene.relation]} ${phrase(b)}`;
  }
  if (scene.activity !== undefined) return `${phrase(first)} ${scene.activity}`;
  return bare ? phrase(first).replace(/^an? /, '') : phrase(first);
}

function nounPhrase(object: SceneObject, sayColour: boolean): string {
  const noun = nounOf(object.noun);
  if (object.colour === undefined || !sayColour) return `${noun.article} ${noun.singular}`;
  return `${articleOf(object.colour)} ${object.colour} ${noun.singular}`;
}
