import { spawn } from 'node:child_process';
import {
  cpSync,
  existsSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { readTexts } from '@rldf/common/drawing/png';
import { savePipeline, tinyPipeline } from '@rldf/models';
import { liveTensors, readSafetensors, setThreads } from '@rldf/torch';
import { afterEach, expect, test, vi } from 'vitest';
import { openRun } from '../run/run.js';
import { rldf } from './command-line.fixture.js';
import { exitCodeOf } from './exit-code.js';
import { freeRunName, table } from './shared.js';

setThreads(1);
const folder = mkdtempSync(join(tmpdir(), 'rldf-cli-'));
const runs = join(folder, 'runs');
const model = join(folder, 'model');
{
  const pipeline = tinyPipeline();
  savePipeline(pipeline, model);
  for (const parameters of Object.values(pipeline.parameters)) parameters.free();
}
const recipe = join(folder, 'tiny.yaml');
writeFileSync(join(folder, 'prompts.txt'), 'a cat\na dog\na cow\n');
writeFileSync(
  recipe,
  `# A tiny run
method: ddpo
model: ./model
prompts: prompts.txt
reward: jpeg-compressibility
threads: 1
epochs: 2
sample: { steps: 3, promptsPerEpoch: 2, picturesPerPrompt: 2, batchSize: 4 }
train: { rank: 2, updatesPerEpoch: 2, batchSize: 2, clipNats: 1, learningRate: 0.01 }
evaluate: { every: 1 }
checkpoint: { every: 1 }
`,
);

afterEach(() => vi.restoreAllMocks());

test('help, for rldf and for every command, has worked examples', async () => {
  const { code, out } = await rldf('--help');
  expect(code).toBe(0);
  expect(out).toContain('rldf quickstart');
  const names = [...out.matchAll(/^ {2}([a-z-]+) /gm)]
    .map((match) => match[1]!)
    .filter((name) => name !== 'help');
  expect(names.length).toBe(26);
  for (const name of names) {
    const help = await rldf(name, '--help');
    expect([name, help.code, help.out.includes('Examples:')]).toEqual([name, 0, true]);
  }
});

test('train, resume and report go the whole way, and leave no tensors behind', async () => {
  const before = liveTensors();
  const trained = await rldf('train', recipe, '--name', 'whole', '--runs', runs, '--json');
  expect([trained.code, trained.err.includes('epoch 2/2')]).toEqual([0, true]);
  const result = JSON.parse(trained.out);
  expect(result).toMatchObject({ pictures: 8, unit: 'kB', rewardName: 'jpeg-compressibility', prompts: 3 });
  expect(liveTensors()).toBe(before);
  const run = openRun('whole', runs);
  for (const file of [
    'recipe.yaml',
    'environment.json',
    'metrics.jsonl',
    'report/index.html',
    'report/grid.png',
    'report/curve.svg',
    'adapters/pytorch_lora_weights.safetensors',
  ]) {
    expect([file, existsSync(join(run.folder, file))]).toEqual([file, true]);
  }
  const longer = await rldf('resume', 'whole', '--runs', runs, '--set', 'epochs=3');
  expect(longer.err).toContain('continuing behind epoch 2');
  expect([longer.code, run.checkpoints().at(-1)?.step]).toEqual([0, 3]);
  expect(longer.out).toContain('report  ');
  const report = await rldf('report', 'whole', '--runs', runs, '--json');
  expect(JSON.parse(report.out).pictures).toBe(12);
  const changed = await rldf('resume', 'whole', '--runs', runs, '--set', 'seed=3');
  expect([changed.code, changed.err]).toEqual([2, expect.stringContaining('only epochs may change')]);
  const taken = await rldf('train', recipe, '--name', 'whole', '--runs', runs);
  expect([taken.code, taken.err]).toEqual([2, expect.stringContaining('runs are never overwritten')]);
});

test('generate writes pictures with their settings inside, and its noise can be used again', async () => {
  const noise = join(folder, 'noise.safetensors');
  const first = join(folder, 'first');
  const adapter = `${join(runs, 'whole', 'adapters', 'pytorch_lora_weights.safetensors')}:0.5`;
  const options = ['--model', model, '--steps', '3', '--json'];
  const drawn = await rldf(
    'generate',
    'a cat',
    'a dog',
    '--seed',
    '7-8',
    '--save-latents',
    noise,
    '--output',
    first,
    ...options,
  );
  expect(drawn.code).toBe(0);
  const { pictures, sheet } = JSON.parse(drawn.out);
  expect(pictures).toHaveLength(4);
  expect(existsSync(sheet)).toBe(true);
  const settings = JSON.parse(readTexts(readFileSync(pictures[3])).rldf!);
  expect(settings).toMatchObject({ prompt: 'a dog', seed: 8, steps: 3, model: 'model', eta: 0 });
  const { tensors } = readSafetensors(noise);
  expect([tensors.get('latents')?.shape, tensors.get('latents')?.dtype]).toEqual([[4, 4, 4, 4], 'float32']);
  const second = join(folder, 'second');
  await rldf(
    'generate',
    'a cat',
    'a dog',
    '--seed',
    '0,1',
    '--latents',
    noise,
    '--output',
    second,
    ...options,
    '--batch-size',
    '3',
  );
  const pixelsOf = (path: string) => readFileSync(path).subarray(-60);
  for (const index of [0, 1, 2, 3]) {
    const name = `000${index}.png`;
    expect(pixelsOf(join(second, name))).toEqual(pixelsOf(join(first, name)));
  }
  const adapted = await rldf(
    'generate',
    'a cat',
    '--adapter',
    adapter,
    '--output',
    join(folder, 'third'),
    ...options,
  );
  expect(JSON.parse(readTexts(readFileSync(JSON.parse(adapted.out).pictures[0])).rldf!).adapters).toEqual([
    'pytorch_lora_weights.safetensors:0.5',
  ]);
});

test('validate and dry run print the arithmetic and the resolved recipe', async () => {
  const plan = await rldf('train', recipe, '--dry-run');
  expect(plan.out).toContain('pictures   2 prompts x 2 = 4 an epoch, x 2 epochs = 8');
  expect(plan.out).toMatch(/time +about \d+ s on this machine/);
  expect(JSON.parse((await rldf('train', recipe, '--dry-run', '--json')).out)).toMatchObject({
    pictures: 8,
    updates: 4,
  });
  expect(JSON.parse((await rldf('validate', recipe, '--json')).out).train.rank).toBe(2);
  expect((await rldf('validate', 'quickstart')).out).toBe('quickstart: good\n');
  expect(existsSync(join(runs, 'tiny-1'))).toBe(false);
});

test('models, rewards, recipes, doctor and the schema are there for programs to read', async () => {
  for (const entry of JSON.parse((await rldf('models', '--json')).out)) {
    expect(Object.keys(entry).sort()).toEqual(['bytes', 'kind', 'licence', 'name', 'path']);
  }
  expect(
    JSON.parse((await rldf('models', '--rewards', '--json')).out).map(({ name }: { name: string }) => name),
  ).toContain('clip-score');
  expect(
    JSON.parse((await rldf('recipes', '--json')).out).map(({ name }: { name: string }) => name),
  ).toContain('quickstart');
  const doctor = JSON.parse((await rldf('doctor', '--json')).out);
  expect(doctor.libtorch.value).toMatch(/^\d+\.\d+/);
  expect(doctor.pictures).toEqual({
    value: expect.stringMatching(/^sharp \d.* with libvips \d/),
    good: true,
  });
  expect(JSON.parse((await rldf('validate', '--schema')).out)).toHaveProperty('$schema');
});

test.each([
  [['trian'], "unknown command 'trian'"],
  [['train'], "missing required argument 'recipe'"],
  [['train', '/nowhere.yaml'], 'there is no such file'],
  [['train', recipe, '--set', 'train.rnk=2'], 'train.rnk: unknown key. Did you mean train.rank?'],
  [['train', recipe, '--set', 'train.updatesPerEpoch=3'], 'cannot be split evenly into 3 updates'],
  [['train', recipe, '--set', 'model=emojy'], 'model emojy: neither a shipped model nor a folder'],
  [['train', recipe, '--set', 'reward=jpeg-compresibility'], 'Did you mean jpeg-compressibility?'],
  [['train', recipe, '--set', 'device=cuda:99'], 'cuda:99'],
  [['train', recipe, '--name', '../x'], 'run name "../x"'],
  [['resume', 'nothing', '--runs', runs], 'nothing: no run there'],
  [['report', 'nothing', '--runs', runs], 'nothing: no run there'],
  [['generate'], 'no prompt given'],
  [['generate', 'a', '--seed', 'x'], '--seed x: expected whole numbers'],
  [['generate', 'a', '--steps', '0', '--model', model], '--steps 0: expected a whole number of at least 1'],
  [['generate', 'a', '--model', model, '--latents', join(folder, 'no.safetensors')], 'no.safetensors'],
  [['generate', 'a', '--model', model, '--adapter', 'x.safetensors:strong'], '"strong" is no strength'],
  [['generate', 'a', '--model', model, '--width', '13'], 'width is 13 — must be a positive multiple of 2'],
  [['generate', 'a', '--model', folder], 'no model_index.json'],
  [['recipes', 'quikstart'], 'Did you mean quickstart?'],
  [['world'], 'nothing to do'],
  [['world', '--prompts', 'singel'], 'expected one of single'],
])('%j is a mistake that is explained in one message, with exit code 2', async (words, message) => {
  const { code, err } = await rldf(...words);
  expect(err).toContain(message);
  expect(err).toMatch(/^rldf: /m);
  expect(err).not.toMatch(/\n\s+at /);
  expect(code).toBe(2);
});

test('a mistake leaves no run folder behind', () => {
  expect(readdirSync(runs)).toEqual(['whole']);
});

test('a model folder with a missing file or a wrong shape is named', async () => {
  const broken = join(folder, 'broken');
  cpSync(model, broken, { recursive: true });
  rmSync(join(broken, 'vae', 'config.json'));
  expect((await rldf('generate', 'a', '--model', broken)).err).toContain(join(broken, 'vae', 'config.json'));
  cpSync(join(model, 'vae'), join(broken, 'vae'), { recursive: true });
  const config = join(broken, 'unet', 'config.json');
  const changed = JSON.parse(readFileSync(config, 'utf8'));
  writeFileSync(config, JSON.stringify({ ...changed, cross_attention_dim: changed.cross_attention_dim * 2 }));
  const { code, err } = await rldf('generate', 'a', '--model', broken);
  expect([code, err]).toEqual([2, expect.stringMatching(/has shape \[.*the config asks for \[/)]);
});

test('a damaged checkpoint is refused, and passed over only when asked', async () => {
  const copy = join(runs, 'damaged');
  cpSync(join(runs, 'whole'), copy, { recursive: true });
  truncateSync(join(copy, 'checkpoints', 'step-3', 'state.safetensors'), 100);
  const refused = await rldf('resume', copy);
  expect([refused.code, refused.err]).toEqual([2, expect.stringContaining('rldf resume --fallback')]);
  const resumed = await rldf('resume', copy, '--fallback');
  expect([resumed.code, resumed.err]).toEqual([0, expect.stringContaining('passed over: ')]);
});

/** Runs the real program. */
function spawnRldf(...words: string[]) {
  const main = fileURLToPath(new URL('main.ts', import.meta.url));
  return spawn(process.execPath, ['--conditions=rldf-source', '--import', 'tsx', main, ...words], {
    stdio: ['ignore', 'pipe', 'pipe'],
  });
}

test('Ctrl-C saves, says how to continue, and exits with code 2', async () => {
  const child = spawnRldf(
    'train',
    recipe,
    '--name',
    'stopped',
    '--runs',
    runs,
    // more lines than its pipe holds: it cannot end before the second one is read
    ...['epochs', 'evaluate.every', 'checkpoint.every'].flatMap((field) => ['--set', `${field}=100000`]),
  );
  let err = '';
  child.stderr.on('data', (data) => {
    err += data;
    if (err.includes('epoch      2/100000') && !child.killed) child.kill('SIGINT');
  });
  const code = await new Promise((resolve) => child.on('exit', resolve));
  expect(err).toMatch(
    /rldf: interrupted behind epoch \d+ of 100000 — what was learned is saved. Continue with `rldf resume stopped`/,
  );
  expect(code).toBe(2);
  expect(openRun('stopped', runs).loadCheckpoint().step).toBeGreaterThan(0);
});

test('tables and run names', () => {
  expect(
    table([
      ['a', 'bbb', 'c'],
      ['aaaa', 'b', 'c'],
    ]),
  ).toBe('a     bbb  c\naaaa  b    c');
  expect(freeRunName('/x/whole.yaml', runs)).toBe('whole-1');
});

test('a package that does not load is an installation to be mended, not a fault of ours', () => {
  let text = '';
  vi.spyOn(process.stderr, 'write').mockImplementation((line) => {
    text += String(line);
    return true;
  });
  const missing = Object.assign(new Error("Cannot find package '@img/colour' imported from x"), {
    code: 'ERR_MODULE_NOT_FOUND',
  });
  const binary = new Error(
    'Could not load the "sharp" module using the linux-x64 runtime\nPossible solutions:',
  );
  for (const error of [missing, binary]) {
    text = '';
    expect(exitCodeOf(error)).toBe(2);
    expect(text).toMatch(
      /^rldf: a package that rldf needs does not load: (Cannot find|Could not load).* — the installation is not whole\. Run `npm ci` again.*\n$/,
    );
  }
  const own = Object.assign(new Error('Cannot find module ./x.js'), { code: 'ERR_MODULE_NOT_FOUND' });
  expect(exitCodeOf(own)).toBe(1);
});

test('a fault of ours has exit code 1 and asks for a report', () => {
  let text = '';
  vi.spyOn(process.stderr, 'write').mockImplementation((line) => {
    text += String(line);
    return true;
  });
  expect(exitCodeOf(new TypeError('x is not a function'))).toBe(1);
  expect(text).toMatch(/^rldf: internal: TypeError: x is not a function\nThis is a fault of rldf.*\n +at /s);
});
