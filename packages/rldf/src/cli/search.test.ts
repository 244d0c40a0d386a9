import { mkdtempSync, readFileSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { loadArt, renderScene } from '@rldf/emoji-world';
import type { SearchReport } from '@rldf/search';
import { agentNames, axisOrders, initialQs, rewardNames, tableKinds } from '@rldf/search';
import sharp from 'sharp';
import { beforeAll, expect, test } from 'vitest';
import { rldf } from './command-line.fixture.js';
import { searchCommand } from './search.js';

const folder = mkdtempSync(join(tmpdir(), 'rldf-cli-search-'));
const image = join(folder, 'cat.png');

beforeAll(async () => {
  const objects = [{ noun: 'cat', size: 48, x: 8, y: 8 }] as const;
  const rgb = renderScene({ objects, background: 'grass' }, await loadArt('noto'));
  await sharp(rgb, { raw: { width: 64, height: 64, channels: 3 } })
    .resize(256, 256, { kernel: 'nearest' })
    .png()
    .toFile(image);
});
/** Two denoising steps draw badly and fast: the way of the data is tested here, not the model. */
const fast = [
  '--denoising-steps',
  '1',
  '--guidance',
  '1',
  '--batch-size',
  '4',
  '--pictures',
  '1',
  '--memory',
  join(folder, 'memory'),
];
const search = (...words: string[]) => rldf('search', '--image', image, ...fast, ...words);

test('a picture of the world is recognised, searched for with the shipped model, and written about', async () => {
  const output = join(folder, 'one');
  const { code, out } = await search('--steps', '4', '--output', output, '--json');
  expect(code).toBe(0);
  const result = JSON.parse(out) as SearchReport;
  expect(result.world.states).toBe(480);
  expect(result.goal.sentence).toBe('a photo of a cat with no people on the grass');
  expect(result.recognised.Noun).toMatchObject({ meaning: 'cat' });
  expect(result.measures.steps).toBe(4);
  expect(result.world.axes.Noun).toHaveLength(5);
  expect(result.world.axes.Noun).toContain('cat');
  expect(JSON.parse(readFileSync(join(output, 'search.json'), 'utf8'))).toEqual(result);
  expect(result.finals.balance.Look).toMatchObject({ plain: expect.any(Number) });
});

test('in words, with another agent on the same memory', async () => {
  const { code, out } = await search(
    '--agent',
    'hill-climber',
    '--steps',
    '2',
    '--output',
    join(folder, 'two'),
  );
  expect(code).toBe(0);
  expect(out).toMatch(/recognised {3}Frequency 1 .*Noun cat/);
  expect(out).toMatch(/world {8}480 states: 2 Frequency x 5 Noun x 2 Verb x 3 Density x 8 Scene/);
  expect(out).toMatch(/enumeration needs 240.5 pictures on average/);
  expect(out).toMatch(/zero search {2}recognised: "a photo of a cat/);
});

test.each([
  [
    'a file that is not there',
    ['--image', join(folder, 'none.png')],
    /none.png: cannot be read as a picture/,
  ],
  ['a file that is no picture', ['--image', 'BAD'], /bad.yaml: cannot be read as a picture/],
  [
    'an endpoint that is not there',
    ['--model', 'http://127.0.0.1:1/v1', '--retries', '0'],
    /cannot be reached.*--resume/,
  ],
  ['an undefined symbol', ['--grammar', 'BAD'], /bad.yaml:2:6 {2}S: symbol Nuon is not defined/],
  ['a left-recursive symbol', ['--grammar', 'LEFT'], /left.yaml:2:3 {2}S: is left-recursive/],
  ['a state that says nothing', ['--grammar', 'EMPTY'], /empty.yaml:2:3 {2}S: can become an empty sentence/],
  ['an unknown agent', ['--agent', 'sarza'], /argument 'sarza' is invalid/],
  ['an unknown model', ['--model', 'nowhere'], /model nowhere/],
  ['no schedule', ['--epsilon', '7'], /--epsilon 7/],
  [
    'values by axis for a table of actions',
    ['--table', 'actions'],
    /--initial-q axes: with a table of actions/,
  ],
  ['a discount of one', ['--gamma', '1'], /--gamma 1/],
  ['a confidence that nothing reaches', ['--min-confidence', '1.5'], /recognised as Noun cat/],
])('%s ends with exit code 2', async (_, words, message) => {
  const grammars: Record<string, string> = {
    BAD: 'productions:\n  S: Nuon\n',
    LEFT: 'productions:\n  S: S Noun | Noun\n  Noun: [cat, dog]\n',
    EMPTY: 'productions:\n  S: Noun\n  Noun: { none: "", cat: a cat }\n',
  };
  const given = words.map((word) => {
    if (grammars[word] === undefined) return word;
    const file = join(folder, `${word.toLowerCase()}.yaml`);
    writeFileSync(file, grammars[word]);
    return file;
  });
  const { code, err } = await search('--steps', '1', '--output', join(folder, 'bad'), ...given);
  expect(err).toMatch(message);
  expect(code).toBe(2);
});

test('a picture of nothing is below the confidence', async () => {
  const file = join(folder, 'gradient.png');
  const bytes = Uint8Array.from({ length: 64 * 64 * 3 }, (_, i) => {
    const pixel = Math.floor(i / 3);
    return [4 * (pixel % 64), 4 * (pixel >> 6), 128][i % 3] as number; // in noise of single pixels detectors see things
  });
  await sharp(bytes, { raw: { width: 64, height: 64, channels: 3 } })
    .png()
    .toFile(file);
  const { code, err } = await rldf('search', '--image', file, '--output', join(folder, 'gradient'));
  expect(err).toMatch(/below --min-confidence 0.3/);
  expect(code).toBe(2);
});

test('--help names what there is', () => {
  const choices = (flag: string) => searchCommand().options.find(({ long }) => long === flag)?.argChoices;
  expect(choices('--agent')).toEqual([...agentNames]);
  expect(choices('--reward')).toEqual([...rewardNames]);
  expect(choices('--order')).toEqual([...axisOrders]);
  expect(choices('--table')).toEqual([...tableKinds]);
  expect(choices('--initial-q')).toEqual([...initialQs]);
});
