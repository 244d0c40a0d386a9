// Runs are killed with SIGKILL at seeded steps and file operations, a third of the times while a checkpoint is written;
// each kill is followed by a resume in a new process, which may be killed in turn. Every run must end with the same
// adapter bytes, metrics, checkpoints and report as the uninterrupted one.
import { spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { noiseKey, Random, setThreads } from '@rldf/torch';
import { openRun, resume, train } from 'rldf';
import { setFileHook } from 'rldf/run';
import { drain, fingerprint, saveTinyModel, tinyRecipe } from 'rldf/testing';
import type { CampaignOptions } from './main.js';

const epochs = 6;
/** Kills of one run; then it may go to its end. */
const killsPerRun = 4;
const child = fileURLToPath(new URL('./kill-child.ts', import.meta.url));

interface Place {
  kind: 'step' | 'operation' | 'checkpoint';
  count: number;
}

export async function run({ count = 100, seed, say }: CampaignOptions): Promise<boolean> {
  setThreads(1);
  const folder = mkdtempSync(join(tmpdir(), 'rldf-kill-'));
  const root = join(folder, 'runs');
  const recipe = tinyRecipe(saveTinyModel(join(folder, 'model')), epochs);
  const recipeFile = join(folder, 'recipe.json');
  writeFileSync(recipeFile, JSON.stringify(recipe));

  const paths: string[] = [];
  const stop = setFileHook((_operation, path) => void paths.push(path));
  await drain(train(recipe, { name: 'straight', root }));
  stop();
  const expected = JSON.stringify(fingerprint(openRun('straight', root)));
  const inCheckpoints = paths.filter((path) => path.includes('.writing-step-')).length;
  say(`seed ${seed}; the straight run: ${paths.length} file operations, ${inCheckpoints} within checkpoints`);

  const random = new Random(noiseKey(seed, 'kill campaign'));
  /** Somewhere in what is likely left of the run; counts are those of the process that is killed. */
  const choose = (number: number, share: number): Place => {
    const kind = (['checkpoint', 'operation', 'step'] as const)[number % 3] as Place['kind'];
    const all = { step: epochs, operation: paths.length, checkpoint: inCheckpoints }[kind];
    const step = kind === 'step' && share < 1 ? reachedBy(root, name) : 0;
    return { kind, count: step + 1 + random.integer(Math.max(1, Math.floor((all - step) * share))) };
  };
  let [kills, inside, torn, runs, same] = [0, 0, 0, 0, 0];
  let name = '';
  while (kills < count) {
    name = `run-${runs++}`;
    const places: string[] = [];
    let finished = false;
    for (let own = 0; own < killsPerRun && kills < count && !finished; own++) {
      const place = choose(kills, own === 0 ? 1 : 1 / killsPerRun);
      const what = existsSync(join(root, name, 'recipe.yaml')) ? 'resume' : 'train';
      const words = [what, recipeFile, name, root, place.kind, String(place.count)];
      const { signal, status, stderr } = spawnSync(
        process.execPath,
        ['--conditions=rldf-source', '--import', 'tsx', child, ...words],
        { encoding: 'utf8' },
      );
      finished = signal !== 'SIGKILL';
      if (finished && status !== 0) throw new Error(`${words.join(' ')}: exit ${status}\n${stderr}`);
      if (finished) continue;
      kills++;
      const half = leftHalf(root, name);
      if (half || place.kind === 'checkpoint') inside++;
      if (half) torn++;
      places.push(`${place.kind} ${place.count}${half ? ' (checkpoint half written)' : ''}`);
    }
    let verdict: string;
    try {
      if (!finished) {
        // A kill before the recipe was written leaves nothing to resume: the run is started again.
        const begun = existsSync(join(root, name, 'recipe.yaml'));
        await drain(begun ? resume(name, { root }) : train(recipe, { name, root }));
      }
      const equal = JSON.stringify(fingerprint(openRun(name, root))) === expected;
      if (equal) same++;
      verdict = equal ? 'ended with the same bytes' : 'DIFFERS';
    } catch (error) {
      verdict = `FAILED: ${(error as Error).message}`;
    }
    say(`${String(kills).padStart(3)}/${count}  killed at ${places.join(', ') || 'no place'}: ${verdict}`);
    rmSync(join(root, name), { recursive: true, force: true });
  }
  rmSync(folder, { recursive: true, force: true });
  say(
    `${kills} kills, ${inside} of them while a checkpoint was written (${torn} left a half one), in ${runs} runs; ${same} of ${runs} runs ended with the same adapter bytes, metrics, checkpoints and report`,
  );
  return same === runs;
}

/** Whether the kill left a checkpoint that is not finished. */
function leftHalf(root: string, name: string): boolean {
  const checkpoints = join(root, name, 'checkpoints');
  return existsSync(checkpoints) && readdirSync(checkpoints).some((file) => file.startsWith('.'));
}

/** Step of the newest checkpoint, from 0. */
function reachedBy(root: string, name: string): number {
  return existsSync(join(root, name, 'recipe.yaml'))
    ? (openRun(name, root).checkpoints().at(-1)?.step ?? 0)
    : 0;
}
