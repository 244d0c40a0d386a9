import fc from 'fast-check';
import { expect, test } from 'vitest';
import { captionOf } from './caption.js';
import { articleOf, nounOf, nouns, paperAnimals, unseenAnimals } from './nouns.js';
import { sampleScene, sceneKinds } from './sample.js';
import { backgrounds, colours, type Scene, type SceneObject, styles } from './scene.js';

const cat: SceneObject = { noun: 'cat', size: 32, x: 0, y: 0 };
const ant: SceneObject = { noun: 'ant', size: 32, x: 32, y: 0 };
const person: SceneObject = { noun: 'person', size: 32, x: 0, y: 32 };

test('canonical captions', () => {
  const cases: [Scene, string][] = [
    [{ objects: [cat], background: 'white' }, 'a cat'],
    [{ objects: [ant], background: 'white', style: 'sketch' }, 'an ant, sketch'],
    [{ objects: [{ ...ant, colour: 'red' }], background: 'sea' }, 'a red ant in the sea'],
    [{ objects: [{ ...cat, colour: 'orange' }], background: 'night' }, 'an orange cat at night'],
    [{ objects: [cat, { ...cat, x: 32 }], background: 'white' }, 'two cats'],
    [{ objects: [cat, ant], background: 'white' }, 'a cat and an ant'],
    [
      {
        objects: [{ ...cat, colour: 'red' }, ant],
        background: 'grass',
        relation: 'left',
        style: 'pixel art',
      },
      'a red cat to the left of an ant on the grass, pixel art',
    ],
    [
      { objects: [cat, { ...ant, noun: 'plate' }], background: 'white', activity: 'washing the dishes' },
      'a cat washing the dishes',
    ],
    [{ objects: [cat], background: 'snow', people: 'no' }, 'a cat with no people in the snow'],
    [{ objects: [cat, person], background: 'white', people: 'one' }, 'a cat with one person'],
  ];
  for (const [scene, caption] of cases) expect(captionOf(scene)).toBe(caption);
});

test('nouns: the paper animals, articles, plurals, one meaning a word', () => {
  expect(paperAnimals).toHaveLength(45);
  expect(unseenAnimals.map(({ name }) => name)).toEqual([
    'hippopotamus',
    'snail',
    'crocodile',
    'cheetah',
    'lobster',
    'octopus',
  ]);
  expect(nouns.length).toBeGreaterThanOrEqual(100);
  expect(new Set(nouns.map(({ name }) => name)).size).toBe(nouns.length);
  const words: readonly string[] = [...colours, ...backgrounds, ...styles];
  expect(nouns.filter(({ name }) => words.includes(name))).toEqual([]);
  const plurals = [
    'mouse',
    'goose',
    'sheep',
    'wolf',
    'fly',
    'fox',
    'knife',
    'bus',
    'skis',
    'hot dog',
    'donkey',
  ];
  expect(plurals.filter((name) => name !== 'donkey').map((name) => nounOf(name).plural)).toEqual([
    'mice',
    'geese',
    'sheep',
    'wolves',
    'flies',
    'foxes',
    'knives',
    'buses',
    'pairs of skis',
    'hot dogs',
  ]);
  expect(['owl', 'apple', 'elephant', 'airplane', 'octopus'].map(articleOf)).toEqual(Array(5).fill('an'));
  expect(() => nounOf('donkey')).toThrow(/no noun "donkey"/);
});

const described = fc
  .record({
    seed: fc.integer(),
    index: fc.nat(),
    variant: fc.integer({ min: 1 }),
    kind: fc.constantFrom(...sceneKinds),
  })
  .map(({ seed, index, variant, kind }) => {
    const scene = sampleScene('train', seed, index, { kinds: { [kind]: 1 } });
    return { scene, variant, caption: captionOf(scene, variant) };
  });

test('a variant says nothing that the scene does not show', () => {
  fc.assert(
    fc.property(described, ({ scene, variant, caption }) => {
      expect(captionOf(scene, variant)).toBe(caption);
      const words = ` ${caption.replaceAll(',', ' ')} `;
      const shown = new Set(scene.objects.map(({ colour }) => colour));
      for (const colour of colours) {
        if (words.includes(` ${colour} `) && !words.includes(` ${colour} background `))
          expect(shown).toContain(colour);
      }
      for (const style of styles) if (words.includes(` ${style} `)) expect(scene.style).toBe(style);
      for (const place of ['grass', 'sand', 'snow', 'night', 'sky', 'sea', 'road'] as const) {
        if (words.includes(` ${place} `)) expect(scene.background).toBe(place);
      }
      expect(words).not.toMatch(/ a [aeiou]| an [^aeiou]/);
      const relation = /to the left of|to the right of|above|below/.test(words);
      expect(relation).toBe(scene.relation !== undefined);
    }),
    { numRuns: 3000 },
  );
});

test('a relation told from the other side stays true', () => {
  const scene: Scene = { objects: [cat, ant], background: 'white', relation: 'left' };
  const told = new Set(Array.from({ length: 200 }, (_, variant) => captionOf(scene, variant)));
  const cores = new Set(
    [...told].map((caption) =>
      caption.replace(/^.*? of (?=an? .* (?:left|right))|^there is | on a white background/g, ''),
    ),
  );
  expect([...cores].sort()).toEqual(['a cat to the left of an ant', 'an ant to the right of a cat']);
});

test('without partial captions every clause is said', () => {
  fc.assert(
    fc.property(described, ({ scene, variant }) => {
      const caption = captionOf(scene, variant, { partial: false });
      for (const { colour } of scene.objects) if (colour !== undefined) expect(caption).toContain(colour);
      if (scene.background !== 'white') expect(caption).toContain(scene.background);
      if (scene.style !== undefined) expect(caption).toContain(scene.style);
    }),
    { numRuns: 1000 },
  );
});
