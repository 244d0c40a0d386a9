import type { Picture } from '@rldf/common/base/picture';
import { activities, loadArt, renderScene, type Scene, sampleScene, subjectsOf } from '@rldf/emoji-world';
import type { Detection, Detector } from '@rldf/models';
import { liveTensors } from '@rldf/torch';
import { describe, expect, test } from 'vitest';
import { grammarFile } from '../recipes.fixture.js';
import { Encoding } from '../world/encoding.js';
import { parseGrammar, readGrammar } from '../world/grammar.js';
import { openRecogniser, worldJudge } from './open.js';
import { type Embedder, zeroShotRecogniser } from './recogniser.js';

const grammar = parseGrammar(
  `
counts: [Frequency, Density]
objects: [Noun, H]
shows: { riding: bicycle }
scenes: [Scene]
productions:
  S: Frequency Noun Verb Density H Scene
  Frequency: { 1: a, 3: three }
  Noun: [dog, bicycle, cat]
  Verb: { none: '', riding: riding a bicycle }
  Density: { 0: no, 1: one, 3: many }
  H: [person / people]
  Scene: { white: [on white, ''], grass: on the grass }
`,
  'g.yaml',
);

const picture: Picture = { width: 8, height: 8, channels: 3, data: new Uint8Array(192) };
const found = (label: string, score = 0.9): Detection => ({ label, score, box: [0, 0, 4, 4] });
const detector = (...detections: Detection[]): Detector => ({
  labels: [],
  detect: (images) => Array.from({ length: images.shape[0]! }, () => detections),
});

/** Knows words; a sentence's cosine with the picture is the share of them that it says. */
function wordEmbedder(...words: string[]): Embedder {
  return {
    scale: 10,
    texts: (sentences) =>
      sentences.map((text) => [...words.map((word) => Number(text.includes(word))), text.length / 1000]),
    pictures: (pictures) => pictures.map(() => [...words.map(() => 1 / words.length), 0]),
  };
}

const look = async (embedder: Embedder, seen?: Detector) =>
  (
    await zeroShotRecogniser(grammar, {
      embedder,
      name: 'test',
      ...(seen === undefined ? {} : { detector: seen, detectorSize: 8 }),
    }).recognise([picture])
  )[0]!;

describe('zero-shot recognition', () => {
  test('the detector names and counts, CLIP reads the rest', async () => {
    const seen = await look(
      wordEmbedder('grass'),
      detector(found('dog', 0.8), found('dog', 0.7), found('person'), found('tree')),
    );
    expect(seen.meanings).toEqual({
      Frequency: '3',
      Noun: 'dog',
      Verb: 'none',
      Density: '1',
      Scene: 'grass',
    });
    expect(seen.objects).toEqual({
      dog: { count: 2, score: 0.8 },
      person: { count: 1, score: 0.9 },
      tree: { count: 1, score: 0.9 },
    });
    expect(seen.confidence.Noun).toBeCloseTo(0.8);
    expect(seen.confidence.Scene).toBeCloseTo(1 / (1 + Math.exp(-10)), 3);
  });

  test('what is only a verb’s prop is not what the sentence is about', async () => {
    const seen = await look(
      wordEmbedder('dog riding a bicycle', 'riding'),
      detector(found('bicycle', 0.99), found('dog', 0.6)),
    );
    expect(seen.meanings).toMatchObject({ Noun: 'dog', Verb: 'riding', Frequency: '1', Density: '0' });
    expect(seen.confidence.Noun).toBeLessThan(0.6);
    expect(seen.confidence.Noun).toBeGreaterThan(0.5);
  });

  test('all ways of saying a value count', async () => {
    const seen = await look(wordEmbedder('cat', 'no people'), detector(found('cat')));
    expect(seen.meanings.Scene).toBe('white');
  });

  test('without a detector CLIP names the objects too', async () => {
    const seen = await look(wordEmbedder('cat', 'three', 'grass', 'many'));
    expect(seen.meanings).toMatchObject({ Noun: 'cat', Frequency: '3', Density: '3', Scene: 'grass' });
    expect(seen.objects).toMatchObject({ cat: { count: 3 }, person: { count: 3 } });
  });

  test('a choice whose object the detector does not see is out', async () => {
    const eager = wordEmbedder('riding');
    expect((await look(eager, detector(found('dog')))).meanings.Verb).toBe('none');
    expect((await look(eager, detector(found('dog'), found('bicycle')))).meanings.Verb).toBe('riding');
    expect((await look(eager)).meanings.Verb).toBe('riding');
  });

  test('with nothing detected the object is a guess with a low confidence', async () => {
    const seen = await look(wordEmbedder('grass'), detector());
    expect(seen.confidence.Noun).toBeLessThan(0.5);
  });
});

