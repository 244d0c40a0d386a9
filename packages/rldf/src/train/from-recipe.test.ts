import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { setFileHook } from '@rldf/common/base/files';
import { liveTensors, setThreads } from '@rldf/torch';
import { expect, test } from 'vitest';
import type { RewardFunction } from '../rewards/module.js';
import { openRun } from '../run/run.js';
import { resume, train } from './from-recipe.js';
import { drain, fingerprint, saveTinyModel, tinyRecipe } from './tiny-run.fixture.js';

setThreads(1);
const folder = mkdtempSync(join(tmpdir(), 'rldf-recipe-'));
const root = join(folder, 'runs');
const model = join(folder, 'model');
saveTinyModel(model);
const recipe = tinyRecipe(model, 4);
const recipeFile = join(folder, 'recipe.yaml');
writeFileSync(recipeFile, JSON.stringify(recipe)); // JSON is YAML

test('killed with SIGKILL at a step and within checkpoints, resume ends with the same adapter bytes and metrics', async () => {
  const paths: string[] = [];
  const stop = setFileHook((_operation, path) => void paths.push(path));
  await drain(train(recipe, { name: 'straight', root }));
  stop();
  const expected = fingerprint(openRun('straight', root));
  expect(expected.metrics.map(({ step }) => step)).toEqual([0, 1, 2, 3, 4]);
  const within = (name: string) => paths.flatMap((path, index) => (path.includes(name) ? [index + 1] : []));
  const checkpoint = within('.writing-step-2');
  const main = fileURLToPath(new URL('../cli/main.ts', import.meta.url));
  for (const [index, kill] of [
    { RLDF_KILL_AT_STEP: '3' },
    { RLDF_KILL_AT_FILE_OP: String(checkpoint[Math.floor(checkpoint.length / 2)]) },
    { RLDF_KILL_AT_FILE_OP: String(within('step-3').at(-1)) },
    { RLDF_KILL_AT_FILE_OP: String(within('.writing-step-0').at(-1)) }, // the first checkpoint: nothing to resume from
  ].entries()) {
    const name = `killed-${index}`;
    const words = [
      '--conditions=rldf-source',
      '--import',
      'tsx',
      main,
      'train',
      recipeFile,
      '--name',
      name,
      '--runs',
      root,
    ];
    const { signal } = spawnSync(process.execPath, words, { env: { ...process.env, ...kill } });
    expect([kill, signal]).toEqual([kill, 'SIGKILL']);
    const before = liveTensors();
    const events = await drain(resume(name, { root }));
    expect(events[0]?.kind).toBe(index === 3 ? 'evaluating' : 'resumed');
    expect(fingerprint(openRun(name, root))).toEqual(expected);
    expect(liveTensors()).toBe(before);
  }
});

test('a library user trains with a reward function and sees epochs and the result', async () => {
  const brightness: RewardFunction = ({ images }) =>
    images.map(({ data }) => data.reduce((sum, value) => sum + value, 0) / data.length);
  const own = { ...recipe, reward: 'brightness', epochs: 2 };
  const events = await drain(train(own, { name: 'library', root, reward: brightness }));
  expect(events.filter(({ kind }) => kind === 'step')).toHaveLength(2);
  const last = events.at(-1)!;
  expect(last).toMatchObject({ kind: 'finished', report: { rewardName: 'brightness', prompts: 3 } });
  await expect(drain(resume('library', { root }))).rejects.toThrow('reward brightness: no built-in reward');
  const sad = () => [Number.NaN];
  await expect(drain(train({ ...own, name: 'sad' }, { root, reward: sad }))).rejects.toThrow(
    'reward brightness: returned 1 scores for 3 pictures',
  );
});

test('a run goes on only on the weights that it began with; other prompts are told', async () => {
  const own = join(folder, 'own-model');
  saveTinyModel(own);
  const prompts = join(folder, 'prompts.txt');
  writeFileSync(prompts, 'a cat\na dog\na cow\n');
  const short = { ...tinyRecipe(own, 1), prompts, report: { maxPrompts: 1 } };
  await drain(train(short, { name: 'moved', root }));
  writeFileSync(prompts, 'a cat\na dog\na fox\n');
  const longer = { root, overrides: ['epochs=2'] };
  const notices = (await drain(resume('moved', longer))).filter(({ kind }) => kind === 'notice');
  const told = ['prompts', 'evaluate', 'report'].map((field) => ({
    kind: 'notice',
    text: expect.stringContaining(`the prompts of \`${field}\` changed since the run began`),
  }));
  expect(notices).toEqual(told);
  const weights = join(own, 'unet', 'diffusion_pytorch_model.safetensors');
  const bytes = readFileSync(weights);
  writeFileSync(weights, bytes.fill(0, bytes.length - 20_000));
  await expect(drain(resume('moved', { root, overrides: ['epochs=3'] }))).rejects.toThrow(
    /own-model has other weights \(\w{16}\) than when the run began \(\w{16}\)/,
  );
  expect(readFileSync(openRun('moved', root).recipePath, 'utf8')).toContain('epochs: 2'); // nothing was changed
});

test('a reward that tells no picture from another is told early, once', async () => {
  const own = { ...tinyRecipe(model, 4), reward: 'same', report: { maxPrompts: 1 } };
  const noticesOf = async (name: string, reward: RewardFunction) =>
    (await drain(train(own, { name, root, reward }))).flatMap((event) =>
      event.kind === 'notice' ? [event.text] : [],
    );
  expect(await noticesOf('flat', ({ images }) => images.map(() => 0.5))).toEqual([
    expect.stringMatching(/^every picture got the same reward \(0\.5\) in each of the first 2 steps/),
  ]);
  expect(await noticesOf('uneven', ({ images }) => images.map((_, i) => i))).toEqual([]);
});

test('a run without a name is refused before anything is done', async () => {
  await expect(drain(train(recipe, { root }))).rejects.toThrow('the run has no name');
});

test('a run of before runs named their base model goes on with that one only', async () => {
  const own = join(folder, 'own-model');
  saveTinyModel(own);
  await drain(train(tinyRecipe(own, 1), { name: 'unnamed', root }));
  const { environmentPath } = openRun('unnamed', root);
  const { inputs, ...older } = JSON.parse(readFileSync(environmentPath, 'utf8'));
  expect(inputs.base).toMatch(/^[0-9a-f]{16}$/);
  writeFileSync(environmentPath, JSON.stringify(older)); // as 0.1.0 wrote it
  const goOn = () => drain(resume('unnamed', { root, overrides: ['epochs=2'] }));

  saveTinyModel(own, 1);
  const before = liveTensors();
  await expect(goOn()).rejects.toThrow(/unnamed: the model draws another picture than when the run began/);
  expect(liveTensors()).toBe(before);

  saveTinyModel(own);
  expect((await goOn()).at(-1)?.kind).toBe('finished');
});
