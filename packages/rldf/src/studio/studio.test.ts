import {
  copyFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { tensorOfPictures } from '@rldf/common/base/picture';
import {
  type AdaptersAnswer,
  type BackAnswer,
  type DrawAnswer,
  type ExportAnswer,
  type PicturesAnswer,
  type RatingAnswer,
  type RatingSession,
  type RunDetail,
  type Studio,
  startStudio,
} from '@rldf/studio';
import { liveTensors, setThreads } from '@rldf/torch';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { parse, stringify } from 'yaml';
import { rldf } from '../cli/command-line.fixture.js';
import { readPicture } from '../report/report.js';
import { loadRatings } from '../rewards/ratings.js';
import { type PictureLine, pictureFile, pictureLogPath } from '../run/picture-log.js';
import { openRun, Run } from '../run/run.js';
import { resume, train } from '../train/from-recipe.js';
import { drain, fingerprint, saveTinyModel, tinyRecipe } from '../train/tiny-run.fixture.js';
import { Drawer } from './draw-worker.js';
import { goBack } from './go-back.js';
import { redraw } from './redraw.js';
import { RunModel } from './run-model.js';
import { studioServices } from './services.js';

setThreads(1);
const folder = mkdtempSync(join(tmpdir(), 'rldf-studio-'));
const root = join(folder, 'runs');
const explore = { share: 0.5, guidance: { low: 1.5, steps: 1 }, words: {} };
const recipe = {
  ...tinyRecipe(saveTinyModel(join(folder, 'model')), 4),
  explore,
  checkpoint: { every: 1, keep: 9 },
};
let run: Run;
let studio: Studio;
/** Over a connection of its own: one that waits for the next request may be closed in the middle of it. */
const fetched = (path: string, body?: unknown) =>
  fetch(`http://127.0.0.1:${studio.port}${path}`, {
    headers: {
      authorization: `Bearer ${studio.token}`,
      'content-type': 'application/json',
      connection: 'close',
    },
    ...(body === undefined ? {} : { method: 'POST', body: JSON.stringify(body) }),
  });
const ask = async <T>(path: string, body?: unknown): Promise<T> => {
  const response = await fetched(path, body);
  const answer = (await response.json()) as T & { error?: { message: string } };
  if (!response.ok) throw new Error(answer.error?.message);
  return answer;
};
beforeAll(async () => {
  await drain(train(recipe, { name: 'first', root }));
  run = openRun('first', root);
  studio = await startStudio({ runs: root, services: studioServices(), everyMs: 20 });
});
afterAll(() => studio.close());

const linesOf = (of: Run) =>
  readFileSync(pictureLogPath(of), 'utf8')
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line) as PictureLine);

test('a run notes what it draws: how, from which noise, and its rewards; the first as files', () => {
  const lines = linesOf(run);
  expect(lines.map(({ kind, step, kept }) => [kind, step, kept])).toEqual([
    ['validation', 0, 3],
    ['rollout', 1, 0],
    ['rollout', 2, 4],
    ['validation', 2, 3],
    ['rollout', 3, 0],
    ['rollout', 4, 4],
    ['validation', 4, 3],
  ]);
  const [, first, , , third] = lines as [PictureLine, PictureLine, PictureLine, PictureLine, PictureLine];
  expect(first.guidance).toEqual([1.5, 4, 4]); // explores: low in the first of three steps
  expect(third.guidance).toEqual([4, 4, 4]);
  expect(Object.keys(first.words ?? {})).toHaveLength(4);
  expect(third.words).toBeUndefined();
  expect(first.paths?.map(([epoch, prompt, picture]) => [epoch, prompt, picture])).toEqual([
    [0, 0, 0],
    [0, 0, 1],
    [0, 1, 0],
    [0, 1, 1],
  ]);
  const mean = first.rewards.reduce((sum, value) => sum + value, 0) / 4;
  const row = readFileSync(run.metricsPath, 'utf8').split('\n')[1] as string;
  expect(mean).toBeCloseTo(JSON.parse(row)['reward/mean'], 4);
  for (const { kind, step, kept } of lines)
    for (let index = 0; index < kept; index++)
      expect(existsSync(pictureFile(run, kind, step, index))).toBe(true);
});

