// The pictures that are searched for: scenes that trained nothing, in every art set and every style of the world.
import {
  type ArtSetName,
  artSets,
  type Background,
  captionOf,
  loadArt,
  renderScene,
  type Scene,
  type SceneKind,
  type Style,
  sampleScene,
  styles,
  subjectsOf,
} from '@rldf/emoji-world';
import type { Picture } from 'rldf';

const SEED = 6;
/** Of each half: scenes in the four art sets, and the base model's art in the three styles. */
const HALF = 12;
const kinds: readonly SceneKind[] = ['background', 'people', 'activity'];
/** Agents were tuned on these, and the grammars search for no person. */
const excluded = ['giraffe', 'goat', 'sheep', 'wolf', 'elephant', 'camel', 'cow', 'rabbit', 'person'];

export interface Input {
  /** The name of its folder. */
  name: string;
  caption: string;
  art: ArtSetName;
  style: Style | 'plain';
  noun: string;
  background: Background;
  picture: Picture;
}

/** Its art set, or its style. */
export const kindOf = ({ art, style }: Pick<Input, 'art' | 'style'>) => (style === 'plain' ? art : style);

/** 24 inputs, scenes and styled ones in turns; no noun twice among the scenes, nor in a style. */
export async function heldOutInputs(): Promise<Input[]> {
  const taken: Record<string, Set<string>> = {};
  const inputs: Input[] = [];
  for (let i = 0; i < HALF; i++) {
    const art = artSets[i % artSets.length]!;
    inputs.push(await inputOf(sceneOf(kinds[i % kinds.length]!, taken), art, inputs.length));
    inputs.push(await inputOf(sceneOf('style', taken, styles[i % styles.length]), 'noto', inputs.length));
  }
  return inputs;
}

/** The first scene of its kind, and style, whose noun was not taken; takes it. */
function sceneOf(kind: SceneKind, taken: Record<string, Set<string>>, style?: Style): Scene {
  taken[style ?? 'plain'] ??= new Set(excluded);
  const nouns = taken[style ?? 'plain']!;
  for (let index = 0; index < 10_000; index++) {
    const scene = sampleScene('test', SEED, index, { kinds: { [kind]: 1 }, plainShare: 0.3 });
    const { noun } = subjectsOf(scene)[0]!;
    if (scene.style !== style || nouns.has(noun)) continue;
    nouns.add(noun);
    return scene;
  }
  throw new Error(`the test split has no further scene of kind ${kind}, style ${style ?? 'plain'}`);
}

/** Many held-out scenes of each art set and style, for what needs no search; nouns come again. */
export async function manyInputs(perKind: number): Promise<Input[]> {
  const inputs: Input[] = [];
  for (const art of artSets)
    for (let index = 0; index < perKind; index++) {
      const kind = kinds[index % kinds.length]!;
      const scene = sampleScene('test', SEED + 1, index, { kinds: { [kind]: 1 }, plainShare: 0.3 });
      inputs.push(await inputOf(scene, art, inputs.length));
    }
  for (const style of styles) {
    const until = inputs.length + perKind;
    for (let index = 0; inputs.length < until; index++) {
      const scene = sampleScene('test', SEED + 1, index, { kinds: { style: 1 }, plainShare: 0.3 });
      if (scene.style === style) inputs.push(await inputOf(scene, 'noto', inputs.length));
    }
  }
  return inputs.filter(({ noun }) => noun !== 'person');
}

async function inputOf(scene: Scene, art: ArtSetName, number: number): Promise<Input> {
  const data = renderScene(scene, await loadArt(art));
  return {
    name: `input-${String(number).padStart(2, '0')}`,
    caption: captionOf(scene),
    art,
    style: scene.style ?? 'plain',
    noun: subjectsOf(scene)[0]!.noun,
    background: scene.background,
    picture: { width: 64, height: 64, channels: 3, data },
  };
}
