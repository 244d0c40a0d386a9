import { spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { ones, tensor, UserError } from '@rldf/torch';
import { expect, test } from 'vitest';
import { loadRewardModule } from './module.js';
import { type RewardBatch, scorePictures } from './reward.js';

const folder = mkdtempSync(join(tmpdir(), 'rldf-reward-'));
let files = 0;

/** Two pictures of 2 x 1 pixels: red and black, then green and blue. */
function batch(): RewardBatch {
  const data = new Uint8Array([255, 0, 0, 0, 0, 0, 0, 255, 0, 0, 0, 255]);
  return {
    images: tensor(data, { shape: [2, 1, 2, 3], dtype: 'uint8' }),
    prompts: ['a cat', 'a dog'],
    meta: [{ id: 1 }, { id: 2 }],
  };
}

function moduleOf(source: string, ending = 'mjs'): string {
  const name = `reward-${files++}.${ending}`;
  writeFileSync(join(folder, name), source);
  return `./${name}`;
}

async function outcome(source: string, ending = 'mjs'): Promise<number[] | string> {
  try {
    return (await scorePictures(await loadRewardModule(moduleOf(source, ending), folder), batch())).total;
  } catch (error) {
    expect(error).toBeInstanceOf(UserError);
    return (error as Error).message;
  }
}

test('user code gets bytes, prompts and meta; sync, async, JavaScript and TypeScript all work', async () => {
  const body = `images.map(({ width, height, channels, data }, i) => data[0] + width * 1000 + height * 10000 + channels * 1e5 + meta[i].id + prompts[i].length)`;
  const expected = [255 + 2000 + 10000 + 3e5 + 1 + 5, 2000 + 10000 + 3e5 + 2 + 5];
  expect(await outcome(`export const reward = ({ images, prompts, meta }) => ${body};`)).toEqual(expected);
  expect(
    await outcome(`export async function reward({ images, prompts, meta }) { return ${body}; }`, 'js'),
  ).toEqual(expected);
  const typed = `interface Meta { id: number }
enum Axis { X }
export const reward = async ({ images, prompts, meta }: { images: { width: number; height: number; channels: number; data: Uint8Array }[]; prompts: string[]; meta: Meta[] }): Promise<number[]> => { void Axis.X; return ${body}; };`;
  expect(await outcome(typed, 'ts')).toEqual(expected);
});

test('CommonJS works by its ending, whatever the package around says', async () => {
  writeFileSync(join(folder, 'package.json'), '{"type": "module"}');
  expect(await outcome('module.exports = { reward: () => [1, 2] };', 'cjs')).toEqual([1, 2]);
  rmSync(join(folder, 'package.json'));
});

test('scores that are no numbers are shown, also those that JSON does not know', async () => {
  const wrong = (value: string) => outcome(`export const reward = () => [1, ${value}];`);
  expect(await wrong('3n')).toContain('(prompt "a dog") is bigint 3 — it must be a finite number');
  expect(await wrong('Infinity')).toContain('is Infinity — it must be');
  expect(await wrong('Symbol("x")')).toContain('is symbol Symbol(x) — it must be');
  expect(await wrong('() => 1')).toContain('is function () => 1 — it must be');
});

test('a typed array is a list of numbers too', async () => {
  expect(await outcome('export const reward = () => new Float64Array([1.5, 2]);')).toEqual([1.5, 2]);
});

test.each([
  [
    'a throw',
    `export const reward = () => { throw new TypeError('no face found'); };`,
    'threw TypeError: no face found',
  ],
  ['a rejection', `export const reward = async () => { throw 'plain text'; };`, 'threw plain text'],
  ['NaN', 'export const reward = () => [1, NaN];', 'score of picture 1 (prompt "a dog") is NaN'],
  [
    'infinity',
    'export const reward = () => [-Infinity, 1];',
    'score of picture 0 (prompt "a cat") is -Infinity',
  ],
  ['text', `export const reward = () => ['5', 1];`, 'score of picture 0 (prompt "a cat") is string "5"'],
  ['too few', 'export const reward = () => [1];', 'returned 1 scores for 2 pictures'],
  [
    'nothing',
    'export const reward = () => {};',
    'returned undefined — it must return a list with one number a picture (here 2)',
  ],
  ['no function', 'export const reward = 5;', 'its export `reward` is a number, not a function'],
  ['another name', 'export const score = () => [];', 'exports no `reward` (exports: score)'],
  ['a syntax error', 'export const = ;', 'does not load — '],
  ['a crash while loading', `throw new Error('no key');`, 'does not load — Error: no key'],
])('a reward module with %s is explained', async (_what, source, message) => {
  const text = await outcome(source);
  expect(text).toContain(message);
  expect(text).toMatch(/reward-\d+\.mjs/);
});

test('missing files and other kinds of files are refused', async () => {
  await expect(loadRewardModule('./none.ts', folder)).rejects.toThrow('there is no file');
  await expect(loadRewardModule('./reward.py', folder)).rejects.toThrow(
    '.py — a reward is a .ts, .js, .mjs or .cjs file',
  );
});

test('a module may also export its reward as a differentiable function, whose answers are checked', async () => {
  const load = (differentiable: string, ending = 'mjs') =>
    loadRewardModule(
      moduleOf(`export const reward = ({ images }) => images.map(() => 0);\n${differentiable}`, ending),
      folder,
    );
  const images01 = ones([2, 3, 4, 4]);
  const prompts = ['a cat', 'a dog'];
  const answer = async (differentiable: string, ending?: string) => {
    try {
      return (await load(differentiable, ending)).differentiable?.(images01, prompts).toNumbers();
    } catch (error) {
      expect(error).toBeInstanceOf(UserError);
      return (error as Error).message;
    }
  };
  const mean = 'export const differentiable = (images01, prompts) => images01.mean([1, 2, 3])';
  expect(await answer(`${mean}.mul(prompts.length);`)).toEqual([2, 2]);
  expect(await answer(`${mean.replace('prompts)', 'prompts: string[])')};`, 'ts')).toEqual([1, 1]);
  expect(await answer('')).toBeUndefined();
  expect(await answer('export const differentiable = 3;')).toMatch(
    /`differentiable` is a number, not a function/,
  );
  expect(await answer(`${mean}.sum();`)).toMatch(
    /returned shape \[\] for 2 pictures .* one reward a picture/,
  );
  expect(await answer('export const differentiable = () => [1, 2];')).toMatch(
    /returned a object for 2 pictures/,
  );
  expect(await answer('export const differentiable = () => nothing();')).toMatch(
    /threw ReferenceError: nothing/,
  );
  images01.free();
});

test.each(['ts', 'mts'])('a .%s module that makes tensors has those of the training', (ending) => {
  const repository = fileURLToPath(new URL('../../../..', import.meta.url));
  const dist = new URL('../../dist/rewards/module.js', import.meta.url); // as installed: compiled, nothing registered
  const link = join(folder, 'node_modules');
  if (!existsSync(link)) symlinkSync(join(repository, 'node_modules'), link);
  const path = moduleOf(
    `import { ones, type Tensor } from '@rldf/torch';
    export const reward = () => [0];
    export const differentiable = (images01: Tensor): Tensor => images01.mean([1, 2, 3]).mul(ones([1]));`,
    ending,
  );
  const source = `
    import { ones } from '@rldf/torch';
    import { loadRewardModule } from ${JSON.stringify(dist.href)};
    const reward = await loadRewardModule(${JSON.stringify(path)}, ${JSON.stringify(folder)});
    console.log(reward.differentiable(ones([1, 3, 2, 2]), ['a']).toNumbers()[0]);`;
  const words = ['--input-type=module', '--eval', source];
  const { stdout, stderr } = spawnSync(process.execPath, words, { cwd: repository, encoding: 'utf8' });
  expect(stderr + stdout).toBe('1\n');
});