test('a resumed run notes each step once', async () => {
  const controller = new AbortController();
  for await (const event of train(recipe, { name: 'broken', root, signal: controller.signal }))
    if (event.kind === 'step' && event.step === 3) controller.abort();
  await drain(resume('broken', { root }));
  expect(linesOf(openRun('broken', root))).toEqual(linesOf(run));
});

test('pictures are drawn again from their checkpoint: validation and test pixel by pixel, rollouts up to rounding', async () => {
  const before = liveTensors();
  for (const [id, most] of [
    ['validation-2-001', 0],
    ['validation-4-002', 0],
    ['rollout-2-003', 1],
    ['rollout-4-000', 1],
    ['test-001', 0],
  ] as const) {
    const drawn = await redraw(run, id, join(folder, `${id}.png`));
    expect(drawn.largest, id).toBeLessThanOrEqual(most);
    expect(drawn.checkpoint, id).toBe(drawn.step);
  }
  expect(liveTensors()).toBe(before);
  const other = await redraw(run, 'rollout-2-003', join(folder, 'x.png')); // the words that were weighted tell
  expect(other.prompt).toBe(linesOf(run)[2]?.prompts[3]);
  await expect(redraw(run, 'rollout-9-000', join(folder, 'x.png'))).rejects.toThrow('has no such picture');
  await expect(redraw(run, '../x', join(folder, 'x.png'))).rejects.toThrow('names no picture');
  const { code, out } = await rldf(
    'redraw',
    'first',
    'test-000',
    '--runs',
    root,
    '--output',
    join(folder, 'y.png'),
  );
  expect(code).toBe(0);
  expect(out).toContain('equal to the kept one, pixel by pixel');
});

test('going back makes a run that ends as the old one did, and leaves that alone', async () => {
  const old = () =>
    readdirSync(run.folder, { recursive: true }).map((name) => [
      name,
      existsSync(join(run.folder, `${name}`)),
    ]);
  const before = old();
  const { run: id, command } = await ask<BackAnswer>('/api/runs/first/back', { step: 2 });
  expect(id).toBe('first-back-2');
  expect(command).toBe(`rldf resume ${join(root, 'first-back-2')}`);
  const back = new Run(join(root, id));
  expect(back.checkpoints().map(({ step }) => step)).toEqual([0, 1, 2]);
  expect(linesOf(back).at(-1)?.step).toBe(2);
  expect(existsSync(join(back.folder, 'report'))).toBe(false);
  await drain(resume(id, { root }));
  expect(fingerprint(back)).toEqual(fingerprint(run));
  expect(old()).toEqual(before);
  expect((await ask<BackAnswer>('/api/runs/first/back', { step: 2 })).name).toBe('first-back-2-2');
  await expect(ask('/api/runs/first/back', { step: 9 })).rejects.toThrow('has no checkpoint');
  await expect(ask('/api/runs/first/back', { step: 2, name: 'first' })).rejects.toThrow('already');
  await expect(ask('/api/runs/first/back', { step: 2, name: '../x' })).rejects.toThrow('only letters');
});

test('back from hacking, the new run ends at the alarm instead of doing the same again', async () => {
  const hacked = goBack(run.folder, 4, 'hacked');
  writeFileSync(
    hacked.metricsPath,
    readFileSync(hacked.metricsPath, 'utf8').replace('{"step":4', '{"watch/alarm":["gridPeak"],"step":4'),
  );
  const modeOf = (of: Run) => parse(readFileSync(of.recipePath, 'utf8')).watch.mode;
  expect(modeOf(hacked)).toBe('log');
  expect(modeOf(goBack(hacked.folder, 2, 'clean'))).toBe('stop');
  const { alarm } = await ask<RunDetail>('/api/runs/hacked');
  expect(alarm).toMatchObject({
    step: 4,
    lastCleanStep: 2,
    cleanCheckpoint: 2,
    symptoms: [{ name: 'gridPeak' }],
  });
});

