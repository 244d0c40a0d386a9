import { mkdtempSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { checkRecipe, loadRecipe, parseRecipe } from './load.js';
import { methodNames, recipeJsonSchema } from './recipe.js';

const minimal =
  'method: ddpo\nprompts: animals.txt\nreward: jpeg-compressibility\ntrain: { clipNats: 1.5 }\n';

function messageOf(text: string, overrides: string[] = []): string {
  try {
    parseRecipe(text, 'r.yaml', overrides);
  } catch (error) {
    return (error as Error).message;
  }
  return 'no error';
}

test('a minimal recipe gets every default', () => {
  const recipe = parseRecipe(minimal, 'r.yaml');
  expect(recipe.sample).toEqual({
    steps: 10,
    guidanceScale: 4,
    eta: 1,
    promptsPerEpoch: 16,
    picturesPerPrompt: 4,
    batchSize: 64,
  });
  expect(recipe.train.unet).toBe('lora');
  expect(recipe.version).toBe(1);
});

test('all problems are found in one pass, each with its place', () => {
  const text = `method: ddpo
prompts: { split: tran, kind: single }
reward: jpeg-compressibility
sead: 3
sample:
  steps: five
  guidanceScal: 4
train:
  rank: 0
  clipNats: -1
`;
  expect(messageOf(text)).toMatchInlineSnapshot(`
    "6 problems:
    r.yaml:2:12  prompts.split: expected one of train, validation, test, got text "tran". Did you mean train?
    r.yaml:6:3  sample.steps: expected a number, got text "five"
    r.yaml:7:3  sample.guidanceScal: unknown key. Did you mean sample.guidanceScale?
    r.yaml:9:3  train.rank: must be at least 1, got 0
    r.yaml:10:3  train.clipNats: must be more than 0, got -1
    r.yaml:4:1  sead: unknown key. Did you mean seed?"
  `);
});

test('a misspelt prompt set, and a misspelt key beside one, are told apart from prompts by kind', () => {
  const recipe = (prompts: string) => messageOf(minimal.replace('animals.txt', prompts));
  expect(recipe('{ set: diffexp-animal }')).toContain(
    'r.yaml:2:12  prompts.set: none of the sets that `rldf prompts` lists (nearest: diffexp-animals), got text "diffexp-animal"',
  );
  expect(recipe('{ set: texforce-seen, grup: colour }')).toContain('Did you mean prompts.group?');
  expect(recipe('{ split: train, kindd: single }')).toContain('Did you mean prompts.kind?');
  expect(recipe('{ set: texforce-seen, group: colour }')).toBe('no error');
});

test('a wrong field elsewhere does not hide impossible batch arithmetic', () => {
  const message = messageOf(
    `${minimal.replace('{ clipNats: 1.5 }', '{ clipNats: 1.5, updatesPerEpoch: 3 }')}seed: -1\n`,
  );
  expect(message).toMatchInlineSnapshot(`
    "2 problems:
    r.yaml:5:1  seed: must be at least 0, got -1
    r.yaml:4:25  train.updatesPerEpoch: 16 prompts x 4 pictures = 64 pictures an epoch cannot be split evenly into 3 updates — set train.updatesPerEpoch to 2 or 4"
  `);
});

test('exactly one clip is demanded', () => {
  expect(messageOf(minimal.replace('clipNats: 1.5', 'rank: 4'))).toContain(
    'neither of clipNats and clipMeanLogProb',
  );
  expect(messageOf(minimal.replace('clipNats: 1.5', 'clipNats: 1, clipMeanLogProb: 1e-4'))).toContain(
    'both of clipNats',
  );
  expect(messageOf(minimal.replace('clipNats: 1.5', 'estimator: sf, updatesPerEpoch: 1'))).toBe('no error');
});

test('eta 0 is refused with the reason', () => {
  expect(messageOf(`${minimal}sample: { eta: 0 }\n`)).toContain('deterministic, so there is no probability');
});

test('overrides win, are typed as YAML and are named as the place of their problems', () => {
  const recipe = parseRecipe(minimal, 'r.yaml', [
    'train.learningRate=3e-4',
    'name="a: b"',
    'sample.steps=20',
  ]);
  expect([recipe.train.learningRate, recipe.name, recipe.sample.steps]).toEqual([3e-4, 'a: b', 20]);
  expect(messageOf(minimal, ['train.rnk=4'])).toBe(
    '--set train.rnk=4  train.rnk: unknown key. Did you mean train.rank?',
  );
  expect(messageOf(minimal, ['train.rank=many'])).toBe(
    '--set train.rank=many  train.rank: expected a number, got text "many"',
  );
  expect(messageOf(minimal, ['rank'])).toContain('--set rank: expected key.path=value');
  expect(messageOf(minimal, ['__proto__.x=1'])).toContain('expected key.path=value');
});

test('broken YAML, an empty file, duplicate keys and a missing file are explained', () => {
  expect(messageOf('method: [ddpo\n')).toMatch(/^r\.yaml:2:1 {2}.*not valid YAML$/);
  expect(messageOf('')).toContain('r.yaml:1:1  expected `key: value` lines');
  expect(messageOf('method: ddpo\nmethod: ddpo\n')).toMatch(/^r\.yaml:2:1 .*unique/);
  expect(() => loadRecipe('/nowhere/r.yaml')).toThrow('there is no such file');
});

test('unknown and missing methods list the known ones', () => {
  expect(messageOf('method: ddpoo\n')).toBe(
    `r.yaml:1:1  method: unknown method text "ddpoo" — one of: ${methodNames.join(', ')}. Did you mean ddpo?`,
  );
  expect(messageOf('seed: 1\n')).toContain('method: missing');
});

test('rewards may be a name, a module or a weighted list; mistakes inside are pointed at', () => {
  const reward = (yaml: string) => messageOf(minimal.replace('jpeg-compressibility', yaml));
  expect(reward('{ module: ./mine.ts }')).toBe('no error');
  expect(
    reward('[{ reward: clip-score, weight: 2 }, { reward: { module: ./a.mjs }, normalise: batch }]'),
  ).toBe('no error');
  expect(reward('{ modul: ./mine.ts }')).toContain('reward.modul: unknown key. Did you mean reward.module?');
  expect(reward('[{ reward: clip-score, weigth: 2 }]')).toContain(
    'reward.0.weigth: unknown key. Did you mean reward.0.weight?',
  );
  expect(reward('7')).toContain(
    'reward: expected a reward name, { name, weights }, { module: ./my-reward.ts }, { ratings: ./ratings.csv }, { http: ADDRESS }, { vision, endpoint, model }, or a list',
  );
});

test('the same checks serve recipes given as objects', () => {
  const recipe = { method: 'ddpo', prompts: 'a.txt', reward: 'jpeg-compressibility', train: { clipNats: 1 } };
  expect(checkRecipe(recipe).epochs).toBe(15);
  expect(() => checkRecipe({ ...recipe, seed: '1' })).toThrow(
    'recipe  seed: expected a number, got text "1"',
  );
  expect(() => checkRecipe(undefined)).toThrow('method: missing');
});

test('a recipe file is read from disk and reported by its name', () => {
  const file = join(mkdtempSync(join(tmpdir(), 'rldf-')), 'a.yaml');
  writeFileSync(file, minimal.replace('method', 'metod'));
  expect(() => loadRecipe(file)).toThrow(`${file}:1:1  method: missing`);
});

test('the JSON Schema for editors describes the fields', () => {
  const text = JSON.stringify(recipeJsonSchema());
  expect(text).toContain('"guidanceScale"');
  expect(text).toContain('DDPO’s paper uses 5');
});

test('caps and floors: what cannot be kept is refused', () => {
  const reward = (yaml: string) => messageOf(minimal.replace('jpeg-compressibility', yaml));
  expect(reward('[{ reward: aesthetic, cap: 8 }, { reward: clip-score, floor: base, floorRate: 1 }]')).toBe(
    'no error',
  );
  expect(reward('[{ reward: aesthetic, floor: 3 }]')).toContain('every reward has a floor');
  expect(reward('[{ reward: aesthetic }, { reward: clip-score, floor: high }]')).toContain(
    'a number, or base',
  );
  expect(reward('[{ reward: aesthetic, weight: 1, floor: 3, cap: 2 }]')).toContain('2 is below floor: 3');
  expect(reward('[{ reward: aesthetic, floorRate: 3 }]')).toContain('there is no floor');
});

test('a seed keeps all of its 64 bits, in the file and in overrides; other numbers stay numbers', () => {
  const seed = (text: string, ...overrides: string[]) =>
    parseRecipe(`${minimal}${text}`, 'r.yaml', overrides).seed;
  expect(seed('seed: 6687881544318117707\n')).toBe(6687881544318117707n);
  expect(seed('', 'seed=18446744073709551615')).toBe(18446744073709551615n);
  expect(seed('seed: 9007199254740991\n')).toBe(9007199254740991);
  expect(messageOf(`${minimal}seed: 18446744073709551616\n`)).toContain(
    'seed: must be at most 18446744073709551615, got 18446744073709551616',
  );
  expect(messageOf(`${minimal}epochs: 6687881544318117707\n`)).toMatch(/epochs: .*6687881544318117707/);
});

test('what YAML allows and a recipe does not is named as such', () => {
  expect(messageOf(`${minimal}---\nmethod: dpo\n`)).toContain(
    'a second document begins here (`---`) — a file holds one recipe',
  );
  expect(messageOf(minimal, ['train.learningRate=.inf'])).toContain('expected a finite number, got Infinity');
  expect(messageOf(minimal, ['train.learningRate=.nan'])).toContain('expected a finite number, got NaN');
});

test('scores cannot be compared within a prompt that has one picture', () => {
  const recipe = (pictures: number) => `method: ddpo
prompts: [a cat]
train: { clipNats: 1 }
sample: { picturesPerPrompt: ${pictures} }
reward:
  - { reward: aesthetic, normalise: prompt }
  - { reward: clip-score, normalise: prompt }
`;
  expect(() => parseRecipe(recipe(1), 'r.yaml')).toThrow(
    /r\.yaml:6:\d+ {2}reward\.0\.normalise: prompt compares pictures of the same prompt, and sample\.picturesPerPrompt is 1/,
  );
  expect(() => parseRecipe(recipe(4), 'r.yaml')).not.toThrow();
});
