import { appendFileSync, mkdirSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, expect, test } from 'vitest';
import type { CompareAnswer, MetricsAnswer, RunsAnswer } from './api.js';
import { band, differences } from './compare.js';
import { RunsFolder } from './folder.js';
import { Columns, thinned } from './series.js';
import { type Asked, eventsOf, newFolder, openStudio, services, writeRun } from './studio.fixture.js';
import { Tally } from './tally.js';

let studio: Asked | undefined;
afterEach(async () => {
  await studio?.close();
  studio = undefined;
});

/** Counts how often the server looks at a run: each time it asks who works in it. */
function countedLooks(runs: string, run: string) {
  let looks = 0;
  let wake = () => {};
  writeFileSync(join(runs, run, 'lock.json'), '{}');
  return {
    services: {
      ...services,
      holderOf: () => {
        looks++;
        wake();
        return undefined;
      },
    },
    async more(count: number) {
      for (const end = looks + count; looks < end; )
        await new Promise<void>((resolve) => {
          wake = resolve;
        });
    },
  };
}

test('buckets have mean, least and greatest of their rows; what is not finite counts in none', () => {
  const steps = [1, 2, 3, 4, 5, 6];
  const values = [1, 3, Number.NaN, 5, Number.POSITIVE_INFINITY, Number.NaN];
  expect(thinned({ steps, values }, 3)).toEqual({
    steps: [2, 4, 6],
    values: [2, 5, null],
    low: [1, 5, null],
    high: [3, 5, null],
    rows: 6,
  });
  expect(thinned({ steps, values }, 6, 3)).toEqual({
    steps: [3, 4, 5, 6],
    values: [null, 5, null, null],
    rows: 4,
  });
});

test('a half-written last line waits for its end; lines that are none are counted and passed over', async () => {
  const runs = newFolder();
  const folder = writeRun(runs, 'first', [{ step: 1, a: 1 }]);
  const file = join(folder, 'metrics.jsonl');
  const columns = new Columns(new RunsFolder(runs), file);
  appendFileSync(file, '{"step":2,"a":');
  await columns.refresh();
  expect(columns.answer(undefined, 10, 0)).toMatchObject({
    rows: 1,
    series: { a: { steps: [1], values: [1] } },
  });
  appendFileSync(
    file,
    '2}\nnonsense\n[]\n{"a":3}\n{"step":3,"a":"NaN"}\n{"step":3,"a":"-Infinity"}\n\n{"step":4,"a":4,"text":"x"}\n',
  );
  await columns.refresh();
  const { rows, badLines, series } = columns.answer(undefined, 10, 0);
  expect({ rows, badLines }).toEqual({ rows: 5, badLines: 3 });
  expect(series).toEqual({ a: { steps: [1, 2, 3, 4], values: [1, 2, null, 4], rows: 4 } });
});

test('a file that a resumed run cut back is read anew; one that was replaced by an equal one goes on', async () => {
  const runs = newFolder();
  const rows = (last: number, a: number) => Array.from({ length: last }, (_, i) => ({ step: i + 1, a }));
  const file = join(writeRun(runs, 'first', rows(5, 1)), 'metrics.jsonl');
  const columns = new Columns(new RunsFolder(runs), file);
  await columns.refresh();
  const replace = (next: readonly object[]) => {
    writeFileSync(`${file}.new`, next.map((row) => `${JSON.stringify(row)}\n`).join(''));
    renameSync(`${file}.new`, file);
  };
  replace([...rows(5, 1), { step: 6, a: 7 }]);
  await columns.refresh();
  expect(columns.column('a')?.values).toEqual([1, 1, 1, 1, 1, 7]);
  replace([...rows(2, 1), { step: 3, a: 9 }]);
  await columns.refresh();
  expect(columns.column('a')).toEqual({ steps: [1, 2, 3], values: [1, 1, 9] });
  rmSync(file);
  await columns.refresh();
  expect(columns.names()).toEqual([]);
});

