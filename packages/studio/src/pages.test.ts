import { appendFileSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, expect, test } from 'vitest';
import type { PicturesAnswer, RatingSession, RunsAnswer, SearchDetail, TableDetail } from './api.js';
import { histogramOf, type PictureLine, promptsOf } from './pictures.js';
import { type Answer, bradleyTerry, ratingsOf } from './ratings.js';
import { bestOfStates } from './searches.js';
import { type Asked, newFolder, openStudio, services, writeRun } from './studio.fixture.js';

let studio: Asked | undefined;
afterEach(async () => {
  await studio?.close();
  studio = undefined;
});

const line = (step: number, prompts: string[], rewards: number[], more: object = {}): PictureLine => ({
  step,
  kind: 'rollout',
  width: 1,
  height: 1,
  kept: 0,
  prompts,
  rewards,
  parts: {},
  ...more,
});

test('rewards by prompt: means of each step, and of the first and last fifth', () => {
  const lines = [
    line(1, ['b', 'a', 'a'], [9, 1, 3]),
    line(2, ['a', 'a'], [5, 7]),
    line(3, ['a'], [Number.NaN]),
  ];
  expect(promptsOf(lines)).toEqual({
    prompts: [
      {
        prompt: 'a',
        points: [
          { step: 1, mean: 2, pictures: 2 },
          { step: 2, mean: 6, pictures: 2 },
        ],
        first: 1,
        last: 7,
        pictures: 4,
      },
      { prompt: 'b', points: [{ step: 1, mean: 9, pictures: 1 }], first: 9, last: 9, pictures: 1 },
    ],
    more: 0,
  });
});

test('the histogram has the same 30 bins at all steps; the largest reward is in the last', () => {
  const { edges, columns } = histogramOf(
    [line(1, ['a', 'a'], [0, 30]), line(2, ['a', 'a'], [14.5, 15])],
    'rollout',
  );
  expect(edges).toEqual(Array.from({ length: 31 }, (_, i) => i));
  expect(
    columns.map(({ counts }) => counts.flatMap((count, bin) => (count === 0 ? [] : [[bin, count]]))),
  ).toEqual([
    [
      [0, 1],
      [29, 1],
    ],
    [
      [14, 1],
      [15, 1],
    ],
  ]);
  expect(columns.map(({ mean }) => mean)).toEqual([15, 14.75]);
  expect(histogramOf([], 'rollout')).toEqual({ kind: 'rollout', edges: [], columns: [] });
  expect(histogramOf([line(1, ['a'], [5])], 'rollout').columns[0]?.pictures).toBe(1);
});

test('pictures come with how they were drawn, and a command; those that were not kept have no file', async () => {
  const runs = newFolder();
  const recipe = 'method: ddpo\nnegativePrompt: ugly\nsample: { steps: 2, eta: 0.5, guidanceScale: 4 }\n';
  const folder = writeRun(runs, "it's", [], recipe);
  const more = {
    kept: 1,
    seed: 7,
    paths: [
      [0, 1, 2],
      [0, 1, 3],
    ],
    guidance: [
      [1, 4],
      [4, 4],
    ],
    words: { 1: [{ word: 1, weight: 1.5 }] },
  };
  const log = join(folder, 'samples', 'pictures.jsonl');
  writeFileSync(
    log,
    `${JSON.stringify(line(1, ['a cat', 'a dog'], [1, 2], { ...more, parts: { x: [3, 4] } }))}\n`,
  );
  mkdirSync(join(folder, 'checkpoints', 'step-0'), { recursive: true });
  studio = await openStudio(runs);
  const id = encodeURIComponent("it's");
  expect((await studio.ask(`/api/runs/${id}/pictures`)).status).toBe(404); // such a name rldf gives no run
  const good = writeRun(runs, 'good', [], recipe);
  writeFileSync(join(good, 'samples', 'pictures.jsonl'), readFileSync(log));
  mkdirSync(join(good, 'checkpoints', 'step-0'), { recursive: true });
  const { pictures, steps, total } = await studio.json<PicturesAnswer>('/api/runs/good/pictures');
  expect({ steps, total }).toEqual({ steps: [1], total: 2 });
  expect(pictures[1]).toMatchObject({
    id: 'rollout-1-001',
    prompt: 'a dog',
    seed: '7:0.1.3',
    file: null,
    reward: 2,
    rewards: { x: 4 },
    behaviour: {
      steps: 2,
      eta: 0.5,
      guidance: [4, 4],
      wordWeights: [{ word: 'dog', weight: 1.5 }],
      negativePrompt: 'ugly',
    },
    redraw: { command: `rldf redraw ${join(runs, 'good')} rollout-1-001`, exact: true },
  });
  expect(pictures[0]?.behaviour.guidance).toEqual([1, 4]);
  expect(pictures[0]?.file).not.toBeNull();
  appendFileSync(
    join(good, 'samples', 'pictures.jsonl'),
    `${JSON.stringify(line(5, ['a'], [1], { kept: 1 }))}\n{"half`,
  );
  const later = await studio.json<PicturesAnswer>('/api/runs/good/pictures');
  expect(later.step).toBe(5);
  expect(later.pictures[0]?.redraw).toMatchObject({
    exact: false,
    note: expect.stringContaining('those of step 0'),
  });
});

