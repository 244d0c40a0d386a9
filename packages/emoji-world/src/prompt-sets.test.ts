import { expect, test } from 'vitest';
import { captionOf } from './caption.js';
import { promptSet, promptSetNames } from './prompt-sets.js';
import { validateScene } from './scene.js';
import { allowedIn, combinationsOf, planOf } from './split.js';

const sets = promptSetNames.map(promptSet);
const promptsOf = (...names: string[]) => names.flatMap((name) => promptSet(name).prompts);
const pairOf = (name: string) =>
  promptSet(name).prompts.map(({ scene }) => combinationsOf(planOf(scene)).pair as string);

test('sets are frozen: changing one needs a new name, as results are quoted by name', () => {
  expect(
    Object.fromEntries(
      sets.map(({ name, hash, prompts }) => [name, `${prompts.length} ${hash.slice(0, 12)}`]),
    ),
  ).toMatchInlineSnapshot(`
    {
      "diffexp-activities": "135 6318abbe2e29",
      "diffexp-animals": "45 b617c890821a",
      "diffexp-unseen-activities": "135 75e0daca8a38",
      "diffexp-unseen-animals": "6 852f7ef2e278",
      "eval-colour": "120 4d8fe9b3be95",
      "eval-count": "100 255b1c760565",
      "eval-mixed": "128 f04bce8b794b",
      "eval-single": "124 ffb2eea200ff",
      "hard-train": "58 6a5044dcbdad",
      "hard-unseen": "150 83d39a0c0839",
      "ip-rldf-base": "2000 7dcb0e883704",
      "ip-rldf-self": "100 662755eea080",
      "ip-rldf-test": "400 658bd808f84a",
      "long-test": "100 e1539a70dd6e",
      "long-train": "300 d976ff295a3f",
      "paraphrases-test": "160 d82c7ecb5287",
      "paraphrases-train": "240 84256e9858eb",
      "texforce-seen": "4 89a410fc5a65",
      "texforce-unseen": "4 b41699ebe3fe",
    }
  `);
});

test('every prompt is true of its scene, and no set holds one twice', () => {
  for (const { name, prompts } of sets) {
    expect([name, new Set(prompts.map(({ prompt }) => prompt)).size]).toEqual([name, prompts.length]);
    for (const { prompt, scene, group } of prompts) {
      validateScene(scene);
      expect(captionOf(scene)).toBe(name.startsWith('paraphrases') ? group : prompt);
    }
  }
});

test('training sets come from the train split, evaluation sets from the test split', () => {
  for (const { name, purpose, prompts } of sets) {
    if (name.startsWith('diffexp')) continue; // the papers' own lists, see below
    const split = purpose === 'training' ? 'train' : 'test';
    for (const { prompt, scene } of prompts)
      expect([name, prompt, allowedIn(split, planOf(scene))]).toEqual([name, prompt, true]);
  }
});

test('no evaluation prompt of more than a single noun is trained on, in any set', () => {
  const trained = new Set(
    sets.flatMap((set) => (set.purpose === 'training' ? set.prompts : [])).map((p) => p.prompt),
  );
  const single = new Set(promptsOf('eval-single').map(({ prompt }) => prompt));
  for (const { name, purpose, prompts } of sets) {
    if (purpose === 'training') continue;
    const seen = prompts.filter(
      ({ group, prompt }) => !single.has(prompt) && !single.has(group) && trained.has(prompt),
    );
    expect([name, seen]).toEqual([name, []]);
  }
  const unseen = promptsOf('diffexp-unseen-animals', 'diffexp-unseen-activities');
  expect(unseen.filter(({ prompt }) => trained.has(prompt))).toEqual([]);
});

test('IP-RLDF: one prompt a pair, relations in equal parts, no pair in two sets', () => {
  const names = ['ip-rldf-self', 'ip-rldf-base', 'ip-rldf-test'];
  const pairs = names.flatMap(pairOf);
  expect(new Set(pairs).size).toBe(100 + 2000 + 400);
  for (const name of names) {
    const { prompts } = promptSet(name);
    for (const relation of ['left', 'right', 'above', 'below'])
      expect(prompts.filter(({ group }) => group === relation).length).toBe(prompts.length / 4);
  }
  for (const name of ['hard-unseen', 'hard-train']) {
    const others = pairOf(name).filter((pair) => pair !== undefined);
    expect([name, others.filter((pair) => pairs.includes(pair))]).toEqual([name, []]);
  }
});

test('the papers’ lists are whole', () => {
  expect(promptsOf('diffexp-unseen-animals').map(({ prompt }) => prompt)).toEqual([
    'a hippopotamus',
    'a snail',
    'a crocodile',
    'a cheetah',
    'a lobster',
    'an octopus',
  ]);
  expect(promptsOf('diffexp-activities').map(({ prompt }) => prompt)).toContain(
    'a monkey washing the dishes',
  );
  expect(promptsOf('diffexp-unseen-activities').map(({ prompt }) => prompt)).toContain('a cat doing laundry');
  expect(promptsOf('texforce-seen', 'texforce-unseen').map(({ prompt }) => prompt)).toEqual([
    'a green dog',
    'a cat and a cup',
    'four wolves on the grass',
    'a dog in the snow',
    'a green chicken',
    'a cat and a lion',
    'four deer on the grass',
    'a fox in the snow',
  ]);
});

test('an unknown set is refused with the names there are', () => {
  expect(() => promptSet('ip-rldf')).toThrow('ip-rldf-self, ip-rldf-base');
});
