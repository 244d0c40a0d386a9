import { mkdtempSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import sharp from 'sharp';
import { expect, test } from 'vitest';
import { hasPeer } from '../base/peers.js';
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

test.each([
  [['rewards', 'check', 'spatial'], 'has no weights of its own — those that have are imagereward'],
  [
    ['rewards', 'check', 'imagereward'],
    'THUDM/ImageReward: is not in /nowhere/cache, and HF_HUB_OFFLINE is set',
  ],
  [['rewards', 'check', 'imagereward', '--activation', 'relu'], '--activation: Invalid option'],
  [['rewards', 'check', 'imagereward', '--weights', 'tiny', '--device', 'cuda:7'], 'is not here'],
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
