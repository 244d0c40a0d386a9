/** What is kept of one finished (arm, seed): a few kB of JSON, from which a table can be drawn again anywhere. */

import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { listFolder, makeFolder, replaceFile } from '@rldf/common/base/files';
import type { Budget } from '@rldf/common/base/protocol-file';
import { UserError } from '@rldf/torch/errors';
import type { Protocol } from './protocol.js';

export interface ArmResult {
  table: string;
  budget: Budget;
  arm: string;
  seed: number;
  /** SHA-256 of the protocol that the run followed. */
  protocol: string;
  /** Scores on the test prompts by reward name, one a prompt, before and after training with the same noise. */
  scores: Record<string, { before: number[]; after: number[] }>;
  /** Reward by training pictures. */
  curve: { pictures: number; training: number | null; validation: number | null }[];
  cost: {
    pictures: number;
    /** U-Net forwards of one picture; a forward with its backward counts three. */
    unetForwards: number;
    seconds: number;
    cpuSeconds: number;
  };
  /** SHA-256 of the exported adapters, by file name; of a fused arm, of those it adds up, by arm and file name. */
  adapters: Record<string, string>;
  environment: {
    rldf: string;
    libtorch: string;
    cpu: string;
    threads: number;
    /** Of the training; missing in old results: cpu. */
    device?: string;
    commit: string | null;
  };
}

export const armResultPath = (folder: string, arm: string, seed: number) =>
  join(folder, `${arm}-seed${seed}.json`);

export function writeArmResult(folder: string, armResult: ArmResult): string {
  makeFolder(folder);
  const path = armResultPath(folder, armResult.arm, armResult.seed);
  replaceFile(path, `${JSON.stringify(armResult, rounded)}\n`);
  return path;
}

/** Six digits are enough for every statistic and keep a result small. */
function rounded(_: string, value: unknown): unknown {
  return typeof value === 'number' && !Number.isInteger(value) ? Number(value.toPrecision(6)) : value;
}

/**
 * The results of a table that are there.
 * @throws UserError when one was made under another protocol: the protocol was changed after its first test picture
 */
export function readArmResults(folder: string, protocol: Protocol): ArmResult[] {
  if (!existsSync(folder)) return [];
  const armResults = listFolder(folder)
    .filter((name) => name.endsWith('.json'))
    .map((name): ArmResult => {
      const path = join(folder, name);
      try {
        return JSON.parse(readFileSync(path, 'utf8')) as ArmResult;
      } catch (error) {
        throw new UserError(
          `${path}: ${(error as Error).message} — a result is JSON. Restore it, or remove it to run it again`,
        );
      }
    });
  const other = armResults.find(({ protocol: hash }) => hash !== protocol.hash);
  if (other === undefined) return armResults;
  throw new UserError(
    `${protocol.file}: was changed after the first test picture (${armResultPath(folder, other.arm, other.seed)} followed another version) — ` +
      'a protocol is fixed before its results. Restore it, or give the new one a new name',
  );
}