test('what the list says of a run: start, now, best, pace and where hacking began', async () => {
  const runs = newFolder();
  const rows = [
    { step: 0, pictures: 0, 'validation/reward': 1, 'watch/gridPeak': 0.1, 'watch/diversity': 0.5 },
    { step: 1, pictures: 4, 'reward/mean': 2, 'time/step': 3 },
    { step: 2, pictures: 8, 'reward/mean': 3, 'time/step': 5, 'validation/reward': 4, 'watch/gridPeak': 0.1 },
    {
      step: 3,
      pictures: 12,
      'reward/mean': 'NaN',
      'time/step': 4,
      'validation/reward': 3,
      'watch/gridPeak': 0.9,
      'watch/diversity': 0.2,
      'watch/alarm': ['gridPeak', 'diversity'],
    },
    {
      step: 4,
      pictures: 16,
      'reward/mean': 5,
      'time/step': 4,
      'validation/reward': 3.5,
      'watch/alarm': ['gridPeak'],
    },
  ];
  const folder = writeRun(runs, 'first', rows);
  const tally = new Tally(new RunsFolder(runs), join(folder, 'metrics.jsonl'));
  await tally.refresh();
  expect(tally).toMatchObject({
    rewardStart: 1,
    rewardNow: 3.5,
    best: { step: 2, value: 4 },
    trainingReward: 5,
    step: 4,
    pictures: 16,
    seconds: 16,
    pace: 4,
    alarm: {
      step: 3,
      lastCleanStep: 2,
      symptoms: [
        { name: 'gridPeak', rose: true },
        { name: 'diversity', rose: false },
      ],
    },
    spark: [
      { step: 0, value: 1 },
      { step: 2, value: 4 },
      { step: 3, value: 3 },
      { step: 4, value: 3.5 },
    ],
  });
});

test('10,000 steps come as the points that were asked for, with the extremes kept', async () => {
  const runs = newFolder();
  const rows = Array.from({ length: 10_000 }, (_, i) => ({
    step: i + 1,
    'reward/mean': i === 4321 ? 99 : i / 10_000,
    'loss/policy': -i,
  }));
  writeRun(runs, 'long', rows);
  studio = await openStudio(runs);
  const { series, rows: read } = await studio.json<MetricsAnswer>(
    '/api/runs/long/metrics?names=reward/mean&points=500',
  );
  expect(read).toBe(10_000);
  expect(Object.keys(series)).toEqual(['reward/mean']);
  expect(series['reward/mean']?.steps).toHaveLength(500);
  expect(series['reward/mean']?.high).toContain(99);
  expect(series['reward/mean']?.steps.at(-1)).toBe(10_000);
  const { runs: list } = await studio.json<RunsAnswer>('/api/runs');
  expect(list[0]?.step).toBe(10_000);
  expect(list[0]?.spark.length).toBeLessThanOrEqual(40);
  for (const wrong of ['points=0', 'points=x', 'points=1e9', 'from=-1'])
    expect((await studio.ask(`/api/runs/long/metrics?${wrong}`)).status, wrong).toBe(400);
});

test('500 runs, of which some vanish, have a broken recipe or no metrics', async () => {
  const runs = newFolder();
  for (let i = 0; i < 500; i++) writeRun(runs, `run-${i}`, [{ step: 0, 'validation/reward': i }]);
  rmSync(join(runs, 'run-3', 'metrics.jsonl'));
  writeFileSync(join(runs, 'run-4', 'recipe.yaml'), 'method: [');
  writeFileSync(join(runs, 'run-5', 'recipe.yaml'), '');
  mkdirSync(join(runs, 'empty'));
  writeFileSync(join(runs, 'a-file'), '');
  writeRun(join(runs, 'reproduce', 'table'), 'arm-seed1', [{ step: 1 }]);
  studio = await openStudio(runs);
  const first = await studio.json<RunsAnswer>('/api/runs');
  expect(first.runs).toHaveLength(501);
  const byId = new Map(first.runs.map((row) => [row.id, row]));
  expect(byId.get('run-7')).toMatchObject({
    state: 'stopped',
    rewardNow: 7,
    reward: 'jpeg-compressibility',
    unit: 'kB',
    steps: 10,
  });
  expect(byId.get('run-3')).toMatchObject({ state: 'stopped', rewardNow: null });
  expect(byId.get('run-4')?.state).toBe('damaged');
  expect(byId.get('run-4')?.problem).toContain('recipe.yaml');
  expect(byId.get('run-5')?.state).toBe('damaged');
  expect(byId.get('reproduce~table~arm-seed1')?.name).toBe('arm-seed1');
  const again = await studio.json<RunsAnswer>('/api/runs');
  expect(again.version).toBe(first.version);
  for (let i = 10; i < 20; i++) rmSync(join(runs, `run-${i}`), { recursive: true });
  expect((await studio.ask('/api/runs/run-10')).status).toBe(410); // it was there
  expect((await studio.ask('/api/runs/run-9999')).status).toBe(404);
  const later = await studio.json<RunsAnswer>('/api/runs');
  expect(later.runs).toHaveLength(491);
  expect(later.version).not.toBe(first.version);
});