test('the best Q of a state is over the entries that were updated; without a table visits are counted', () => {
  const trace = { states: [0, 2, 2], rewards: [0, 1, 1], best: 1 };
  const table = {
    table: 'actions' as const,
    actions: 2,
    q: [0.9, 0.1, 0.2, 0.3, 5, 6],
    visits: [0, 2, 0, 0, 1, 1],
  };
  expect(bestOfStates({ table, trace }, 3)).toEqual({ q: [0.1, null, 6], visits: [2, 0, 2] });
  const after = { table: 'afterstates' as const, actions: 2, q: [1, 2, 3], visits: [0, 1, 0] };
  expect(bestOfStates({ table: after, trace }, 3)).toEqual({ q: [null, 2, null], visits: [0, 1, 0] });
  expect(bestOfStates({ trace }, 3)).toEqual({ q: [], visits: [1, 0, 2] });
});

test('a search that goes on is shown from its agent and the states it looked at', async () => {
  const runs = newFolder();
  const folder = join(runs, 'found');
  mkdirSync(join(folder, 'memory', 'pictures'), { recursive: true });
  writeFileSync(join(folder, 'memory', 'pictures', 'k.png'), 'a picture');
  const identity = {
    agent: 'q',
    reward: 'multi',
    gamma: 0.9,
    axes: [
      ['Noun', ['cat', 'dog']],
      ['Count', ['1', '2', '3']],
    ],
    goal: 'two dogs',
  };
  const trace = { states: [0, 4], rewards: [0.1, 0.8], best: 1 };
  writeFileSync(join(folder, 'agent.json'), JSON.stringify({ identity, trace }));
  writeFileSync(
    join(folder, 'states.json'),
    JSON.stringify({ 0: ['a cat', 'x.png'], 4: ['two dogs', 'k.png'] }),
  );
  studio = await openStudio(runs);
  const { searches } = await studio.json<RunsAnswer>('/api/runs');
  expect(searches).toMatchObject([
    { id: 'found', state: 'stopped', agent: 'q', goal: 'two dogs', found: 'two dogs', steps: 1 },
  ]);
  const detail = await studio.json<SearchDetail>('/api/searches/found');
  expect(detail).toMatchObject({
    states: 6,
    start: 0,
    goalState: 4,
    trace: [
      { state: 0, reward: 0.1 },
      { state: 4, reward: 0.8 },
    ],
  });
  expect(detail.slides.map(({ axis, files }) => [axis, files.map((file) => file !== null)])).toEqual([
    ['Noun', [false, true]], // state 1 was never looked at
    ['Count', [false, true, false]],
  ]);
  const file = detail.pictures[4]?.file;
  expect(await (await studio.ask(`/api/files/${file}`)).text()).toBe('a picture');
  writeFileSync(join(folder, 'agent.json'), '{"half');
  expect((await studio.ask('/api/searches/found')).status).toBe(404);
});

test('a table of arms and seeds, with its curves', async () => {
  const results = newFolder();
  const one = { mean: 1, ci95: [0, 2], seeds: 2 };
  const numbers = {
    table: 't',
    question: 'q?',
    paper: 'p',
    protocol: 'h',
    arms: { a: { r: one }, b: { r: { ...one, mean: 3 } } },
    againstReference: { b: { r: one } },
    missing: ['b-seed3'],
  };
  writeFileSync(join(results, 't.json'), JSON.stringify(numbers));
  writeFileSync(join(results, 't.md'), '# t');
  writeFileSync(join(results, 'other.json'), '{"table": 1}');
  mkdirSync(join(results, 't'));
  const armResult = {
    arm: 'a',
    seed: 1,
    curve: [
      { pictures: 0, validation: 1 },
      { pictures: 8, validation: null },
    ],
  };
  writeFileSync(join(results, 't', 'a-seed1.json'), JSON.stringify(armResult));
  studio = await openStudio(newFolder(), { results: [results] });
  const { tables } = await studio.json<RunsAnswer>('/api/runs');
  expect(tables).toMatchObject([{ id: 't', arms: 2, done: 4, wanted: 5 }]);
  const table = await studio.json<TableDetail>('/api/tables/t');
  expect(table).toMatchObject({ scores: ['r'], missing: ['b-seed3'], markdown: '# t' });
  expect(table.rows.map(({ arm, againstReference }) => [arm, againstReference?.r?.mean])).toEqual([
    ['a', undefined],
    ['b', 1],
  ]);
  expect(table.curves).toEqual([{ arm: 'a', seed: 1, points: [{ pictures: 0, reward: 1 }] }]);
});

