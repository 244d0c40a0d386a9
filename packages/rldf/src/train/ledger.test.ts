import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { licencesIn } from '@rldf/common/base/licences';
import { savePipeline, tinyPipeline } from '@rldf/models';
import { readHeader, setThreads } from '@rldf/torch';
import { afterAll, expect, test } from 'vitest';
import { exportAdapterFiles } from '../adapters/export-files.js';
import { fuseAdapters } from '../adapters/fuse.js';
import { rldf } from '../cli/command-line.fixture.js';
import { checkRecipe } from '../recipe/load.js';
import { tinyWeights } from '../rewards/published-names.js';
import { type RunEvent, train } from './from-recipe.js';
import { licencesOf, refuseUncommercial } from './ledger.js';

setThreads(1);
const folder = mkdtempSync(join(tmpdir(), 'rldf-ledger-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

/** A tiny model whose card says what it likes. */
function modelUnder(licence: string | undefined): string {
  const path = join(folder, `model-${licence ?? 'none'}`, 'model');
  const pipeline = tinyPipeline();
  savePipeline(pipeline, path);
  for (const parameters of Object.values(pipeline.parameters)) parameters.free();
  mkdirSync(path, { recursive: true });
  if (licence !== undefined) writeFileSync(join(path, 'README.md'), `---\nlicense: ${licence}\n---\n`);
  return path;
}

const recipeOf = (fields: object) => ({
  method: 'ddpo',
  prompts: ['a cat', 'a dog'],
  reward: 'jpeg-compressibility',
  train: { clipNats: 5, updatesPerEpoch: 1, batchSize: 2, rank: 1 },
  epochs: 1,
  sample: { steps: 2, promptsPerEpoch: 2, picturesPerPrompt: 1, batchSize: 2 },
  evaluate: { maxPrompts: 1 },
  ...fields,
});
const ledger = (fields: object) =>
  licencesOf(checkRecipe(recipeOf(fields))).map(({ part, name, licence, commercial }) => [
    part,
    name,
    licence,
    commercial,
  ]);

test('servers, judges and detectors: what the recipe states, the strictest of several parts, else unknown', () => {
  const vision = { vision: 'alignment', endpoint: 'http://localhost:1/v1', model: 'm' };
  const quality = { onnx: './nowhere.onnx', licence: 'cc-by-nc-4.0' };
  const rewards = [
    { http: 'http://localhost:1/score', licence: 'mit' },
    vision,
    { score: 'face', quality },
    { score: 'hand' },
    { score: 'count', detector: { onnx: './yolo.onnx', labels: 'coco', licence: 'gpl-3.0' } },
    { text: 'tesseract' },
    'geneval',
  ];
  const entries = ledger({ reward: rewards.map((reward) => ({ reward })), model: 'emoji' });
  const uses = Object.fromEntries(entries.map(([part, name, , use]) => [`${part} ${name}`, use]));
  expect(uses).toMatchObject({
    'reward localhost:1/score': 'yes',
    'reward alignment': 'unknown',
    'reward face': 'no',
    'reward hand': 'yes',
    'reward count': 'conditions',
    'reward text': 'yes',
    'reward geneval': 'unknown',
  });
  const relabelled = {
    ...{ method: 'ip-rldf', prompts: ['a cat and a dog'], reward: 'count', detector: 'human-hands' },
    sample: { steps: 2, promptsPerEpoch: 1, picturesPerPrompt: 2, batchSize: 2 },
    train: { unet: 'lora', rank: 1, updatesPerEpoch: 1, batchSize: 2 },
  };
  const [detector] = licencesOf(checkRecipe(relabelled)).filter(({ part }) => part === 'detector');
  expect(detector).toMatchObject({ name: 'human-hands', commercial: 'yes' });
});

test('every part is listed, the strictest first; nothing is loaded for it', () => {
  expect(
    ledger({
      model: 'nobody/has-this-model',
      reward: [
        { reward: 'clip-score' },
        { reward: { name: 'pickscore', weights: 'nobody/has-this-either' } },
        { reward: { name: 'laion-aesthetic' } },
        { reward: { module: './nowhere.ts' } },
      ],
      prompts: { split: 'train' },
      watch: { judge: 'preference' },
    }),
  ).toEqual([
    ['base model', 'nobody/has-this-model', 'unknown', 'unknown'],
    ['reward', 'pickscore', 'MIT (code); its weights are published without a licence', 'unknown'],
    [
      'reward',
      'laion-aesthetic',
      'Apache-2.0 (code and head), MIT (code of the CLIP); taught in part by ratings for research (AVA)',
      'conditions',
    ],
    ['reward', 'clip-score', 'Apache-2.0', 'yes'],
    ['reward', 'nowhere.ts', 'your own', 'yes'],
    ['judge', 'preference', 'Apache-2.0', 'yes'],
    ['prompts', 'of the built-in world', 'Apache-2.0', 'yes'],
  ]);
});

test('the card of weights that are here says more than what is known of the published ones', () => {
  const { weights } = tinyWeights('pickscore');
  const own = join(folder, 'weights');
  mkdirSync(own);
  writeFileSync(join(own, 'README.md'), '---\nlicense: cc-by-nc-4.0\n---\n');
  expect(ledger({ reward: { name: 'pickscore', weights: own } })[0]).toEqual([
    'reward',
    'pickscore',
    'cc-by-nc-4.0',
    'no',
  ]);
  expect(ledger({ reward: { name: 'clip-score', weights } })[0]).toEqual([
    'reward',
    'clip-score',
    'unknown',
    'unknown',
  ]);
});

test('the recipe knows better, by the names of parts; other names are mistakes', () => {
  const reward = { name: 'pickscore', weights: 'a/b' };
  const licences = { base: 'my contract', pickscore: 'mit', prompts: 'cc-by-nc-4.0' };
  expect(ledger({ reward, licences }).map(([part, , licence, use]) => [part, licence, use])).toEqual([
    ['prompts', 'cc-by-nc-4.0', 'no'],
    ['base model', 'my contract', 'unknown'],
    ['reward', 'mit', 'yes'],
  ]);
  expect(() => ledger({ reward, licences: { pick: 'mit' } })).toThrow(
    'licences.pick: is no part of this training — expected base, prompts, or the name of a reward: pickscore',
  );
});

test('a model that forbids commercial use is refused before it is loaded, one that allows it is not', async () => {
  const forbidden = join(folder, 'no-weights'); // would fail to load
  mkdirSync(forbidden);
  writeFileSync(join(forbidden, 'model_index.json'), '{}');
  writeFileSync(join(forbidden, 'README.md'), '---\nlicense: cc-by-nc-4.0\n---\n');
  const file = join(folder, 'recipe.yaml');
  writeFileSync(file, JSON.stringify({ ...recipeOf({}), model: forbidden }));
  const { code, err } = await rldf('train', file, '--commercial', '--runs', join(folder, 'runs'));
  expect(code).toBe(2);
  expect(err).toContain(
    'commercial: base model no-weights: cc-by-nc-4.0 — forbids commercial use — commercial use was asked for, and nothing was loaded. Use other parts; or, if you have a licence that allows it, name it in the recipe: licences: { base: LICENCE }',
  );
  for (const [fields, refused] of [
    [{ reward: { name: 'pickscore' } }, true],
    [{ reward: { name: 'pickscore' }, licences: { pickscore: 'mit' } }, false],
    [{ reward: { name: 'laion-aesthetic' } }, false],
    [{}, false],
  ] as const) {
    const run = () => refuseUncommercial(licencesOf(checkRecipe(recipeOf(fields))));
    if (refused) expect(run).toThrow(/reward pickscore: .* — commercial use: unknown/);
    else expect(run).not.toThrow();
  }
});

test('a run tells them first, keeps them, and writes them into what it exports and into what is made of that', async () => {
  const model = modelUnder('creativeml-openrail-m');
  const events: RunEvent[] = [];
  for await (const event of train(recipeOf({ model }), { name: 'run', root: folder })) events.push(event);
  const [first] = events;
  const expected = [
    { part: 'base model', name: 'model', licence: 'creativeml-openrail-m', commercial: 'conditions' },
    { part: 'reward', name: 'jpeg-compressibility', licence: 'Apache-2.0', commercial: 'yes' },
    { part: 'prompts', name: 'in the recipe', licence: 'your own', commercial: 'yes' },
  ];
  expect(first).toEqual({ kind: 'licences', licences: expected });
  const run = join(folder, 'run');
  expect(JSON.parse(readFileSync(join(run, 'licences.json'), 'utf8'))).toEqual(expected);
  const adapter = join(run, 'adapters', 'pytorch_lora_weights.safetensors');
  const licencesOfFile = (file: string) => licencesIn(readHeader(file).metadata);
  expect(licencesOfFile(adapter)).toEqual(expected);
  expect(readHeader(adapter).metadata).toHaveProperty('rldf_base');
  const card = readFileSync(join(run, 'adapters', 'README.md'), 'utf8');
  expect(card).toMatch(/^---\nlicense: creativeml-openrail-m\nlibrary_name: diffusers\n/);
  expect(card).toContain('| base model | model | creativeml-openrail-m | conditions |');
  expect(card).not.toContain(folder);
  const fused = join(folder, 'fused.safetensors');
  fuseAdapters([{ path: adapter, strength: 0.5 }], fused);
  expect(licencesOfFile(fused)).toEqual(expected);
  const exported = join(folder, 'exported.safetensors');
  exportAdapterFiles([adapter], exported, 'kohya');
  expect(licencesOfFile(exported)).toEqual(expected);
});
