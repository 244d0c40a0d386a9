/** Proves on this machine that a run killed and resumed ends in the same bytes as one left alone. */

import { spawn } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { listFolder } from '@rldf/common/base/files';
import { readStateTree, tensorFile, tensorsOf, treeFile } from '@rldf/common/storage/state-tree';
import { readSafetensors, scope } from '@rldf/torch';
import { UserError } from '@rldf/torch/errors';
import { stringify } from 'yaml';
import type { Recipe } from '../recipe/recipe.js';
import { comparableRow, readMetrics } from '../run/metrics.js';
import { openRun, type Run } from '../run/run.js';
import { type Comparison, compare, firstRowDifference, firstTensorDifference } from './compare.js';

export interface ResumeVerification {
  equal: boolean;
  /** Steps of the whole run, and behind which of them the process was killed. */
  steps: number;
  at: number;
  comparisons: Comparison[];
}

/** The recipe with `steps` epochs, a checkpoint every `at`, and a short evaluation at beginning and end. */
export function shortened(recipe: Recipe, steps: number, at: number): Recipe {
  const few = { picturesPerPrompt: 1, maxPrompts: 2 };
  const { name: _, ...rest } = recipe;
  return {
    ...rest,
    epochs: steps,
    evaluate: { ...recipe.evaluate, ...few, every: steps },
    report: { ...recipe.report, ...few },
    checkpoint: { every: at, keep: 1 },
  };
}

/**
 * Trains twice by the command line, each in processes of its own: once straight, once killed with SIGKILL within step
 * `at` + 1 and resumed. Compares adapters, state and metrics.
 *
 * @throws UserError when a run cannot be made at all
 */
export async function verifyResume(
  recipe: Recipe,
  { steps, at, quiet = false }: { steps: number; at: number; quiet?: boolean },
): Promise<ResumeVerification> {
  const root = mkdtempSync(join(tmpdir(), 'rldf-verify-'));
  try {
    const file = join(root, 'recipe.yaml');
    writeFileSync(file, stringify(shortened(recipe, steps, at)));
    const runs = ['--runs', root];
    const rldf = (words: string[], kill?: number) => runRldf([...words, ...runs], kill, quiet);
    await rldf(['train', file, '--name', 'straight']);
    await rldf(['train', file, '--name', 'resumed'], at + 1);
    await rldf(['resume', 'resumed']);
    const comparisons = compareRuns(openRun('straight', root), openRun('resumed', root));
    return { equal: comparisons.every(({ equal }) => equal), steps, at, comparisons };
  } finally {
    rmSync(root, { recursive: true, force: true });
  }
}

/** Runs the command line in a new process; `kill` is the step within which it is to be killed. */
async function runRldf(words: string[], kill: number | undefined, quiet: boolean): Promise<void> {
  const source = import.meta.url.endsWith('.ts');
  const main = fileURLToPath(new URL(source ? '../cli/main.ts' : '../cli/main.js', import.meta.url));
  const env = kill === undefined ? process.env : { ...process.env, RLDF_KILL_AT_STEP: String(kill) };
  const child = spawn(process.execPath, [...process.execArgv, main, ...words], {
    env,
    stdio: ['ignore', 'ignore', 'pipe'],
  });
  let errors = '';
  child.stderr.on('data', (data: Buffer) => {
    errors = `${errors}${data}`.slice(-4000);
    if (!quiet) process.stderr.write(data);
  });
  const [status, signal] = await new Promise<[number | null, string | null]>((resolve, reject) => {
    child.on('error', reject);
    child.on('close', (...how) => resolve(how));
  });
  if (kill !== undefined ? signal === 'SIGKILL' : status === 0) return;
  const last = errors.trim().split('\n').at(-1) ?? '';
  throw new UserError(
    `verify-resume: \`rldf ${words[0]}\` ended with ${signal ?? `exit code ${status}`}${kill === undefined ? '' : `, before step ${kill} was reached`} — ${last.replace(/^rldf: /, '')}`,
  );
}

function compareRuns(straight: Run, resumed: Run): Comparison[] {
  const both = <Value>(read: (run: Run) => Value): [Value, Value] => [read(straight), read(resumed)];
  const metrics = both((run) => readMetrics(run.metricsPath).map(comparableRow));
  const rows = metrics.map((part) => JSON.stringify(part)) as [string, string];
  const checkpoint = (run: Run) => run.checkpoints().at(-1)!.path;
  const [one, other] = both(checkpoint);
  const stateDifference = () =>
    scope(() => firstTensorDifference(tensorsOf(readStateTree(one)), tensorsOf(readStateTree(other))));
  return [
    compare('metrics', rows, () => firstRowDifference(...metrics)),
    ...[tensorFile, treeFile].map((name) =>
      compare(
        name,
        both((run) => readFileSync(join(checkpoint(run), name))),
        stateDifference,
      ),
    ),
    ...adapterFiles(straight).map((name) =>
      compare(
        name,
        both((run) => readFileSync(join(run.adaptersFolder, name))),
        () =>
          name.endsWith('.safetensors')
            ? scope(() =>
                firstTensorDifference(
                  ...both((run) => readSafetensors(join(run.adaptersFolder, name)).tensors),
                ),
              )
            : undefined,
      ),
    ),
  ];
}

/** Weights among what a run exported: adapters, or the networks of a whole model. */
function adapterFiles(run: Run): string[] {
  const names = listFolder(run.adaptersFolder).filter((name) => name.endsWith('.safetensors'));
  const networks = ['unet', 'text_encoder', 'text_encoder_2'].flatMap((part) =>
    listFolder(join(run.adaptersFolder, 'model', part))
      .filter((name) => name.endsWith('.safetensors'))
      .map((name) => join('model', part, name)),
  );
  return [...names, ...networks];
}