test('new rows follow by byte offset; a browser that comes back gets those it missed; a resumed run says reset', async () => {
  const runs = newFolder();
  const row = (step: number, a = step) => `${JSON.stringify({ step, a })}\n`;
  const file = join(writeRun(runs, 'first', []), 'metrics.jsonl');
  writeFileSync(file, row(1) + row(2));
  const looks = countedLooks(runs, 'first');
  studio = await openStudio(runs, { services: looks.services });
  const events = eventsOf(await studio.ask('/api/runs/first/events'));
  const next = async (kind: string) => {
    for (;;) {
      const { value, done } = await events.next();
      if (done) throw new Error('the stream ended');
      if (value.event === kind)
        return value as { data: { rows: { step: number }[]; offset: number }; id: string };
    }
  };
  const first = await next('rows');
  expect(first.data.rows.map(({ step }) => step)).toEqual([1, 2]);
  expect(first.data.offset).toBe(Buffer.byteLength(row(1) + row(2)));
  appendFileSync(file, row(3).slice(0, 5));
  await looks.more(2); // the second begins when the first has seen the half line
  appendFileSync(file, row(3).slice(5));
  const second = await next('rows');
  expect(second.data.rows.map(({ step }) => step)).toEqual([3]);
  await events.return(undefined);

  appendFileSync(file, row(4));
  const back = eventsOf(
    await studio.ask('/api/runs/first/events', { headers: { 'last-event-id': second.id } }),
  );
  const missed = async (kind: string, from = back) => {
    for await (const one of { [Symbol.asyncIterator]: () => ({ next: () => from.next() }) })
      if (one.event === kind)
        return one as { data: { rows: { step: number }[]; offset: number }; id: string };
    throw new Error('the stream ended');
  };
  expect((await missed('rows')).data.rows.map(({ step }) => step)).toEqual([4]);
  writeFileSync(`${file}.new`, row(1) + row(2, 7)); // resumed at step 1: shorter, and other bytes
  renameSync(`${file}.new`, file);
  expect((await missed('reset')).data.offset).toBe(Buffer.byteLength(row(1) + row(2, 7)));
  appendFileSync(file, row(3));
  expect((await missed('rows')).data.rows.map(({ step }) => step)).toEqual([3]);
  await back.return(undefined);

  // the same length, other content: the mark of the id tells
  writeFileSync(file, row(1) + row(2, 8) + row(3));
  const stale = eventsOf(
    await studio.ask('/api/runs/first/events', {
      headers: { 'last-event-id': `${Buffer.byteLength(row(1) + row(2))}-${second.id.split('-')[1]}` },
    }),
  );
  expect((await missed('reset', stale)).event).toBe('reset');
  await stale.return(undefined);
});

test('a run that vanishes while it is watched is said to be gone, and comes back', async () => {
  const runs = newFolder();
  const folder = writeRun(runs, 'first', [{ step: 1 }]);
  studio = await openStudio(runs);
  const events = eventsOf(await studio.ask('/api/runs/first/events'));
  const seen: string[] = [];
  for await (const { event } of { [Symbol.asyncIterator]: () => ({ next: () => events.next() }) }) {
    seen.push(event);
    if (event === 'rows') renameSync(folder, join(runs, 'moved'));
    if (event === 'gone') renameSync(join(runs, 'moved'), folder);
    if (seen.includes('gone') && event === 'run') break;
  }
  await events.return(undefined);
  expect(seen).toEqual(['run', 'rows', 'gone', 'run']);
});

test('bands are over runs that differ in their seed alone; other recipes stand apart, with what differs', async () => {
  expect(
    band(
      [
        { steps: [1, 2], values: [1, 2] },
        { steps: [1, 2, 3], values: [3, 6, 5] },
      ],
      10,
    ),
  ).toEqual({
    steps: [1, 2, 3],
    mean: [2, 4, 5],
    low: [1, 2, 5],
    high: [3, 6, 5],
    runs: [2, 2, 1],
  });
  expect(
    differences([
      { id: 'a', recipe: { x: { y: 1, z: [1] } } },
      { id: 'b', recipe: { x: { y: 2, z: [1] }, w: null } },
    ]),
  ).toEqual([
    { path: 'x.y', values: { a: 1, b: 2 } },
    { path: 'w', values: { b: null } },
  ]);
  const runs = newFolder();
  const recipe = (seed: number, rate: number) =>
    `method: ddpo\nseed: ${seed}\ntrain: { learningRate: ${rate} }\n`;
  writeRun(runs, 'one-1', [{ step: 1, r: 1 }], recipe(1, 0.1));
  writeRun(runs, 'one-2', [{ step: 1, r: 3 }], recipe(2, 0.1));
  writeRun(runs, 'two', [{ step: 1, r: 9 }], recipe(1, 0.2));
  studio = await openStudio(runs);
  const { groups, differences: fields } = await studio.json<CompareAnswer>(
    '/api/compare?runs=one-1,two,one-2&names=r',
  );
  expect(groups.map(({ label, runs: own, series }) => [label, own, series.r?.mean])).toEqual([
    ['one (2 runs)', ['one-1', 'one-2'], [2]],
    ['two', ['two'], [9]],
  ]);
  expect(fields.map(({ path }) => path)).toEqual(['seed', 'train.learningRate']);
});
