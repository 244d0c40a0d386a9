// `npm run campaign -- kill`: a run killed with SIGKILL at twenty seeded places, a quarter of them inside a checkpoint, is
// resumed and must end with the same adapter bytes and metrics as the uninterrupted run.
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { savePipeline, tinyPipeline } from '@rldf/models';
import { noiseKey, Random, setThreads } from '@rldf/torch';
import { setFileHook } from '../packages/rldf/src/run/files.js';
import { resume, train } from '../packages/rldf/src/run/from-recipe.js';
import { comparableRow, readMetrics } from '../packages/rldf/src/run/metrics.js';
import { openRun } from '../packages/rldf/src/run/run.js';

const kills = 20;
const epochs = 6;

async function drain(events: AsyncIterable<unknown>): Promise<void> {
  for await (const _ of events);
}

function fingerprint(name: string, root: string): string {
  const run = openRun(name, root);
  const adapter = readFileSync(join(run.adaptersFolder, 'pytorch_lora_weights.safetensors')).toString(
    'base64',
  );
  return JSON.stringify([adapter, readMetrics(run.metricsPath).map((row) => comparableRow(row))]);
}

async function killCampaign(seed: number): Promise<boolean> {
  setThreads(1);
  const folder = mkdtempSync(join(tmpdir(), 'rldf-campaign-'));
  const root = join(folder, 'runs');
  savePipeline(tinyPipeline(), join(folder, 'model'));
  const recipe = {
    method: 'ddpo',
    model: join(folder, 'model'),
    prompts: ['a cat', 'a dog', 'a cow'],
    reward: [{ reward: 'jpeg-incompressibility', weight: 1 }],
    threads: 1,
    epochs,
    sample: { steps: 3, promptsPerEpoch: 2, picturesPerPrompt: 2, batchSize: 4 },
    train: {
      unet: 'lora',
      textEncoder: 'lora',
      rank: 2,
      updatesPerEpoch: 2,
      batchSize: 2,
      clipNats: 5,
      learningRate: 0.01,
    },
    evaluate: { every: 2 },
    checkpoint: { every: 1, keep: 2 },
  };
  const file = join(folder, 'recipe.yaml');
  writeFileSync(file, JSON.stringify(recipe)); // JSON is YAML
  const paths: string[] = [];
  const stop = setFileHook((_operation, path) => void paths.push(path));
  await drain(train(recipe, { name: 'straight', root }));
  stop();
  const expected = fingerprint('straight', root);

  const random = new Random(noiseKey(seed, 'kill campaign'));
  const operations = paths.map((_, index) => index + 1);
  const inCheckpoint = operations.filter((n) => paths[n - 1]?.includes('.writing-step-'));
  const main = fileURLToPath(new URL('../packages/rldf/src/cli/main.ts', import.meta.url));
  let survived = 0;
  for (let kill = 0; kill < kills; kill++) {
    const name = `killed-${kill}`;
    const where: Record<string, string> =
      kill % 4 === 0
        ? { RLDF_KILL_AT_FILE_OP: String(random.choice(inCheckpoint)) }
        : kill % 4 === 1
          ? { RLDF_KILL_AT_STEP: String(1 + random.integer(epochs)) }
          : { RLDF_KILL_AT_FILE_OP: String(random.choice(operations)) };
    const words = [
      '--conditions=rldf-source',
      '--import',
      'tsx',
      main,
      'train',
      file,
      '--name',
      name,
      '--runs',
      root,
    ];
    const { signal } = spawnSync(process.execPath, words, { env: { ...process.env, ...where } });
    let verdict = signal === 'SIGKILL' ? 'killed' : 'not reached';
    try {
      // A kill before the recipe was written leaves nothing to resume: the run is started again.
      const begun = openOrUndefined(name, root);
      if (begun) await drain(resume(name, { root }));
      else await drain(train(recipe, { name: `${name}-again`, root }));
      const same = fingerprint(begun ? name : `${name}-again`, root) === expected;
      if (same) survived++;
      verdict += same ? ', resumed to the same bytes' : ', DIFFERS after resuming';
    } catch (error) {
      verdict += `, FAILED to resume: ${(error as Error).message}`;
    }
    console.log(
      `${String(kill + 1).padStart(2)}/${kills}  ${Object.entries(where)[0]?.join('=')}  ${verdict}`,
    );
  }
  rmSync(folder, { recursive: true, force: true });
  console.log(`${survived} of ${kills} runs ended with the same adapter bytes and metrics`);
  return survived === kills;
}

function openOrUndefined(name: string, root: string) {
  try {
    return openRun(name, root);
  } catch {
    return undefined;
  }
}

const [what, seed = '0'] = process.argv.slice(2);
if (what !== 'kill') {
  console.error('usage: npm run campaign -- kill [SEED]');
  process.exit(2);
}
process.exitCode = (await killCampaign(Number(seed))) ? 0 : 1;
