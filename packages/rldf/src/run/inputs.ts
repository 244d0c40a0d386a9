/** What a run reads from outside its folder, told apart by hashes, so that a resumed run is known to continue what began. */

import { createHash } from 'node:crypto';
import { readTextIfThere } from '@rldf/common/base/files';
import { UserError } from '@rldf/torch/errors';
import type { Run } from './run.js';

export interface RunInputs {
  /** Fingerprint of the base model. */
  base: string;
  /** Hashes of the prompts, by the recipe's field. */
  prompts: Record<string, string>;
  /** Hashes of the reward's modules, by file. */
  modules: Record<string, string>;
}

/** A short hash of anything that is JSON, or of a file's text. */
export function hashOf(value: unknown): string {
  const text = typeof value === 'string' ? value : (JSON.stringify(value) ?? '');
  return createHash('sha256').update(text).digest('hex').slice(0, 16);
}

/** As `createRun` wrote them; nothing in runs of before. */
export function inputsOf(run: Run): RunInputs | undefined {
  try {
    return JSON.parse(readTextIfThere(run.environmentPath) ?? '{}').inputs;
  } catch {
    return undefined; // the file is for people; a run goes on without it
  }
}

/**
 * @param model as the recipe names it
 * @returns words for what else has changed since the run began
 * @throws UserError when the base model is another
 */
export function compareInputs(run: Run, now: RunInputs, model: string): string[] {
  const then = inputsOf(run);
  if (then === undefined) return [];
  if (then.base !== now.base)
    throw new UserError(
      `${run.folder}: the model ${model} has other weights (${now.base}) than when the run began (${then.base}) — what was trained belongs to those. Put them back, or start a new run`,
    );
  const changed = [
    ...changedIn(then.prompts, now.prompts).map((field) => `the prompts of \`${field}\``),
    ...changedIn(then.modules, now.modules).map((file) => `the reward's module ${file}`),
  ];
  return changed.map(
    (what) =>
      `${what} changed since the run began: it goes on with them as they are, and is no longer one run`,
  );
}

const changedIn = (then: Record<string, string>, now: Record<string, string>) =>
  Object.keys({ ...then, ...now }).filter((key) => then[key] !== now[key]);
