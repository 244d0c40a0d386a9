import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { savePipeline, tinyPipeline } from '@rldf/models';
import { tensor } from '@rldf/torch';
import { expect, test } from 'vitest';
import { recipePath, recipesFolder, tableNames } from '../cli/shared.js';
import { loadReward } from '../rewards/index.js';
import { type Capsule, readCapsules, writeCapsule } from './capsule.js';
import { equalCost } from './equal-cost.js';
import { loadTableJudge } from './judges.js';
import {
  checkEqualPictures,
  loadProtocol,
  type Protocol,
  protocolCommit,
  readProtocol,
  recipeOf,
} from './protocol.js';
import { type ReproduceEvent, type ReproduceOptions, reproduce } from './reproduce.js';
import { tableMarkdown, tableNumbers } from './table.js';

const RECIPE = `method: ddpo
model: ./model
prompts: [a cat, a dog]
reward: jpeg-compressibility
epochs: 1
sample: { steps: 2, picturesPerPrompt: 2, promptsPerEpoch: 2, guidanceScale: 2 }
train: { clipNats: 1.6, updatesPerEpoch: 1 }
`;
const PROTOCOL = `version: 1
question: Does it work?
paper: none
recipe: recipe.yaml
arms:
  low: {}
  high: { train.learningRate: 0.01 }
reference: low
seeds: [1, 2]
judges: [jpeg-incompressibility]
budget: { full: {}, smoke: {} }
`;

/** A repository with one table; the protocol is not committed yet. */
function repository() {
  const folder = mkdtempSync(join(tmpdir(), 'rldf-reproduce-'));
  const tables = join(folder, 'recipes', 'reproduce');
  const table = join(tables, 'demo');
  mkdirSync(table, { recursive: true });
  const pipeline = tinyPipeline();
  savePipeline(pipeline, join(table, 'model'));
  for (const parameters of Object.values(pipeline.parameters)) parameters.free();
  writeFileSync(join(table, 'recipe.yaml'), RECIPE);
  writeFileSync(join(table, 'protocol.yaml'), PROTOCOL);
  const git = (...words: string[]) => execFileSync('git', words, { cwd: folder, stdio: 'pipe' });
  git('init', '--quiet');
  const commit = () => {
    git('add', '-A');
    git('-c', 'user.name=t', '-c', 'user.email=t@t', 'commit', '--quiet', '-m', 'protocol');
  };
  const load = () => loadProtocol('demo', tables, ['demo']);
  return { folder, table, commit, load };
}

async function all(
  protocol: Protocol,
  folder: string,
  more: Partial<ReproduceOptions> = {},
): Promise<ReproduceEvent[]> {
  const events: ReproduceEvent[] = [];
  const options = {
    budget: 'full',
    shippedRecipe: (name: string) => name,
    runs: join(folder, 'runs'),
  } as const;
  for await (const event of reproduce({ protocol, ...options, ...more })) events.push(event);
  return events;
}

test('a protocol that is not committed, or was changed since, is refused', () => {
  const { table, commit, load } = repository();
  expect(() => protocolCommit(load())).toThrow(/is not committed/);
  commit();
  expect(protocolCommit(load())).toMatch(/^[0-9a-f]{40}$/);
  writeFileSync(join(table, 'protocol.yaml'), PROTOCOL.replace('[1, 2]', '[1]'));
  expect(() => protocolCommit(load())).toThrow(/was changed since its last commit/);
});

test('a table runs every arm and seed once, goes on from its capsules, and refuses a protocol changed after them', async () => {
  const { folder, table, commit, load } = repository();
  commit();
  const first = await all(load(), folder);
  expect(first.filter(({ kind }) => kind === 'arm')).toHaveLength(4);
  const last = first.at(-1);
  if (last?.kind !== 'table') throw new Error('no table');
  expect(last.numbers.missing).toEqual([]);
  expect(last.numbers.arms.low?.['jpeg-incompressibility']?.seeds).toBe(2);
  const page = readFileSync(join(folder, 'docs', 'results', 'demo.md'), 'utf8');
  expect(page).toContain('| high | 2 |');

  const again = await all(load(), folder);
  expect(again.map(({ kind }) => kind)).toEqual(['table']);

  writeFileSync(join(table, 'protocol.yaml'), PROTOCOL.replace('[1, 2]', '[1]'));
  commit();
  await expect(all(load(), folder)).rejects.toThrow(/changed after the first test picture/);
});

test('a share of a table: arms and seeds that it has, on a device that is here', async () => {
  const { folder, commit, load } = repository();
  commit();
  const of = (more: Partial<ReproduceOptions>) => all(load(), folder, more);
  await expect(of({ arms: ['middle'] })).rejects.toThrow(/no arm "middle" — there are low, high/);
  await expect(of({ seeds: [3] })).rejects.toThrow(/no seed 3 — there are 1, 2/);
  await expect(of({ device: 'cuda:7' })).rejects.toThrow(/"cuda:7" is not here/);
  const events = await of({ arms: ['high'], seeds: [2], device: 'cpu' });
  expect(events.flatMap((event) => (event.kind === 'arm' ? [`${event.arm} ${event.seed}`] : []))).toEqual([
    'high 2',
  ]);
  const [capsule] = readCapsules(join(folder, 'docs', 'results', 'demo'), load());
  expect(capsule?.environment.device).toBe('cpu');
});