test('pairs become strengths after Bradley and Terry, with one tie against the average each', () => {
  const pair = (a: string, b: string, better: 'a' | 'b' | 'tie'): Answer => ({ kind: 'pair', a, b, better });
  const once = bradleyTerry([pair('x', 'y', 'a')] as never);
  const x = Math.exp(once.get('x') as number);
  // what was won is what is expected: half a win of the tie and one of the pair = x/(x + 1) + x/(x + 1/x)
  expect(x / (x + 1) + x / (x + 1 / x)).toBeCloseTo(1.5, 6);
  expect(once.get('y')).toBeCloseTo(-(once.get('x') as number), 6);
  const tie = bradleyTerry([pair('x', 'y', 'tie')] as never);
  expect(tie.get('x')).toBeCloseTo(0, 6);
  const chain = ratingsOf([pair('x', 'y', 'a'), pair('z', 'y', 'b'), pair('x', 'z', 'a')]);
  expect([...chain].sort((a, b) => b[1] - a[1]).map(([name]) => name)).toEqual(['x', 'y', 'z']);
  const scored = ratingsOf([
    pair('x', 'y', 'a'),
    { kind: 'score', picture: 'y', rating: 2 },
    { kind: 'score', picture: 'y', rating: 5 },
  ]);
  expect([...scored]).toEqual([['y', 3.5]]);
});

test('pairs are of one prompt, those compared least first; a torn journal and a restart lose nothing', async () => {
  const runs = newFolder();
  const folder = writeRun(runs, 'first', []);
  const more = { kind: 'validation' as const, kept: 3, seeds: [1, 2, 3] };
  writeFileSync(
    join(folder, 'samples', 'pictures.jsonl'),
    `${JSON.stringify(line(0, ['a', 'a', 'b'], [1, 2, 3], more))}\n`,
  );
  mkdirSync(join(folder, 'samples', 'step-00000'));
  for (const index of [0, 1, 2])
    writeFileSync(join(folder, 'samples', 'step-00000', `validation-00${index}.png`), `${index}`);
  const hashed = {
    ...services,
    hashPicture: async (file: string) => `hash of ${readFileSync(file, 'utf8')}`,
  };
  studio = await openStudio(runs, { services: hashed });
  const session = await studio.json<RatingSession>('/api/ratings?run=first&kind=validation');
  expect(session.items).toHaveLength(3);
  expect(session.pairs).toHaveLength(1);
  const [pair] = session.pairs as [{ a: number; b: number }];
  const [a, b] = [session.items[pair.a], session.items[pair.b]] as [
    RatingSession['items'][0],
    RatingSession['items'][0],
  ];
  expect([a.prompt, b.prompt]).toEqual(['a', 'a']);
  await studio.close();
  studio = await openStudio(runs, { services: hashed }); // no session was asked for yet
  const answer = { set: session.set, kind: 'pair', a: a.picture, b: b.picture, better: 'a' };
  expect((await studio.post('/api/ratings', answer)).body).toMatchObject({ done: { scores: 0, pairs: 1 } });
  appendFileSync(join(runs, 'ratings', 'first-validation.journal.jsonl'), '{"kind":"pa');
  const after = await studio.json<RatingSession>('/api/ratings?run=first&kind=validation');
  expect(after.done).toEqual({ scores: 0, pairs: 1 });
  expect(after.pairs).toEqual([]);
  await studio.post('/api/ratings', { ...answer, better: 'tie' }); // behind the torn line, not within it
  expect((await studio.post('/api/ratings', { set: session.set, kind: 'undo' })).body).toMatchObject({
    done: { pairs: 1 },
  });
  const ratings = readFileSync(join(runs, 'ratings', 'first-validation.jsonl'), 'utf8')
    .trim()
    .split('\n')
    .map((one) => JSON.parse(one));
  expect(ratings.map(({ prompt, rating }) => [prompt, Math.sign(rating)]).sort()).toEqual([
    ['a', -1],
    ['a', 1],
  ]);
  expect(ratings.every(({ picture }) => /^hash of [01]$/.test(picture))).toBe(true);
  for (const wrong of [
    { ...answer, better: 'c' },
    { ...answer, b: a.picture },
    { ...answer, set: '../x-validation' },
    { set: session.set },
  ])
    expect((await studio.post('/api/ratings', wrong)).status).toBeGreaterThanOrEqual(400);
});
