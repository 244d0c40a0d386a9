import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { picturesOf } from '@rldf/common/base/picture';
import { protocolCommit, readProtocol } from '@rldf/common/base/protocol-file';
import { sha256 } from '@rldf/common/base/sha256';
import { loadLora, loadPipeline, savePipeline, tinyPipeline } from '@rldf/models';
import { tensor } from '@rldf/torch';
import { expect, test } from 'vitest';
import { recipePath, recipesFolder, tableNames } from '../cli/shared.js';
import { readPicture } from '../report/report.js';
import { loadReward } from '../rewards/index.js';
import { drawForEvaluation } from '../sampling/evaluation.js';
import { hashesOf } from './arm.js';
import { type ArmResult, readArmResults, writeArmResult } from './arm-result.js';
import { equalCost } from './equal-cost.js';
import { checkSummands, fusedArms } from './fused-arm.js';
import { checkTestPrompts, testPrompts } from './groups.js';
import { loadTableJudge } from './judges.js';
import { picturesToReach } from './pictures-to-reach.js';
import { checkEqualPictures, loadProtocol, type Protocol, recipeOf } from './protocol.js';
import { type ReproduceEvent, type ReproduceOptions, reproduce } from './reproduce.js';
import { ratioVerdict, tableMarkdown, tableNumbers, verdictOf } from './table.js';

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