test('judges: what no recipe can name, loaded before the first run', async () => {
  const { folder, table, commit, load } = repository();
  writeFileSync(join(table, 'protocol.yaml'), PROTOCOL.replace('jpeg-incompressibility', 'judge-taste'));
  commit();
  await expect(all(load(), folder)).rejects.toThrow(/judge-taste/);
  for (const name of ['judge-spatial', 'judge-clip', 'judge-preference']) {
    const judge = await loadTableJudge(name);
    const images = tensor(new Uint8Array(3 * 64 * 64).fill(200), { shape: [1, 64, 64, 3] });
    const [score] = await judge.score({ images, prompts: ['a cat to the left of a dog'], meta: [null] });
    expect(score).toEqual(expect.any(Number));
    await expect(loadReward(name)).rejects.toThrow(name);
  }
});

const tables = join(recipesFolder, 'reproduce');
const trainings = tableNames().filter((name) => readProtocol(name, tables, []).kind === 'training');

test.each(trainings)('the shipped table %s: every arm is a good recipe in both budgets', (name) => {
  const protocol = loadProtocol(name, join(recipesFolder, 'reproduce'), tableNames());
  for (const budget of ['smoke', 'full'] as const) {
    const recipes = Object.keys(protocol.arms).map((arm) => [
      arm,
      recipeOf(protocol, arm, 1, budget, recipePath),
    ]);
    checkEqualPictures(protocol, Object.fromEntries(recipes));
  }
});

test('arms of unequal budgets are refused', async () => {
  const { folder, table, commit, load } = repository();
  writeFileSync(join(table, 'protocol.yaml'), PROTOCOL.replace('low: {}', 'low: { epochs: 2 }'));
  commit();
  await expect(all(load(), folder)).rejects.toThrow(/unequal numbers of pictures \(low 8, high 4\)/);
});

test('the numbers of a table, by hand', () => {
  const protocol = {
    table: 't',
    arms: { a: {}, b: {} },
    reference: 'a',
    seeds: [1, 2],
    hash: 'h',
    question: '',
    paper: '',
  } as unknown as Protocol;
  const capsule = (arm: string, seed: number, after: number[]) =>
    ({
      arm,
      seed,
      protocol: 'h',
      scores: { reward: { before: [0, 0], after } },
      cost: { pictures: 4, unetForwards: 10, seconds: 1, cpuSeconds: 1800 },
      curve: [],
    }) as unknown as Capsule;
  const capsules = [
    capsule('a', 1, [1, 3]),
    capsule('a', 2, [3, 5]),
    capsule('b', 1, [2, 4]),
    capsule('b', 2, [6, 8]),
  ];
  const numbers = tableNumbers(protocol, capsules);
  // seeds' means 2 and 4: mean 3, standard error 1, t(0.975, 1) = 12.7062
  expect(numbers.arms.a?.reward?.mean).toBe(3);
  expect(numbers.arms.a?.reward?.ci95?.[0]).toBeCloseTo(3 - 12.7062, 3);
  // paired differences 1 and 3
  expect(numbers.againstReference.b?.reward?.mean).toBe(2);
  expect(numbers.cost.a?.cpuHours).toBe(1);
  expect(tableNumbers(protocol, capsules.slice(0, 3)).missing).toEqual(['b-seed2']);
  expect(tableMarkdown(numbers, 'command')).toContain('| a | 2 | +3.00 [-9.71, +15.7] |');
});

test('equal cost, by hand: what each arm had gained when it had spent what the cheaper one spends in all', () => {
  const capsule = (arm: string, seed: number, unetForwards: number, validation: readonly number[]) =>
    ({
      arm,
      seed,
      cost: { pictures: 20, unetForwards, seconds: 1, cpuSeconds: 60 },
      curve: validation.map((value, i) => ({ pictures: 10 * i, training: null, validation: value })),
    }) as unknown as Capsule;
  const capsules = [
    capsule('cheap', 1, 100, [1, 2, 3]),
    capsule('dear', 1, 400, [1, 5, 6]),
    capsule('dear', 2, 400, [0, 2, 2]),
  ];
  const found = equalCost(['cheap', 'dear', 'absent'], capsules, 'unetForwards');
  expect(found?.budget).toBe(100);
  expect(found?.gains.cheap).toEqual({ mean: 2, ci95: null, seeds: 1 });
  // a quarter of 20 pictures: half of the way to the first evaluation
  expect(found?.gains.dear?.mean).toBeCloseTo((2 + 1) / 2, 12);
  expect(equalCost(['dear'], capsules, 'unetForwards')).toBeUndefined();
});

test('a capsule that is no JSON is named', () => {
  const folder = mkdtempSync(join(tmpdir(), 'rldf-capsules-'));
  const protocol = { file: 'p', hash: 'h' } as Protocol;
  const path = writeCapsule(folder, { arm: 'a', seed: 1, protocol: 'h' } as unknown as Capsule);
  expect(readCapsules(folder, protocol)).toHaveLength(1);
  writeFileSync(path, '{');
  expect(() => readCapsules(folder, protocol)).toThrow(/a-seed1.json.*a capsule is JSON/);
});
