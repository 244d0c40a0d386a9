import { mkdtempSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { savePipeline, tinyPipeline } from '@rldf/models';
import sharp from 'sharp';
import { expect, test, vi } from 'vitest';
import { hasPeer } from '../base/peers.js';
import { serve } from '../rewards/remote/server.fixture.js';
import { rldf } from './command-line.fixture.js';

test('every reward has a whole card', async () => {
  const { code, out } = await rldf('rewards', '--json');
  expect(code).toBe(0);
  const cards = JSON.parse(out);
  expect(cards.map(({ name }: { name: string }) => name)).toEqual([
    'jpeg-compressibility',
    'jpeg-incompressibility',
    'jpeg-estimate',
    'clip-score',
    'preference',
    'image-reward',
    'aesthetic',
    'spatial',
    'count',
    'presence',
    'detector-confidence',
    'imagereward',
    'hpsv2.1',
    'hpsv2',
    'pickscore',
    'laion-aesthetic',
    'geneval',
    'composition',
    'face',
    'hand',
    'text',
    'http',
    'vision',
  ]);
  for (const { description, range, hacks, licence, differentiable } of cards) {
    for (const text of [description, range, hacks, licence]) expect(text.length).toBeGreaterThan(3);
    expect(typeof differentiable).toBe('boolean');
  }
});

test('the list says what each needs, and a card how to get it', async () => {
  const { out } = await rldf('rewards');
  const [head, ...rows] = out.split('\n');
  expect(head).toMatch(/^reward +unit +gradient +needs +what scores high$/);
  const needsOf = (name: string) =>
    rows.find((row) => row.startsWith(`${name} `))!.slice(head!.indexOf('needs'));
  expect(needsOf('imagereward')).toMatch(/^weights /);
  for (const name of ['geneval', 'composition', 'face', 'hand', 'text'])
    expect(needsOf(name)).toMatch(/^package /);
  expect(needsOf('aesthetic')).toMatch(/^ {9}LAION/);
  expect((await rldf('rewards', 'vision')).out).toMatch(
    /in a recipe +reward: \{ vision: alignment, endpoint: ADDRESS, model: NAME \}/,
  );
  expect((await rldf('rewards', 'face')).out).toMatch(
    /package +@vladmandic\/human: `npm install @vladmandic\/human@3\.3\.6/,
  );
  expect((await rldf('rewards', 'text')).out).toMatch(/`npm install tesseract\.js @tesseract\.js-data\/eng`/);
});

test.skipIf(hasPeer('@vladmandic/human'))('a package that is missing is told by its command', async () => {
  const { code, err } = await rldf('rewards', 'torture', 'face');
  expect(code).toBe(2);
  expect(err).toMatch(
    /^rldf: detector human-faces: the package @vladmandic\/human is not installed — .*Install it: `npm/,
  );
});

test('a card is found by the beginning of its name', async () => {
  expect((await rldf('rewards', 'clip')).out).toMatch(/^clip-score: 100 x cosine.*\n {2}unit/);
  expect(JSON.parse((await rldf('rewards', 'aes', '--json')).out).name).toBe('aesthetic');
});

test('check proves an installation against stored vectors, and fails where it is wrong', async () => {
  const { code, out } = await rldf('rewards', 'check', 'imagereward', '--weights', 'tiny');
  expect(code).toBe(0);
  expect(out).toMatch(/^imagereward\n {2}tiny weights against the project’s own code {2}good/);
  const own = fileURLToPath(new URL('../../assets/rewards/tiny/imagereward', import.meta.url));
  const checked = JSON.parse((await rldf('rewards', 'check', 'imagereward', '--weights', own, '--json')).out);
  expect(checked.checks.map(({ pass }: { pass?: boolean }) => pass)).toEqual([
    true,
    true,
    true,
    true,
    undefined,
  ]);
  const pictures = mkdtempSync(join(tmpdir(), 'rldf-examples-'));
  for (const name of ['1.webp', '2.webp', '3.webp', '4.webp'])
    await sharp({ create: { width: 40, height: 40, channels: 3, background: 'red' } })
      .webp()
      .toFile(join(pictures, name));
  const wrong = await rldf('rewards', 'check', 'imagereward', '--weights', own, '--examples', pictures);
  expect(wrong.code).toBe(2);
  expect(wrong.out).toMatch(/your weights against published scores +WRONG/);
  expect(wrong.err).toContain('your weights against published scores — does not agree');
});

test('check of a reward in a file: does a server answer, and the same twice?', async () => {
  let draws = 0;
  const { address } = await serve<{ pictures: unknown[] }>(({ method, body }) =>
    method === 'GET' ? {} : { scores: body.pictures.map(() => draws++) },
  );
  const file = join(mkdtempSync(join(tmpdir(), 'rldf-check-')), 'mine.yaml');
  writeFileSync(file, `http: ${address}\nretries: 0\n`);
  const { code, out } = await rldf('rewards', 'check', file);
  expect([code, out]).toEqual([
    0,
    expect.stringMatching(/answers for four photographs +good +0\.000, 1\.000, 2\.000, 3\.000/),
  ]);
  expect(out).toMatch(/answers the same twice +not checked +at most 4\.00 apart: it changes its mind/);
  writeFileSync(file, 'http: http://127.0.0.1:9/\nretries: 0\n');
  const gone = await rldf('rewards', 'check', file);
  expect([gone.code, gone.err]).toEqual([2, expect.stringContaining('cannot be reached')]);
});

test('check of a judge of pairs: photographs beside noise, in both orders', async () => {
  interface Body {
    messages: { content: string | { image_url?: { url: string } }[] }[];
  }
  let stubborn = false;
  const { address } = await serve<Body>(({ method, body }) => {
    if (method === 'GET') return {};
    const [a, b] = body.messages.flatMap(({ content }) =>
      typeof content === 'string' ? [] : content.flatMap(({ image_url }) => image_url?.url.length ?? []),
    ) as [number, number];
    return { choices: [{ message: { content: stubborn || a < b ? 'A' : 'B' } }] }; // noise makes larger files
  });
  const file = join(mkdtempSync(join(tmpdir(), 'rldf-check-')), 'judge.yaml');
  writeFileSync(file, `vision: preference\nendpoint: ${address}\nmodel: m\n`);
  const good = await rldf('rewards', 'check', file);
  expect([good.code, good.out]).toEqual([
    0,
    expect.stringMatching(/astronaut beside noise, in both orders +good/),
  ]);
  stubborn = true; // and nothing is remembered from before
  const wrong = await rldf('rewards', 'check', file);
  expect([wrong.code, wrong.out]).toEqual([
    2,
    expect.stringMatching(/chelsea beside noise, in both orders +WRONG/),
  ]);
});

test('percentiles are measured on pictures of the user’s own model and prompts, and kept for the card', async () => {
  const cache = mkdtempSync(join(tmpdir(), 'rldf-cache-'));
  vi.stubEnv('XDG_CACHE_HOME', cache);
  const pipeline = tinyPipeline();
  const model = join(cache, 'model');
  savePipeline(pipeline, model);
  for (const parameters of Object.values(pipeline.parameters)) parameters.free();
  const prompts = join(cache, 'prompts.txt');
  writeFileSync(prompts, 'a cat\na dog\n');
  expect((await rldf('rewards', 'imagereward')).out).toMatch(
    /percentiles +not measured yet: `rldf rewards percentiles imagereward --model MODEL` does/,
  );
  const words = [
    'rewards',
    'percentiles',
    'jpeg-compr',
    '--model',
    model,
    '--prompts',
    prompts,
    '--pictures',
    '2',
    '--json',
  ];
  const measured = JSON.parse((await rldf(...words)).out);
  expect(measured).toMatchObject({
    count: 4,
    reference: expect.stringMatching(/model, .* 2 prompts of prompts\.txt$/),
  });
  expect(measured.p5).toBeLessThan(measured.p95);
  expect((await rldf('rewards', 'jpeg-compr')).out).toContain(`reference    4 pictures: ${model},`);
  const tiny = await rldf(
    'rewards',
    'percentiles',
    'pickscore',
    '--weights',
    'tiny',
    '--model',
    model,
    '--prompts',
    prompts,
    '--pictures',
    '1',
  );
  expect([tiny.code, tiny.out]).toEqual([0, expect.not.stringContaining('kept in')]); // random weights say nothing
  vi.unstubAllEnvs();
});

test('face quality is checked without the package that finds faces', async () => {
  const { code, out } = await rldf('rewards', 'check', 'face', '--weights', 'tiny');
  expect([code, out]).toEqual([
    0,
    expect.stringMatching(/^face\n {2}face quality, tiny weights, against the package’s own code +good/),
  ]);
});

test.skipIf(!hasPeer('@vladmandic/human'))(
  'the detectors find what they found where rldf was made',
  async () => {
    for (const name of ['face', 'hand', 'geneval', 'composition']) {
      const { code, out } = await rldf('rewards', 'check', name);
      expect([code, out.match(/good/g)?.length]).toEqual([0, name === 'face' ? 5 : 4]);
    }
  },
);

test.skipIf(!hasPeer('tesseract.js') || !hasPeer('@tesseract.js-data/eng'))(
  'the reader reads the stored sign',
  async () => {
    expect((await rldf('rewards', 'check', 'text')).out).toMatch(/reads "OPEN" where "OPEN" is written/);
  },
);

test.each([
  [['rewards', 'check', 'spatial'], 'has no weights of its own — those that have are imagereward'],
  [
    ['rewards', 'check', 'imagereward'],
    'THUDM/ImageReward: is not in /nowhere/cache, and HF_HUB_OFFLINE is set',
  ],
  [['rewards', 'check', 'imagereward', '--activation', 'relu'], '--activation: Invalid option'],
  [['rewards', 'check', 'imagereward', '--weights', 'tiny', '--device', 'cuda:7'], 'is not here'],
  [['rewards', 'check', 'hand', '--weights', 'x'], 'takes no weights — its package has them'],
  [
    ['rewards', 'check', 'face', '--weights', 'x'],
    'there is no such file — it is the file of weights in the Python package',
  ],
  [['rewards', 'torture', 'http'], 'names no server — write reward: { http: ADDRESS }'],
  [['rewards', 'percentiles', 'aesthetic', '--pictures', '0'], '--pictures 0: expected'],
  [['rewards', 'beauty'], 'no built-in reward of this name — there are jpeg-compressibility'],
  [['rewards', 'jpeg'], 'could be jpeg-compressibility'],
  [['rewards', 'torture', 'clip', '--pictures', '2'], '--pictures 2: expected a whole number from 8'],
  [['rewards', 'torture', './nowhere.ts'], 'there is no file'],
])('%j is a mistake that is explained', async (words, message) => {
  process.env.HF_HUB_OFFLINE = '1';
  process.env.HF_HUB_CACHE = '/nowhere/cache';
  const { code, err } = await rldf(...words);
  expect(code).toBe(2);
  expect(err).toContain(message);
});
