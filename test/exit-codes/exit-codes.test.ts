/** Every command by fault: 0 when all was done, 2 for a mistake of the user's. Ends that a command does not see: cli/guard.test.ts. */

import { existsSync, mkdirSync, mkdtempSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { runCommandLine } from 'rldf/cli';
import { saveTinyModel } from 'rldf/testing';
import sharp from 'sharp';
import { afterEach, expect, onTestFinished, test, vi } from 'vitest';

const folder = mkdtempSync(join(tmpdir(), 'rldf-codes-'));
const at = (name: string) => join(folder, name);
saveTinyModel(at('model'));
mkdirSync(at('empty'));
writeFileSync(at('file'), 'neither a picture nor tensors');
writeFileSync(at('broken.yaml'), 'method: [');
writeFileSync(at('damaged.safetensors'), Buffer.alloc(64, 255));
const none = at('none');

/** Runs a command line; what it prints is caught. */
async function rldf(words: readonly string[]) {
  let text = '';
  for (const stream of [process.stdout, process.stderr])
    vi.spyOn(stream, 'write').mockImplementation((line) => {
      text += String(line);
      return true;
    });
  const code = await runCommandLine(words);
  vi.restoreAllMocks();
  process.exitCode = 0;
  return { code, text };
}
afterEach(() => vi.restoreAllMocks());

/** Words that cannot be done, by command; every command of the program has at least one line. */
const faults: Readonly<Record<string, readonly (readonly string[])[]>> = {
  quickstart: [
    ['--seed', 'x'],
    ['--set', 'nonsense'],
  ],
  train: [[], [none], [at('broken.yaml')], [at('file')], ['quickstart', '--set', 'seed=-1']],
  studio: [
    ['--port', 'x'],
    ['--port', '70000', '--no-open'],
    [at('file'), '--no-open'],
  ],
  redraw: [[], [none, 'validation-0-000'], [none, 'x', '--runs', at('empty')]],
  resume: [[none], ['--runs', none], [at('empty')], ['x', '--runs', at('empty')]],
  generate: [
    [],
    ['a', '--seed', '5-0'],
    ['a', '--count', '0'],
    ['a', '--count', '1e9'],
    ['a', '--eta', '2'],
    ['a', '--model', none],
    ['a', '--model', at('empty')],
    ['a', '--device', 'tpu'],
    ['a', '--model', at('model'), '--width', '13'],
    ['a', '--model', at('model'), '--adapter', at('damaged.safetensors')],
    ['a', '--model', at('model'), '--steps', '2', '--output', at('file')],
    ['--prompt-file', none],
    ['--prompts', 'nothing-of-this-name'],
  ],
  export: [
    [at('damaged.safetensors')],
    [at('damaged.safetensors'), '--format', 'kohya', '--output', at('x.safetensors')],
    [none, '--format', 'kohya', '--output', at('x.bin')],
    [none, '--format', 'neither', '--output', at('x.safetensors')],
    ['--format', 'diffusers', '--output', at('x.safetensors')],
    ['--format', 'diffusers', '--output', at('x'), '--merge'],
    ['--format', 'diffusers', '--output', at('x'), '--merge', '--model', none],
    ['--format', 'diffusers', '--output', at('model'), '--merge', '--model', at('model')],
    [
      '--format',
      'single-file',
      '--output',
      at('x.safetensors'),
      '--merge',
      '--model',
      at('damaged.safetensors'),
    ],
  ],
  fuse: [
    [],
    [none, '--output', at('x.safetensors')],
    [none, '--output', at('x.bin')],
    ['x:y', '--output', at('x.safetensors')],
  ],
  validate: [[], [none], [at('broken.yaml')], ['quickstart', '--set', 'reward={module: ./none.ts}']],
  plan: [[], [none], ['quickstart', '--memory', 'much'], ['quickstart', '--memory', '1kB']],
  recipes: [['nothing-of-this-name'], ['quickstart', '--copy', at('file')]],
  prompts: [['nothing-of-this-name']],
  models: [
    ['--nonsense'],
    ['add'],
    ['add', './none'],
    ['add', 'owner/none'],
    ['list', '--nonsense'],
    ['rm'],
    ['rm', 'owner/none'],
  ],
  rewards: [
    ['nothing-of-this-name'],
    ['torture'],
    ['torture', none],
    ['torture', 'clip', '--pictures', '1'],
    ['torture', 'clip', '--nonsense'],
    ['torture', `${none}.yaml`],
    ['check'],
    ['check', none],
    ['check', `${none}.yaml`],
    ['check', 'hand', '--weights', none],
    ['check', 'face', '--weights', none],
    ['percentiles'],
    ['percentiles', none],
    ['percentiles', 'aesthetic', '--pictures', '0'],
    ['percentiles', 'aesthetic', '--model', none],
  ],
  eval: [
    [none],
    ['emoji', '--suite', 'nothing'],
    ['emoji', '--eta', 'x'],
    ['emoji', '--pictures', '2', '--seeds', '0-3'],
    ['emoji', '--seeds', '18446744073709551615'],
    ['emoji', '--suite', 'single', '--pictures', '1e9'],
    ['emoji', '--suite', 'reward'],
    ['emoji', '--suite', 'geneval'],
    ['emoji', '--suite', 'pairs'],
    ['emoji', '--suite', 'pairs', '--against', 'emoji'],
    ['emoji', '--suite', 'pairs', '--against', 'emoji', '--reward', 'aesthetic'],
    ['emoji', '--suite', 'pairs', '--against', 'emoji', '--reward', `${none}.yaml`],
  ],
  report: [[], [none], [none, none]],
  explain: [[], [none]],
  reproduce: [['nothing-of-this-name']],
  search: [
    [],
    ['--image', none],
    ['--image', at('file')],
    ['--image', none, '--gamma', '1'],
    ['--image', none, '--agent', 'nobody'],
    ['--image', at('picture.png'), '--pictures', '1e9'],
  ],
  clone: [
    [],
    ['--images', none, '--out', at('clone')],
    ['--images', none, '--out', at('clone'), '--shard', '4/4'],
    ['--images', none, '--out', at('clone'), '--per-class', '1e9'],
    ['evaluate', none],
  ],
  world: [
    [],
    ['--grid', at('none/grid.png')],
    ['--grid', at('grid.png'), '--columns', '0'],
    ['--prompts', 'nothing'],
    ['--split', 'nothing', '--grid', at('grid.png')],
  ],
  pretrain: [[], ['nothing-of-this-name', '--folder', at('pretrain')]],
  setup: [['--nonsense']],
  'verify-resume': [[none], [at('broken.yaml')]],
  'verify-seed': [[none], [at('model'), '--steps', 'x']],
  doctor: [['--nonsense']],
};

test('no command is left out', async () => {
  const { text } = await rldf(['--help']);
  const names = [...text.matchAll(/^ {2}([a-z-]+) /gm)].map(([, name]) => name as string);
  expect(names.filter((name) => name !== 'help').sort()).toEqual(Object.keys(faults).sort());
});

test.each(Object.keys(faults))(
  'rldf %s: help is 0, an unknown option and every mistake are 2, told in one message',
  async (name) => {
    expect((await rldf([name, '--help'])).code).toBe(0);
    for (const words of [...faults[name]!, ['--no-such-option']]) {
      const { code, text } = await rldf([name, ...words]);
      expect([words, code, text]).toEqual([words, 2, expect.stringMatching(/^rldf: /m)]);
      expect(text).not.toMatch(/\n\s+at |fault of rldf/);
      expect([words, existsSync(none)]).toEqual([words, false]); // what is not there is not made
    }
  },
);

test.each<readonly string[]>([
  ['--version'],
  ['recipes'],
  ['recipes', 'quickstart'],
  ['prompts'],
  ['models'],
  ['rewards', '--json'],
  ['rewards', 'clip-score'],
  ['reproduce'],
  ['validate', 'quickstart'],
  ['validate', '--schema'],
  ['world', '--prompts', 'single'],
])('done is 0: rldf %s %s', async (...words) => {
  expect((await rldf(words)).code).toBe(0);
});

test('what is no command, and none at all', async () => {
  expect((await rldf(['tarin'])).code).toBe(2);
  expect((await rldf(['tarin'])).text).toContain('Did you mean train?');
  expect((await rldf([])).code).toBe(2);
});

// generate: plan/drawing.test.ts; clone draws as search does
test('what is larger than the memory of the machine is refused before the work, with what would fit', async () => {
  const recipe = {
    method: 'ddpo',
    model: at('model'),
    prompts: ['a cat', 'a dog'],
    reward: 'jpeg-compressibility',
    epochs: 1,
    sample: { steps: 2, promptsPerEpoch: 2, picturesPerPrompt: 300, batchSize: 600 },
    train: { clipNats: 2, batchSize: 600, rank: 2 },
  };
  writeFileSync(at('large.yaml'), JSON.stringify(recipe));
  const cat = await sharp({ create: { width: 64, height: 64, channels: 3, background: '#da3' } })
    .png()
    .toBuffer();
  writeFileSync(at('cat.png'), cat);
  const model = ['--model', at('model'), '--batch-size', '600'];
  const sure = ['--min-confidence', '0'];
  const commands = [
    ['train', at('large.yaml'), '--name', 'large', '--runs', none],
    ['eval', at('model'), '--suite', 'single', '--pictures', '50', '--batch-size', '600', '--output', none],
    ['search', '--image', at('cat.png'), '--output', at('search'), ...sure, ...model],
  ];
  const { constrainedMemory } = process;
  process.constrainedMemory = () => 503e6;
  onTestFinished(() => {
    process.constrainedMemory = constrainedMemory;
  });
  for (const words of commands) {
    const { code, text } = await rldf(words);
    expect([words[0], code, text]).toEqual([words[0], 2, expect.stringMatching(/this machine has 503.0 MB/)]);
    expect([words[0], text]).toEqual([words[0], expect.stringMatching(/batch-size \d+|batchSize=\d+/)]);
    expect(existsSync(none)).toBe(false);
  }
});
