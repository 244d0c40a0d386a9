import { expect, test } from 'vitest';
import { captionOf } from './caption.js';
import { nouns } from './nouns.js';
import { promptScenes, prompts, splitHash } from './prompts.js';
import { sampleScene, sceneKinds } from './sample.js';
import { validateScene } from './scene.js';
import { allowedIn, combinationsOf, planOf, type Split, splitOfKey, splits } from './split.js';

/** Changing one of these makes results of other versions incomparable: raise SPLIT_VERSION then. */
const HASHES: Record<Split, string> = {
  train: 'c89bfe04570c8e0425e5ca67b0bb8e6f23610d08e8e9cacb121da17497b984f4',
  validation: '4be9b01d62b62bc821f52837cda4f0d2f5f838605bf2503000aa37684825f8e6',
  test: '709d105dda51400312587f4fc1844e74334c82a77d52675ab536c5a27561f3b9',
};

test('the splits are those of the pinned hashes', () => {
  expect(Object.fromEntries(splits.map((split) => [split, splitHash(split)]))).toEqual(HASHES);
});

test('prompts of two splits differ, single nouns excepted', () => {
  for (const kind of sceneKinds) {
    const lists = splits.map((split) => prompts(split, kind));
    for (const list of lists) {
      expect(list.length, kind).toBeGreaterThan(20);
      expect(new Set(list).size).toBe(list.length);
    }
    if (kind === 'single') {
      for (const list of lists) expect(list).toHaveLength(nouns.length);
      continue;
    }
    expect(new Set(lists.flat()).size, kind).toBe(lists.flat().length);
  }
});

test('prompt scenes are valid, belong to their split and say their prompt', () => {
  for (const split of splits) {
    for (const kind of sceneKinds) {
      for (const { prompt, scene } of promptScenes(split, kind).slice(0, 300)) {
        validateScene(scene);
        expect(captionOf(scene)).toBe(prompt);
        expect(allowedIn(split, planOf(scene))).toBe(true);
      }
    }
  }
});

test('sampled scenes hold no combination of another split, pairs unordered', () => {
  const seen = new Map<string, Set<Split>>();
  for (const split of splits) {
    for (const kind of sceneKinds) {
      for (let index = 0; index < 400; index++) {
        const plan = planOf(sampleScene(split, 3, index, { kinds: { [kind]: 1 } }));
        const { pair, attributes } = combinationsOf(plan);
        if (pair !== undefined) seen.set(pair, (seen.get(pair) ?? new Set()).add(split));
        for (const key of attributes) {
          const owner = splitOfKey(key);
          expect(owner === split || (split !== 'train' && owner === 'train'), `${split} ${key}`).toBe(true);
        }
        if (pair === undefined && attributes.length > 0) {
          expect(attributes.some((key) => splitOfKey(key) === split)).toBe(true);
        }
      }
    }
  }
  for (const [pair, owners] of seen) expect([...owners], pair).toHaveLength(1);
  const cat = { noun: 'cat' };
  const dog = { noun: 'dog' };
  const plan = { count: 1, background: 'white' } as const;
  expect(combinationsOf({ ...plan, subjects: [cat, dog] })).toEqual(
    combinationsOf({ ...plan, subjects: [dog, cat] }),
  );
});
