import {
  existsSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type HubServer, hubServer } from '@rldf/common/hub/hub-server.fixture';
import {
  LoraAdapter,
  loadLora,
  loadPipeline,
  type Pipeline,
  saveLora,
  savePipeline,
  saveSingleFile,
  tinyCheckpoint,
  tinyPipeline,
} from '@rldf/models';
import { noGrad, readHeader, scope, setThreads } from '@rldf/torch';
import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from 'vitest';
import { rldf } from './command-line.fixture.js';
import { Progress } from './progress.js';
import { shown } from './provide.js';

setThreads(1);
const folder = mkdtempSync(join(tmpdir(), 'rldf-models-'));
afterAll(() => rmSync(folder, { recursive: true }));
const adapter = join(folder, 'pytorch_lora_weights.safetensors');
const release = ({ parameters }: Pipeline) => {
  for (const network of Object.values(parameters)) network.free();
};
/** An adapter of one layer, whose update is not zero. */
function makeAdapter(pipeline: Pipeline, file: string): void {
  const made = LoraAdapter.attach(pipeline.parameters.unet, { rank: 2, targets: ['attn1.to_q'], seed: 1 });
  noGrad(() => {
    for (const { branch } of made.modules) branch.up.fill_(1);
  });
  saveLora(file, { unet: made });
  made.remove();
}

let hub: HubServer;
let files: Map<string, Buffer>;
beforeAll(() => {
  const pipeline = tinyPipeline(1);
  const model = join(folder, 'model');
  savePipeline(pipeline, model);
  makeAdapter(pipeline, adapter);
  release(pipeline);
  files = new Map(
    readdirSync(model, { recursive: true, encoding: 'utf8' })
      .filter((path) => lstatSync(join(model, path)).isFile())
      .map((path) => [path.replaceAll('\\', '/'), readFileSync(join(model, path))] as const),
  );
});
const kept = { ...process.env };
let caches = 0;
beforeEach(async () => {
  hub = await hubServer(new Map(files));
  delete process.env.HF_HUB_OFFLINE;
  process.env.HF_ENDPOINT = hub.url;
  process.env.HF_HUB_CACHE = join(folder, `cache-${caches++}`);
});
afterEach(async () => {
  process.env = { ...kept };
  await hub.close();
});

test('add, list and rm: what is in the cache, with sizes', async () => {
  const empty = await rldf('models', 'list');
  expect([empty.code, empty.out]).toEqual([0, `nothing is in ${process.env.HF_HUB_CACHE}\n`]);
  const added = await rldf('models', 'add', 'owner/name');
  expect(added.code).toBe(0);
  expect(added.err).toMatch(
    /^downloading owner\/name: [\d.]+ [kM]B in 1\d files from http.* to .*cache-\d+; \d+ B of it are here/,
  );
  expect(added.out).toBe(
    `owner/name: ${join(process.env.HF_HUB_CACHE!, 'models--owner--name', 'snapshots', hub.commit)}\n`,
  );
  const listed = await rldf('models', 'list');
  expect(listed.out).toMatch(
    /^owner\/name {2,}[\d.]+ [kM]B\n {2}[0-9a-f]{12} = main +[\d.]+ [kM]B {2}1\d files\n/,
  );
  const [repo] = JSON.parse((await rldf('models', 'list', '--json')).out);
  expect(repo).toMatchObject({
    repo: 'owner/name',
    unfinished: 0,
    revisions: [{ commit: hub.commit, refs: ['main'] }],
  });
  const removed = await rldf('models', 'rm', 'owner/name', '--json');
  expect(JSON.parse(removed.out)).toEqual([{ id: 'owner/name', bytes: repo.bytes }]);
  const again = await rldf('models', 'rm', 'owner/name');
  expect([again.code, again.err]).toEqual([2, expect.stringContaining('owner/name: is not in')]);
  const bad = await rldf('models', 'add', './here');
  expect([bad.code, bad.err]).toEqual([2, expect.stringContaining('./here: is no id of a hub')]);
});

