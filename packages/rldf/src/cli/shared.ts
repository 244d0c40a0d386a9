/** What the commands share. Nothing here loads libtorch, so that `--help` is quick and `doctor` works without it. */

import { existsSync, readdirSync } from 'node:fs';
import { basename, join } from 'node:path';
import { jsonText } from '@rldf/common/base/exact';
import { UserError } from '@rldf/torch/errors';
import { byteWords } from '../base/machine.js';
import { recipesFolder } from '../base/recipes-folder.js';
import { print } from './output.js';

export { byteWords, recipesFolder };

/** Names of the tables that `rldf reproduce` knows. */
export function tableNames(): string[] {
  const folder = join(recipesFolder, 'reproduce');
  return existsSync(folder) ? readdirSync(folder).sort() : [];
}

/** A grammar of `rldf search` is a file, or the name of one in recipes/search. */
export function grammarPath(nameOrFile: string): string {
  const shipped = join(recipesFolder, 'search', `${nameOrFile}.yaml`);
  return existsSync(shipped) && !existsSync(nameOrFile) ? shipped : nameOrFile;
}

/** Names of the shipped recipes, without their ending. */
export function recipeNames(): string[] {
  const files = readdirSync(recipesFolder, { recursive: true, encoding: 'utf8' });
  return files
    .filter((file) => file.endsWith('.yaml') && !/^(search|relabel|judges)|protocol\.yaml$/.test(file))
    .map((file) => file.replace(/\.yaml$/, '').replaceAll('\\', '/'))
    .sort();
}

/** A recipe argument is a file, or the name of a shipped recipe. */
export function recipePath(nameOrFile: string): string {
  const shipped = join(recipesFolder, `${nameOrFile}.yaml`);
  return !existsSync(nameOrFile) && recipeNames().includes(nameOrFile) ? shipped : nameOrFile;
}

/** Whether there is a run of this name. */
export const isRun = (root: string, name: string): boolean => existsSync(join(root, name, 'recipe.yaml'));

/** A name for a run of a recipe that is not taken yet: `NAME-1`, `NAME-2`, ...; the last one that is, for `again`. */
export function freeRunName(recipeFile: string, root: string, again = false): string {
  const stem =
    basename(recipeFile)
      .replace(/\.ya?ml$/, '')
      .replace(/[^A-Za-z0-9._-]+/g, '-') || 'run';
  const taken = new Set(existsSync(root) ? readdirSync(root) : []);
  for (let number = 1; ; number++)
    if (!taken.has(`${stem}-${number}`)) return `${stem}-${again && number > 1 ? number - 1 : number}`;
}

/** Collects a repeatable option. */
export function collect(value: string, previous: string[] = []): string[] {
  return [...previous, value];
}

/**
 * The number given to `--name`; undefined if the option was not given.
 * @param limits `most` is of whole numbers
 * @throws UserError when it is no number, below `least` or above `most`, or not whole though it must be
 */
export function numberOption(
  name: string,
  text: string | undefined,
  { least = 0, whole = true, most = Number.MAX_SAFE_INTEGER } = {},
): number | undefined {
  if (text === undefined) return undefined;
  const value = Number(text);
  if (
    text.trim() !== '' &&
    Number.isFinite(value) &&
    value >= least &&
    (!whole || (Number.isSafeInteger(value) && value <= most))
  )
    return value;
  const limit = most === Number.MAX_SAFE_INTEGER ? `${most} (2^53 - 1)` : most;
  const above = whole && value > most ? ` and at most ${limit}` : '';
  throw new UserError(
    `--${name} ${text}: expected a ${whole ? 'whole ' : ''}number of at least ${least}${above}`,
  );
}

/** The option of every command that reads a recipe. */
export const setOption = [
  '--set <key=value>',
  'override a field, such as train.learningRate=3e-4; repeatable',
] as const;

export function printJson(value: unknown): void {
  print(`${jsonText(value, 2)}\n`);
}

/** Rows as text columns, each as wide as its widest entry. */
export function table(rows: readonly (readonly string[])[]): string {
  const widths = (rows[0] ?? []).map((_, column) =>
    Math.max(...rows.map((row) => (row[column] ?? '').length)),
  );
  return rows
    .map((row) =>
      row
        .map((cell, column) => cell.padEnd(widths[column]!))
        .join('  ')
        .trimEnd(),
    )
    .join('\n');
}

/**
 * A signal that Ctrl-C (or SIGTERM) aborts; work then saves and ends. A second one ends the process at once, whatever computes;
 * SIGTERM does after five seconds.
 *
 * @param onFirst called at the first, to say what happens
 * @param stoppable nothing is to be saved: the first stops before the next operator, and SIGTERM ends the process at once
 */
export async function interruption(
  onFirst: () => void,
  { stoppable = false } = {},
): Promise<{ signal: AbortSignal; release: () => void }> {
  const { watchSignals, unwatchSignals } = await import('@rldf/torch');
  const controller = new AbortController();
  const handle = () => {
    if (controller.signal.aborted) process.exit(130); // where nothing of the system's watches
    onFirst();
    controller.abort();
  };
  process.on('SIGINT', handle);
  process.on('SIGTERM', handle);
  watchSignals(stoppable);
  const release = () => {
    unwatchSignals();
    process.off('SIGINT', handle);
    process.off('SIGTERM', handle);
  };
  return { signal: controller.signal, release };
}