test('a table runs every arm and seed once, goes on from its results, and refuses a protocol changed after them', async () => {
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
  const [armResult] = readArmResults(join(folder, 'docs', 'results', 'demo'), load());
  expect(armResult?.environment.device).toBe('cpu');
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

test('what a training of whole layers exports, a folder, is told by the weights in it', () => {
  const folder = mkdtempSync(join(tmpdir(), 'rldf-exported-'));
  mkdirSync(join(folder, 'model', 'unet'), { recursive: true });
  writeFileSync(join(folder, 'lora.safetensors'), 'one');
  writeFileSync(join(folder, 'model', 'unet', 'weights.safetensors'), 'two');
  writeFileSync(join(folder, 'model', 'unet', 'config.json'), '{}');
  expect(hashesOf([join(folder, 'lora.safetensors'), join(folder, 'model')])).toEqual({
    'lora.safetensors': sha256('one'),
    'model/unet/weights.safetensors': sha256('two'),
  });
});

const tables = join(recipesFolder, 'reproduce');
const trainings = tableNames().filter((name) => readProtocol(name, tables, []).kind === 'training');

test.each(trainings)('the shipped table %s: every arm is a good recipe in both budgets', (name) => {
  const protocol = loadProtocol(name, join(recipesFolder, 'reproduce'), tableNames());
  for (const budget of ['smoke', 'full'] as const) {
    const fused = fusedArms(protocol);
    const recipes = Object.fromEntries(
      Object.keys(protocol.arms)
        .filter((arm) => !(arm in fused))
        .map((arm) => [arm, recipeOf(protocol, arm, 1, budget, recipePath)]),
    );
    checkEqualPictures(protocol, recipes);
    checkSummands(protocol, fused, recipes);
    const tested = Object.keys(protocol.arms).map((arm) => [
      arm,
      testPrompts(recipes[fused[arm]?.[0] ?? arm]!),
    ]);
    checkTestPrompts(protocol, Object.fromEntries(tested));
  }
});

const FUSED = `version: 1
question: Does it add up?
paper: none
recipe: recipe.yaml
arms:
  both: { fuse: [text, unet] }
  text: { train.unet: none, train.textEncoder: lora }
  unet: {}
reference: text
seeds: [1]
judges: [jpeg-incompressibility]
budget: { full: { reward: { module: ./red.mjs }, train.learningRate: 0.3 }, smoke: {} }
`;
/** Without steps such as a file's size has: both arms improve on it by far more than rounding. */
const RED = `export const reward = ({ images }) =>
  images.map(({ data }) => data.filter((_, i) => i % 3 === 0).reduce((a, b) => a + b, 0));
`;

test('a fused arm draws with the adapters of the arms it names, of the same seed, and trains nothing', async () => {
  const { folder, table, commit, load } = repository();
  writeFileSync(join(table, 'protocol.yaml'), FUSED);
  writeFileSync(join(table, 'red.mjs'), RED);
  commit();
  const run = (more: Partial<ReproduceOptions> = {}) => all(load(), folder, more);
  await expect(run({ arms: ['both'] })).rejects.toThrow(/both, seed 1: text has not run/);

  const events = await run();
  const order = events.flatMap((event) => (event.kind === 'arm' ? [event.arm] : []));
  expect(order).toEqual(['text', 'unet', 'both']);
  const results = join(folder, 'docs', 'results', 'demo');
  const [both, text, unet] = readArmResults(results, load());
  expect(both).toMatchObject({
    arm: 'both',
    curve: [],
    cost: { pictures: 0, unetForwards: 0, cpuSeconds: 0 },
  });
  expect(Object.values(both!.adapters)).toEqual([text, unet].flatMap((one) => Object.values(one!.adapters)));
  const page = readFileSync(join(folder, 'docs', 'results', 'demo.md'), 'utf8');
  expect(page).toContain('`both` is the sum of text and unet');
  expect(page.split('At equal cost')[1]).toMatch(/\| text \|/);
  expect(page.split('At equal cost')[1]).not.toContain('both');

  const report = (arm: string) => join(folder, 'runs', 'reproduce', 'demo-full', `${arm}-seed1`, 'report');
  const { pairs } = JSON.parse(readFileSync(join(report('both'), 'evaluation.json'), 'utf8'));
  const pictures = async (arm: string, when: 'before' | 'after') =>
    Promise.all(
      pairs.map(
        async (pair: Record<string, string>) => (await readPicture(join(report(arm), pair[when]!))).data,
      ),
    );
  const before = await pictures('both', 'before');
  for (const arm of ['text', 'unet']) {
    expect(await pictures(arm, 'before')).toEqual(before);
    expect(await pictures(arm, 'after')).not.toEqual(before);
    expect(await pictures(arm, 'after')).not.toEqual(await pictures('both', 'after'));
  }
  expect(Object.keys(both!.scores)).toEqual(Object.keys(text!.scores));
  for (const name of Object.keys(both!.scores))
    expect(both!.scores[name]!.before).toEqual(text!.scores[name]!.before);
  const pipeline = loadPipeline(join(table, 'model'));
  for (const arm of ['text', 'unet']) loadLora(join(report(arm), '..', 'adapters'), pipeline.parameters);
  const images = await drawForEvaluation(pipeline, pairs, '', { steps: 2, guidanceScale: 2 });
  expect(picturesOf(images).map(({ data }) => Buffer.from(data))).toEqual(await pictures('both', 'after'));
  images.free();
  for (const parameters of Object.values(pipeline.parameters)) parameters.free();

  rmSync(join(results, 'both-seed1.json'));
  const adapter = join(report('text'), '..', 'adapters', 'pytorch_lora_weights.safetensors');
  writeFileSync(adapter, 'another');
  await expect(run()).rejects.toThrow(/is not what the result of text was made with/);
  rmSync(join(report('text'), '..'), { recursive: true });
  await expect(run()).rejects.toThrow(
    /missing — both adds adapters up.*Remove .*text-seed1\.json and run text again, or leave both out/,
  );
  expect((await run({ arms: ['text', 'unet'] })).map(({ kind }) => kind)).toEqual(['table']);
});

test('sums of what cannot be added up are refused', () => {
  const of = (fused: Record<string, unknown>) => () =>
    fusedArms({ file: 'p', arms: { a: {}, b: {}, c: { fuse: ['a', 'b'] }, d: fused } });
  expect(of({ fuse: ['a', 'b'] })().d).toEqual(['a', 'b']);
  expect(of({ fuse: ['a', 'b'], epochs: 2 })).toThrow(/arms\.d: epochs beside fuse — a sum trains nothing/);
  for (const fuse of [['a'], ['a', 'a'], 'a'])
    expect(of({ fuse })).toThrow(/two or more arms, each once.*fuse: \[a, b\]/);
  for (const name of ['c', 'd', 'e'])
    expect(of({ fuse: ['a', name] })).toThrow(/is no arm that trains.*a, b$/);

  const { table, load } = repository();
  const check = (high: string) => () => {
    writeFileSync(join(table, 'protocol.yaml'), PROTOCOL.replace('train.learningRate: 0.01', high));
    const recipes = ['low', 'high'].map((arm) => [arm, recipeOf(load(), arm, 1, 'full', (name) => name)]);
    checkSummands({ file: 'p' }, { sum: ['low', 'high'] }, Object.fromEntries(recipes));
  };
  expect(check('train.learningRate: 0.02')).not.toThrow();
  expect(check('sample.steps: 3')).toThrow(/low has sample\.steps 2, high has sample\.steps 3/);
  expect(check('evaluate.prompts: [a sun]')).toThrow(/"prompts":\["a cat","a dog"\].*"prompts":\["a sun"\]/);
  expect(check('train.unet: full')).toThrow(/high trains all weights/);
});

test('groups: the different test prompts of a recipe; a claim about a group that is not there, and a bad pattern', () => {
  const { table, load } = repository();
  const write = (more: string) => writeFileSync(join(table, 'protocol.yaml'), `${PROTOCOL}${more}`);
  const claims = 'claims: { one: { says: x, arm: high, against: low, judge: reward, group: left } }\n';
  write(`${claims}groups: { unseen: frog }\n`);
  expect(load).toThrow(/claims\.one: "left" is no group of test prompts — there are unseen/);
  write(claims);
  expect(load).toThrow(/"left" is no group of test prompts — there are none\. Define it in groups/);
  write('groups: { left: "(" }\n');
  expect(load).toThrow(/must be a regular expression/);
  write('groups: { left: left }\n');
  const recipe = (fields: string) => {
    writeFileSync(join(table, 'recipe.yaml'), `${RECIPE}${fields}`);
    return recipeOf(load(), 'low', 1, 'full', (name) => name);
  };
  expect(testPrompts(recipe(''))).toEqual(['a cat', 'a dog']);
  expect(testPrompts(recipe('report: { prompts: [a sun, a sun, a fox, a cat], maxPrompts: 3 }'))).toEqual([
    'a sun',
    'a fox',
  ]);
});

test('arms that are compared are tested on the same prompts', () => {
  const claim = (against: string | undefined) => ({
    one: { says: '', arm: 'b', against, judge: 'r', least: 0 },
  });
  const check = (reference: string | undefined, against: string | undefined, b: string[]) => () =>
    checkTestPrompts(
      { file: 'p', arms: { a: {}, b: {} }, reference, claims: claim(against) },
      { a: ['x', 'y'], b },
    );
  expect(check('a', 'a', ['x', 'y'])).not.toThrow();
  expect(check(undefined, undefined, ['z'])).not.toThrow();
  expect(check(undefined, 'a', ['x', 'z'])).toThrow(/claims\.one: test prompt 2 of b is "z", of a "y"/);
  expect(check('a', undefined, ['x'])).toThrow(/reference: test prompt 2 of b is nothing, of a "y"/);
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
    groups: { left: 'left', above: '^above' },
    claims: {
      better: { says: 'b is better', arm: 'b', against: 'a', judge: 'reward', least: 0 },
      'better-left': {
        says: 'b is better',
        arm: 'b',
        against: 'a',
        judge: 'reward',
        group: 'left',
        least: 0,
      },
      gain: { says: 'b learns', arm: 'b', judge: 'reward', least: 0 },
      unknown: { says: 'c is better', arm: 'c', against: 'a', judge: 'reward', least: 0 },
    },
    hash: 'h',
    question: '',
    paper: '',
  } as unknown as Protocol;
  const armResult = (arm: string, seed: number, after: number[]) =>
    ({
      arm,
      seed,
      protocol: 'h',
      scores: { reward: { before: [0, 0], after } },
      cost: { pictures: 4, unetForwards: 10, seconds: 1, cpuSeconds: 1800 },
      curve: [],
    }) as unknown as ArmResult;
  const armResults = [
    armResult('a', 1, [1, 3]),
    armResult('a', 2, [3, 5]),
    armResult('b', 1, [2, 4]),
    armResult('b', 2, [6, 9]),
  ];
  const numbers = tableNumbers(protocol, armResults, {
    a: ['to the left', 'above'],
    b: ['to the left', 'right'],
  });
  // seeds' means 2 and 4: mean 3, standard error 1, t(0.975, 1) = 12.7062
  expect(numbers.arms.a?.reward?.mean).toBe(3);
  expect(numbers.arms.a?.reward?.ci95?.[0]).toBeCloseTo(3 - 12.7062, 3);
  // paired differences 1 and 3.5
  expect(numbers.againstReference.b?.reward?.mean).toBe(2.25);
  // the same differences, and t again: 2.25 +- 1.25 x 12.7062; of the first prompts 1 and 3
  expect(numbers.summary.claims).toEqual({
    better: expect.objectContaining({ value: 2.25, seeds: 2, verdict: 'not shown' }),
    'better-left': expect.objectContaining({ value: 2, seeds: 2, verdict: 'not shown' }),
    gain: expect.objectContaining({ value: 5.25, seeds: 2, verdict: 'not shown' }), // 3 and 7.5
  });
  expect(numbers.groups?.left?.arms.a?.reward?.mean).toBe(2); // 1 and 3
  expect(numbers.groups?.left?.againstReference.b?.reward?.mean).toBe(2);
  expect(Object.keys(numbers.groups?.above?.arms ?? {})).toEqual(['a']); // b has no such prompt
  expect(numbers.groups?.above?.arms.a?.reward?.mean).toBe(4); // 3 and 5
  expect(numbers.cost.a?.cpuHours).toBe(1);
  expect(tableNumbers(protocol, armResults.slice(0, 3)).missing).toEqual(['b-seed2']);
  const page = tableMarkdown(numbers, 'command');
  expect(page).toContain('| a | 2 | +3.00 [-9.71, +15.7] |');
  expect(page).toContain('| b is better | b − a, reward | +2.25 [-13.6, +18.1] | above 0 | **not shown** |');
  expect(page).toContain(
    '| b is better | b − a, reward, left | +2.00 [-10.7, +14.7] | above 0 | **not shown** |',
  );
  expect(page).toContain('| b learns | b − untrained, reward | +5.25 [');
  expect(page).toContain('on the test prompts of the group `left`:');
});

test.each([
  [0.2, [0.1, 0.3], 0.15, 'shown'],
  [0.2, [0.1, 0.3], 0.25, 'not shown'],
  [0.2, [-0.1, 0.5], 0, 'not shown'],
  [-0.2, [-0.3, -0.1], 0, 'opposite'],
  [0.2, null, 0, 'not shown'],
] as const)('a claim of %d in %o, at least %d: %s', (value, ci95, least, verdict) => {
  expect(verdictOf(value, ci95 && [...ci95], least)).toBe(verdict);
});

test('equal cost, by hand: what each arm had gained when it had spent what the cheaper one spends in all', () => {
  const armResult = (arm: string, seed: number, unetForwards: number, validation: readonly number[]) =>
    ({
      arm,
      seed,
      cost: { pictures: 20, unetForwards, seconds: 1, cpuSeconds: 60 },
      curve: validation.map((value, i) => ({ pictures: 10 * i, training: null, validation: value })),
    }) as unknown as ArmResult;
  const armResults = [
    armResult('cheap', 1, 100, [1, 2, 3]),
    armResult('dear', 1, 400, [1, 5, 6]),
    armResult('dear', 2, 400, [0, 2, 2]),
  ];
  const found = equalCost(['cheap', 'dear', 'absent'], armResults, 'unetForwards');
  expect(found?.budget).toBe(100);
  expect(found?.gains.cheap).toEqual({ mean: 2, ci95: null, seeds: 1 });
  // a quarter of 20 pictures: half of the way to the first evaluation
  expect(found?.gains.dear?.mean).toBeCloseTo((2 + 1) / 2, 12);
  expect(equalCost(['dear'], armResults, 'unetForwards')).toBeUndefined();
});

test('pictures to reach the other arm’s last validation reward, by hand', () => {
  const armResult = (arm: string, seed: number, validation: readonly number[]) =>
    ({
      arm,
      seed,
      curve: validation.map((value, i) => ({ pictures: 10 * i, training: null, validation: value })),
    }) as unknown as ArmResult;
  const none = [armResult('none', 1, [1, 2, 3, 4]), armResult('none', 2, [0, 1, 1, 1])];
  const both = [armResult('both', 1, [1, 5, 5, 5]), armResult('both', 2, [0, 1, 4, 2])];
  // the other arm ends 3 and 1 higher: 2 on average, which it reaches after 20 pictures and never (30)
  const found = picturesToReach(both, none);
  expect(found).toMatchObject({ target: 2, seeds: 2, reached: [2, 1] });
  // half of the way to 10, and a third of the way from 10 to 20
  expect(found?.ratio).toBeCloseTo(Math.sqrt((5 / 20) * ((10 + 10 / 3) / 30)), 12);
  expect(picturesToReach(none, none)).toMatchObject({ ratio: 1, ci95: [1, 1], reached: [1, 1] });
  expect(picturesToReach(both, [])).toBeUndefined();
  expect(picturesToReach([armResult('both', 1, [])], none)).toBeUndefined();

  const claims = { fewer: { says: 'fewer do', arm: 'both', against: 'none', picturesAtMost: 0.8 } };
  const cost = { pictures: 30, unetForwards: 1, seconds: 1, cpuSeconds: 1 };
  const arms = { none: {}, both: {} };
  const protocol = { arms, seeds: [1, 2], groups: {}, claims, hash: 'h' } as unknown as Protocol;
  const numbers = tableNumbers(
    protocol,
    [...none, ...both].map((one) => ({ ...one, scores: {}, cost })),
  );
  expect(numbers.summary.claims.fewer).toMatchObject({ value: found?.ratio, verdict: 'not shown' }); // two seeds
  // the seeds' values [1, 5, 5, 5] and [0, 1, 4, 2]: best 5 after 10 pictures and 4 after 20
  expect(numbers.validation.both).toEqual({ before: 0.5, last: 3.5, best: 4.5, bestPictures: 15 });
  expect(tableMarkdown(numbers, 'command')).toContain(
    '| fewer do | pictures of both / none, to a validation reward 2.00 higher (reached by 2 and 1 of 2) | 0.333 [',
  );
});

test.each([
  [0.7, [0.5, 0.9], 'shown'],
  [0.85, [0.8, 0.9], 'not shown'],
  [0.7, [0.4, 1.1], 'not shown'],
  [1.3, [1.1, 1.5], 'opposite'],
  [0.7, null, 'not shown'],
] as const)('a claim of four fifths of the pictures, found %d in %o: %s', (value, ci95, verdict) => {
  expect(ratioVerdict(value, ci95 && [...ci95], 0.8)).toBe(verdict);
});

test('a result that is no JSON is named', () => {
  const folder = mkdtempSync(join(tmpdir(), 'rldf-results-'));
  const protocol = { file: 'p', hash: 'h' } as Protocol;
  const path = writeArmResult(folder, { arm: 'a', seed: 1, protocol: 'h' } as unknown as ArmResult);
  expect(readArmResults(folder, protocol)).toHaveLength(1);
  writeFileSync(path, '{');
  expect(() => readArmResults(folder, protocol)).toThrow(/a-seed1.json.*a result is JSON/);
});