test('a download is shown: its size before, and share, time and file while', async () => {
  const lines: string[] = [];
  let time = 0;
  const output = { write: (text: string) => Boolean(lines.push(text.trim())), isTTY: true, columns: 200 };
  const plan = { files: 12, bytes: 4e9, here: 1e9, endpoint: 'https://hub.example', cache: '/cache' };
  const path = await shown(
    'owner/name',
    async ({ onPlan, onProgress, onNotice }) => {
      onPlan?.(plan);
      for (const bytes of [1e9, 2e9, 3e9]) {
        onProgress?.(bytes, plan, 'unet/x.safetensors');
        time += 60_000;
      }
      onNotice?.('asking again in 7 s');
      return '/cache/x';
    },
    new Progress(output as never, () => time),
    () => time,
  );
  expect(path).toBe('/cache/x');
  const plain = lines.map((line) => line.replace(/^.*\[2K/, ''));
  expect(plain.filter((line) => line !== '')).toEqual([
    'downloading owner/name: 4.0 GB in 12 files from https://hub.example to /cache; 1.0 GB of it are here',
    '1.0 GB of 4.0 GB  25 %  unet/x.safetensors',
    '2.0 GB of 4.0 GB  50 %  about 2 min left  unet/x.safetensors',
    '3.0 GB of 4.0 GB  75 %  about 60 s left  unet/x.safetensors',
    'asking again in 7 s',
  ]);
});

test('generate: model and adapter by ids, downloaded once', async () => {
  hub.files.set('pytorch_lora_weights.safetensors', readFileSync(adapter));
  const output = join(folder, 'drawn');
  const words = ['generate', 'a cat', '--model', 'owner/name', '--steps', '2', '--output', output, '--json'];
  const plain = await rldf(...words);
  expect(plain.code, plain.err).toBe(0);
  expect(plain.err).toContain('downloading owner/name: ');
  const picture = readFileSync(JSON.parse(plain.out).pictures[0]);
  const adapted = await rldf(...words, '--adapter', 'owner/name:3');
  expect(adapted.code, adapted.err).toBe(0);
  expect(readFileSync(JSON.parse(adapted.out).pictures[0]).equals(picture)).toBe(false);
  hub.requests.length = 0;
  process.env.HF_HUB_OFFLINE = '1';
  expect((await rldf(...words, '--adapter', 'owner/name:3')).code).toBe(0);
  expect(hub.requests).toEqual([]);
  const other = await rldf('generate', 'a cat', '--model', 'owner/other');
  expect([other.code, other.err]).toEqual([2, expect.stringContaining('HF_HUB_OFFLINE is set')]);
});

test('a path of this machine that is mistyped is not asked of a hub', async () => {
  mkdirSync('runs-of-a-test', { recursive: true });
  try {
    const { code, err } = await rldf('generate', 'a', '--model', 'runs-of-a-test/modle');
    expect([code, err]).toEqual([2, expect.stringContaining('neither a shipped model nor a folder')]);
    expect(hub.requests).toEqual([]);
  } finally {
    rmSync('runs-of-a-test', { recursive: true });
  }
});

test('train, validate and resume take an id; a recipe is checked where its model is not', async () => {
  const recipe = join(folder, 'hub.yaml');
  writeFileSync(join(folder, 'prompts.txt'), 'a cat\na dog\n');
  writeFileSync(
    recipe,
    'method: ddpo\nmodel: owner/name\nprompts: prompts.txt\nreward: jpeg-compressibility\nthreads: 1\nepochs: 1\n' +
      'sample: { steps: 2, promptsPerEpoch: 2, picturesPerPrompt: 2, batchSize: 4 }\n' +
      'train: { rank: 2, updatesPerEpoch: 1, batchSize: 2, clipNats: 1 }\nevaluate: { maxPrompts: 1 }\nreport: { maxPrompts: 1 }\n',
  );
  const checked = await rldf('validate', recipe);
  expect(checked.code, checked.err).toBe(0);
  expect(hub.requests).toEqual([]);
  const trained = await rldf('train', recipe, '--name', 'hub', '--runs', join(folder, 'runs'), '--json');
  expect(trained.code, trained.err).toBe(0);
  expect(trained.err).toContain('downloading owner/name: ');
  rmSync(process.env.HF_HUB_CACHE!, { recursive: true });
  const resumed = await rldf('resume', 'hub', '--runs', join(folder, 'runs'), '--set', 'epochs=2', '--json');
  expect(resumed.code, resumed.err).toBe(0);
  expect(resumed.err).toContain('downloading owner/name: ');
});

test('export --merge: adapters end up in the weights, as one file and as a folder', async () => {
  const pipeline = tinyCheckpoint('sd1', 5, 'float16');
  const [base, lora] = [join(folder, 'base.safetensors'), join(folder, 'lora.safetensors')];
  saveSingleFile(pipeline, base);
  makeAdapter(pipeline, lora);
  release(pipeline);
  const layer = 'down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q.weight';
  const file = join(folder, 'merged', 'one.safetensors');
  const asFolder = join(folder, 'merged', 'folder');
  const words = (format: string, output: string) => [
    ...['export', `${lora}:0.5`, '--merge', '--model', base, '--format', format, '--output', output],
  ];
  const one = await rldf(...words('single-file', file));
  expect([one.code, one.err]).toEqual([0, '']);
  expect(one.out).toMatch(/one.safetensors: base with \d+ layers adapted, float16\n/);
  const two = await rldf(...words('diffusers', asFolder), '--precision', 'float32', '--json');
  expect(JSON.parse(two.out)).toMatchObject({
    format: 'diffusers',
    dtypes: { unet: 'float32', vae: 'float32' },
    model: 'base',
  });

  const expected = loadPipeline(base);
  const pair = loadLora(lora, expected.parameters, 0.5);
  pair.unet!.merge();
  const [fromFile, fromFolder] = [loadPipeline(file), loadPipeline(asFolder)];
  for (const part of ['unet', 'vae', 'textEncoder'] as const) {
    for (const [name, value] of expected.parameters[part].entries) {
      const bytes = (from: Pipeline, half: boolean) =>
        scope(() => {
          const tensor = from.parameters[part].entries.get(name)!;
          return Buffer.from(half ? tensor.to('float16').bytes() : tensor.bytes());
        });
      expect(bytes(fromFolder, false).equals(Buffer.from(value.bytes())), name).toBe(true);
      expect(bytes(fromFile, true).equals(bytes(expected, true)), name).toBe(true);
    }
  }
  const plain = loadPipeline(base);
  const weight = (from: Pipeline) => Buffer.from(from.parameters.unet.entries.get(layer)!.bytes());
  expect(weight(plain).equals(weight(fromFolder))).toBe(false);
  pair.unet!.remove();
  for (const one of [expected, fromFile, fromFolder, plain]) release(one);
});

test('export --merge without adapters turns one layout into the other, bit for bit', async () => {
  const pipeline = tinyCheckpoint('xl', 6);
  const [model, file, back] = ['whole', 'whole.safetensors', 'whole-again'].map((name) => join(folder, name));
  savePipeline(pipeline, model!, {
    dtype: { unet: 'float16', textEncoder: 'bfloat16', textEncoder2: 'float16' },
  });
  release(pipeline);
  const words = ['export', '--merge', '--model'];
  expect((await rldf(...words, model!, '--format', 'single-file', '--output', file!)).code).toBe(0);
  expect((await rldf(...words, file!, '--format', 'diffusers', '--output', back!)).code).toBe(0);
  for (const part of ['unet', 'vae', 'text_encoder', 'text_encoder_2'])
    for (const name of readdirSync(join(model!, part)))
      expect(
        readFileSync(join(back!, part, name)).equals(readFileSync(join(model!, part, name))),
        `${part} ${name}`,
      ).toBe(true);
  expect(readHeader(file!).metadata['modelspec.architecture']).toBe('stable-diffusion-xl-v1-base');
});

test.each([
  [
    ['--format', 'single-file', '--output', 'x.safetensors'],
    '--format single-file is of whole models — add --merge',
  ],
  [['--format', 'kohya', '--output', 'x.safetensors'], 'no LoRA file given'],
  [
    ['--format', 'kohya', '--output', 'x', '--merge', '--model', 'emoji'],
    '--format kohya: is a layout of adapters',
  ],
  [['--format', 'single-file', '--output', 'x.safetensors', '--merge'], 'no model given'],
  [['--format', 'single-file', '--output', 'x', '--merge', '--model', 'emoji'], 'must end in .safetensors'],
  [
    ['--format', 'single-file', '--output', 'x.safetensors', '--merge', '--model', 'emoji'],
    'a vocabulary of its own',
  ],
  [['--format', 'diffusers', '--output', 'packages', '--merge', '--model', 'emoji'], 'is there already'],
])('export %j: refused, and nothing is written', async (words, message) => {
  const { code, err } = await rldf('export', ...words);
  expect([code, err]).toEqual([2, expect.stringContaining(message)]);
  expect(existsSync('x.safetensors') || existsSync('x')).toBe(false);
});