describe('the shipped recogniser', () => {
  const world = readGrammar(grammarFile('world'));
  const { recogniser } = openRecogniser(world);
  const verbs: Record<string, string> = Object.fromEntries(
    activities.map((activity) => [activity, activity.split(' ').at(-1)!]),
  );

  test('its name, by which a memory knows it again, holds the hashes of its weights', () => {
    expect(recogniser.name).toMatch(/^detector [\da-f]{12} and clip [\da-f]{12}, grammar /);
  });

  test('names noun, scene, number, people and verb of rendered scenes', async () => {
    const art = await loadArt('noto');
    const kinds = ['single', 'background', 'count', 'people', 'activity'] as const;
    const scenes = kinds.flatMap((kind) =>
      Array.from({ length: 8 }, (_, i) =>
        sampleScene('test', 21, i, { kinds: { [kind]: 1 }, plainShare: 0.3 }),
      ),
    );
    const pictures = scenes.map(
      (scene): Picture => ({ width: 64, height: 64, channels: 3, data: renderScene(scene, art) }),
    );
    const before = liveTensors();
    const seen = await recogniser.recognise(pictures);
    expect(liveTensors()).toBe(before);
    const share = (right: (scene: Scene, i: number) => boolean) =>
      scenes.filter(right).length / scenes.length;
    const meaning = (i: number, axis: string) => seen[i]!.meanings[axis];
    expect(share((scene, i) => meaning(i, 'Noun') === subjectsOf(scene)[0]!.noun)).toBeGreaterThanOrEqual(
      0.9,
    );
    expect(share((scene, i) => meaning(i, 'Scene') === scene.background)).toBeGreaterThanOrEqual(0.8);
    expect(
      share((scene, i) => (meaning(i, 'Frequency') === '1') === (subjectsOf(scene).length === 1)),
    ).toBeGreaterThanOrEqual(0.9);
    expect(
      share(({ people = 'no' }, i) => ({ no: '0', one: '1', many: '3' })[people] === meaning(i, 'Density')),
    ).toBeGreaterThanOrEqual(0.9);
    const acting = scenes
      .map(({ activity }, i) => [activity, meaning(i, 'Verb')] as const)
      .filter(([activity]) => activity !== undefined);
    expect(acting.filter(([activity, verb]) => verbs[activity!] === verb).length).toBeGreaterThanOrEqual(
      0.7 * acting.length,
    );
  });

  test('a grammar of other objects needs a CLIP folder', () => {
    expect(() => openRecogniser(readGrammar(grammarFile('photographs')))).toThrow(
      /photographs.yaml: the shipped detector knows no .*--clip/,
    );
  });

  test('the judges look at pictures of any size', async () => {
    const judge = (await worldJudge(new Encoding(world)))!;
    const grey: Picture = { width: 32, height: 48, channels: 3, data: new Uint8Array(32 * 48 * 3).fill(128) };
    expect(await judge.nouns([grey, grey])).toHaveLength(2);
    expect((await judge.features([grey]))[0]).toHaveLength(128);
    expect(await judge.styles([])).toEqual([]);
    expect(await worldJudge(new Encoding(readGrammar(grammarFile('photographs'))))).toBeUndefined();
  });
});
