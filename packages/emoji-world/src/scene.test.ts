import { createHash } from 'node:crypto';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { type ArtSet, artSets, type Box, GRID_STEP, loadArt, PICTURE_SIZE, SPRITE_SIZES } from './art.js';
import { nouns } from './nouns.js';
import { boxesOf, renderScene } from './render.js';
import { type SampleOptions, sampleCaptionedScene, sampleScene, sceneKinds } from './sample.js';
import { colours, type Scene, type SceneObject, validateScene } from './scene.js';

const anyScene = (options: SampleOptions = {}) =>
  fc
    .record({ seed: fc.integer(), index: fc.nat(), kind: fc.constantFrom(...sceneKinds) })
    .map(({ seed, index, kind }) => sampleScene('train', seed, index, { ...options, kinds: { [kind]: 1 } }));

test('a scene depends on split, seed and index alone', async () => {
  const art = await loadArt('noto');
  const later = [7, 3, 5].map((index) => sampleCaptionedScene('train', 11, index));
  const again = [3, 5, 7].map((index) => sampleCaptionedScene('train', 11, index));
  expect([later[1], later[2], later[0]]).toEqual(again);
  const [first] = again;
  expect(renderScene(first!.scene, art)).toEqual(renderScene(structuredClone(first!.scene), art));
  expect(sampleCaptionedScene('train', 12, 3)).not.toEqual(first);
});

test('every sampled scene is valid and fits the grid', () => {
  fc.assert(
    fc.property(anyScene(), (scene) => {
      validateScene(scene);
      for (const { size, x, y } of scene.objects) {
        expect(x % GRID_STEP).toBe(0);
        expect(y % GRID_STEP).toBe(0);
        expect(SPRITE_SIZES).toContain(size);
      }
    }),
    { numRuns: 1000 },
  );
});

/** The tight box of the pixels in which two pictures differ. */
function differenceBox(a: readonly Uint8Array[], b: readonly Uint8Array[]): Box {
  let [left, top, right, bottom] = [PICTURE_SIZE, PICTURE_SIZE, 0, 0];
  for (let i = 0; i < PICTURE_SIZE * PICTURE_SIZE; i++) {
    if (a.every((picture, k) => [0, 1, 2].every((c) => picture[i * 3 + c] === b[k]![i * 3 + c]))) continue;
    const [x, y] = [i % PICTURE_SIZE, Math.floor(i / PICTURE_SIZE)];
    left = Math.min(left, x);
    top = Math.min(top, y);
    right = Math.max(right, x + 1);
    bottom = Math.max(bottom, y + 1);
  }
  return { left, top, right, bottom };
}

/** The scene on backgrounds of which at least one differs from any colour. */
function onBothBackgrounds(objects: readonly SceneObject[], art: ArtSet): Uint8Array[] {
  return [
    renderScene({ objects, background: 'white' }, art),
    renderScene({ objects, background: 'night' }, art),
  ];
}

test('boxes equal what the picture shows, for every noun, size and art set', async () => {
  for (const name of artSets) {
    const art = await loadArt(name);
    const empty = onBothBackgrounds([], art);
    for (const { name: noun } of nouns) {
      for (const size of SPRITE_SIZES) {
        const objects = [{ noun, size, x: 8, y: 16 }] as const;
        const [box] = boxesOf({ objects, background: 'white' }, art);
        expect(box, `${name} ${noun}`).toEqual(differenceBox(onBothBackgrounds(objects, art), empty));
      }
    }
  }
});

test('the relation of a scene is true of its boxes, with a clear gap', async () => {
  const art = await loadArt('noto');
  const relational = (scene: Scene) => scene.relation !== undefined;
  fc.assert(
    fc.property(anyScene({ places: { free: 1 } }).filter(relational), (scene) => {
      const [a, b] = boxesOf(scene, art) as [Box, Box];
      if (scene.relation === 'left') expect(a.right).toBeLessThan(b.left);
      if (scene.relation === 'right') expect(b.right).toBeLessThan(a.left);
      if (scene.relation === 'above') expect(a.bottom).toBeLessThan(b.top);
      if (scene.relation === 'below') expect(b.bottom).toBeLessThan(a.top);
    }),
    { numRuns: 300 },
  );
});

test('sprites never overlap', async () => {
  const art = await loadArt('noto');
  fc.assert(
    fc.property(anyScene(), (scene) => {
      const boxes = boxesOf(scene, art);
      for (const [i, a] of boxes.entries()) {
        for (const b of boxes.slice(i + 1)) {
          const apart = a.right <= b.left || b.right <= a.left || a.bottom <= b.top || b.bottom <= a.top;
          expect(apart).toBe(true);
        }
      }
    }),
    { numRuns: 300 },
  );
});