test('a damaged checkpoint makes no run', () => {
  const damaged = goBack(run.folder, 3, 'damaged');
  writeFileSync(join(damaged.checkpointsFolder, 'step-3', 'state.safetensors'), 'x');
  expect(() => goBack(damaged.folder, 3, 'from-damaged')).toThrow('cut off or damaged');
  expect(readdirSync(root).filter((name) => /from-damaged/.test(name))).toEqual([]);
});

test('what is drawn at a point of the dial is what its export draws; a checkpoint draws its validation picture', async () => {
  const model = new RunModel(run); // of the last step: the best may be step 0, which learned nothing
  model.load(4);
  const [written] = (await model.training.exportTo(join(folder, 'learned'))) as [string];
  model.free();
  mkdirSync(join(root, 'exports'));
  const lora = join(root, 'exports', 'learned.safetensors');
  copyFileSync(written, lora);
  const { adapters } = await ask<AdaptersAnswer>('/api/adapters');
  expect(adapters.map(({ label }) => label)).toContain('first: pytorch_lora_weights.safetensors');
  const learned = adapters.find(({ label }) => label === 'export: learned.safetensors');
  expect(learned).toMatchObject({ run: null, parts: ['unet', 'textEncoder'] });
  const file = learned?.file as string;
  const point = { file, unet: 1.7, textEncoder: -4 };
  const exported = await ask<ExportAnswer>('/api/export', { run: 'first', name: 'point', adapters: [point] });
  expect(exported.layers.unet).toBeGreaterThan(0);
  expect(exported.layers.textEncoder).toBeGreaterThan(0);
  await expect(ask('/api/export', { run: 'first', name: 'point', adapters: [point] })).rejects.toThrow(
    'already',
  );
  const { prompts, seeds } = linesOf(run).find(
    ({ kind, step }) => kind === 'validation' && step === 4,
  ) as PictureLine;
  const drawer = new Drawer();
  const before = liveTensors();
  const files = ['dial', 'export', 'unet', 'plain', 'checkpoint'].map((name) => [
    join(folder, `${name}.png`),
  ]);
  const said: string[] = [];
  await drawer.draw(
    {
      id: 1,
      folder: run.folder,
      pictures: [{ prompt: prompts[1] as string, seed: seeds?.[1] as number }],
      points: [
        { kind: 'adapters', adapters: [{ path: lora, unet: 1.7, textEncoder: -4 }] },
        { kind: 'adapters', adapters: [{ path: exported.path, unet: 1, textEncoder: 1 }] },
        { kind: 'adapters', adapters: [{ path: lora, unet: 1.7, textEncoder: 0 }] },
        { kind: 'adapters', adapters: [] },
        { kind: 'checkpoint', folder: run.folder, step: 4 },
      ],
      files,
    },
    ({ kind }) => said.push(kind),
  );
  drawer.free();
  expect(liveTensors()).toBe(before);
  expect(said.filter((kind) => kind !== 'progress')).toEqual([...Array(5).fill('picture'), 'done']);
  const [dial, same, unet, plain, checkpoint] = await Promise.all(
    files.map(async ([one]) => (await readPicture(one as string)).data),
  );
  const apart = (a?: Uint8Array, b?: Uint8Array) =>
    Math.max(...(a as Uint8Array).map((value, i) => Math.abs(value - (b?.[i] as number))));
  expect(apart(dial, same)).toBeLessThanOrEqual(1);
  expect(apart(dial, unet)).toBeGreaterThan(0); // each part has its own strength
  expect(apart(dial, plain)).toBeGreaterThan(1);
  expect(apart(checkpoint, (await readPicture(pictureFile(run, 'validation', 4, 1))).data)).toBe(0);
});

test('the drawing process answers by events, once; the second time its pictures are on disk', async () => {
  const request = {
    run: 'first',
    pictures: [{ prompt: 'a cat', seed: 3 }],
    points: [{ kind: 'checkpoint', run: 'first', step: 0 }],
  };
  const { job, files } = await ask<DrawAnswer>('/api/draw', request);
  expect(files).toEqual([[null]]);
  const events = await fetched(`/api/jobs/${job}/events`);
  const text = await events.text(); // ends with the job
  expect(text).toMatch(/event: picture\ndata: {"point":0,"picture":0,"file":"[^"]+"}\n\nevent: done/);
  const again = await ask<DrawAnswer>('/api/draw', request);
  expect(again).toMatchObject({ job: null, files: [[expect.any(String)]] });
  await expect(ask('/api/draw', { ...request, pictures: [{ prompt: 'a', seed: -1 }] })).rejects.toThrow(
    'seed -1',
  );
  await expect(
    ask('/api/draw', { ...request, points: [{ kind: 'checkpoint', run: 'first', step: 77 }] }),
  ).rejects.toThrow('is not kept');
});

test('ratings that are given on the page are what a recipe reads', async () => {
  const session = await ask<RatingSession>('/api/ratings?run=first&kind=rollout');
  expect(session.items).toHaveLength(8);
  const [one, two] = session.items as [RatingSession['items'][0], RatingSession['items'][0]];
  await ask('/api/ratings', { set: session.set, kind: 'score', picture: one.picture, rating: 5 });
  await ask('/api/ratings', { set: session.set, kind: 'score', picture: two.picture, rating: 1 });
  await ask('/api/ratings', { set: session.set, kind: 'score', picture: two.picture, rating: 4 });
  await ask('/api/ratings', { set: session.set, kind: 'undo' });
  const answer = await ask<RatingAnswer>('/api/ratings', {
    set: session.set,
    kind: 'score',
    picture: one.picture,
    rating: 4,
  });
  expect(answer.done).toEqual({ scores: 3, pairs: 0 });
  const { ratings: path } = parse(answer.yaml).reward;
  const reward = loadRatings(path);
  const pictures = await ask<PicturesAnswer>('/api/runs/first/pictures?kind=rollout&step=4');
  expect(pictures.total).toBe(4);
  const rated = await Promise.all(
    [one, two].map(async ({ file, picture }) => {
      const response = await fetched(`/api/files/${file}`);
      writeFileSync(join(folder, `${picture}.png`), Buffer.from(await response.arrayBuffer()));
      return readPicture(join(folder, `${picture}.png`));
    }),
  );
  const images = tensorOfPictures(rated);
  expect(await reward.score({ images, prompts: [one.prompt, two.prompt], meta: [null, null] })).toEqual([
    4.5, 1,
  ]);
  images.free();
  await expect(
    ask('/api/ratings', { set: session.set, kind: 'score', picture: one.picture, rating: 6 }),
  ).rejects.toThrow('must be 1');
  await expect(
    ask('/api/ratings', { set: session.set, kind: 'score', picture: 'x', rating: 3 }),
  ).rejects.toThrow('is not in');
});

test('every field of a recipe is explained by its schema, with its default', async () => {
  const { recipe: fields, metrics, stop, steps } = await ask<RunDetail>('/api/runs/first');
  const unexplained = fields.filter(({ explanation }) => explanation === '').map(({ path }) => path);
  expect(unexplained).toEqual([]);
  expect(fields.find(({ path }) => path === 'train.learningRate')).toMatchObject({
    value: 0.01,
    default: 1e-3,
  });
  expect(fields.find(({ path }) => path === 'explore.guidance.low')?.value).toBe(1.5);
  expect(metrics.filter(({ explanation }) => explanation === '').map(({ name }) => name)).toEqual([]);
  expect(stop).toMatchObject({ possible: false });
  expect(steps).toBe(4);
});

test('a run whose recipe is of no method is shown all the same', async () => {
  mkdirSync(join(root, 'strange'));
  writeFileSync(join(root, 'strange', 'recipe.yaml'), stringify({ method: 'of tomorrow', train: { x: 1 } }));
  const detail = await ask<RunDetail>('/api/runs/strange');
  expect(detail).toMatchObject({ state: 'stopped', steps: null, method: 'of tomorrow' });
  expect(detail.recipe).toEqual([
    { path: 'method', value: 'of tomorrow', explanation: '' },
    { path: 'train.x', value: 1, explanation: '' },
  ]);
});