test('no two nouns look alike, and each is a picture of its own in every colour', async () => {
  const art = await loadArt('noto');
  const single = (object: Partial<SceneObject> & { noun: string }) =>
    renderScene({ objects: [{ size: 48, x: 8, y: 8, ...object }], background: 'white' }, art);
  const pictures = nouns.map(({ name }) => single({ noun: name }));
  for (const [i, a] of pictures.entries()) {
    for (const [j, b] of pictures.entries()) {
      if (j <= i) continue;
      expect(meanDifference(a, b), `${nouns[i]?.name} / ${nouns[j]?.name}`).toBeGreaterThan(8);
    }
  }
  const cats = colours.map((colour) => single({ noun: 'cat', colour }));
  for (const [i, a] of cats.entries()) {
    for (const b of cats.slice(i + 1)) expect(meanDifference(a, b)).toBeGreaterThan(3);
  }
});

function meanDifference(a: Uint8Array, b: Uint8Array): number {
  return a.reduce((sum, value, i) => sum + Math.abs(value - b[i]!), 0) / a.length;
}

test('scenes that cannot be drawn truly are refused', () => {
  const cat = { noun: 'cat', size: 32, x: 0, y: 0 } as const;
  const dog = { noun: 'dog', size: 32, x: 32, y: 0 } as const;
  const refused: [Scene, RegExp][] = [
    [{ objects: [{ ...cat, noun: 'yeti' }], background: 'white' }, /no noun "yeti"/],
    [{ objects: [{ ...cat, x: 40 }], background: 'white' }, /leaves the picture/],
    [{ objects: [{ ...cat, colour: 'red' }], background: 'white', style: 'sketch' }, /sketch/],
    [{ objects: [cat], background: 'night', style: 'silhouette' }, /silhouette/],
    [{ objects: [cat, dog], background: 'white', relation: 'right' }, /do not stand "right"/],
    [{ objects: [cat, dog], background: 'white', activity: 'playing chess' }, /without its prop/],
    [{ objects: [cat], background: 'white', people: 'one' }, /0 persons for "one"/],
  ];
  for (const [scene, message] of refused) expect(() => validateScene(scene)).toThrow(message);
  validateScene({ objects: [cat, dog], background: 'white', relation: 'left' });
});

test('options choose nouns, places, sizes and kinds', () => {
  const options = { nouns: ['cat'], kinds: { single: 1 }, places: { centre: 1 }, sizes: { 48: 1 } } as const;
  const fixed = Array.from({ length: 50 }, (_, index) => sampleScene('train', 0, index, options));
  for (const scene of fixed) {
    expect(scene).toEqual({ objects: [{ noun: 'cat', size: 48, x: 8, y: 8 }], background: 'white' });
  }
  const free = { ...options, places: { free: 1 } };
  const places = Array.from(
    { length: 200 },
    (_, index) => sampleScene('train', 0, index, free).objects[0]!.x,
  );
  expect(new Set(places).size).toBe(17);
  expect(() => sampleScene('train', 0, 0, { nouns: ['cat'], kinds: { relation: 1 } })).toThrow(
    /no scene of kind "relation" from 1 nouns/,
  );
  expect(() => sampleScene('train', 0, 0, { nouns: ['yeti'] })).toThrow(/no noun "yeti"/);
});

/** Cached latents and reported numbers belong to these pictures: an edit that moves a hash is a new world. */
test('pictures and captions are those of the pinned hashes', async () => {
  const hashes: Record<string, string> = {};
  for (const name of artSets) {
    const art = await loadArt(name);
    const hash = createHash('sha256');
    for (const kind of sceneKinds) {
      for (let index = 0; index < 100; index++) {
        const { scene, caption } = sampleCaptionedScene('train', 1, index, { kinds: { [kind]: 1 } });
        hash.update(caption).update(renderScene(scene, art));
      }
    }
    hashes[name] = hash.digest('hex').slice(0, 16);
  }
  expect(hashes).toMatchInlineSnapshot(`
    {
      "fluent-emoji-flat": "1c6ac3b4c9eddf08",
      "noto": "c216cc4b2138ae51",
      "openmoji": "f62f503ba66c7f34",
      "twemoji": "740f90a7619bb7ba",
    }
  `);
});
