/** Rewards of the user's own: a `.ts`, `.js` or `.mjs` module that exports `reward`. */

import { existsSync } from 'node:fs';
import { dirname, extname, join, resolve } from 'node:path';
import { pathToFileURL } from 'node:url';
import { type Picture, picturesOf } from '@rldf/common/base/picture';
import { howToContinue } from '@rldf/common/base/underway';
import { readJson } from '@rldf/models';
import { Tensor } from '@rldf/torch';
import { UserError } from '@rldf/torch/errors';
import { noteUserModule } from '../base/user-modules.js';
import { checkScores, type Reward } from './reward.js';

/**
 * What a reward module exports under the name `reward`.
 *
 * @example
 * ```ts
 * import type { RewardFunction } from 'rldf';
 * // Mean redness, 0 to 255.
 * export const reward: RewardFunction = ({ images }) =>
 *   images.map(({ data }) => {
 *     let red = 0;
 *     for (let i = 0; i < data.length; i += 3) red += data[i];
 *     return red / (data.length / 3);
 *   });
 * ```
 */
export type RewardFunction = (batch: {
  images: Picture[];
  prompts: string[];
  meta: unknown[];
}) => number[] | Promise<number[]>;

/**
 * What a reward module may export under the name `differentiable`, for methods that follow the reward's gradient: the same
 * scores, computed from the pictures by tensor operations alone.
 *
 * @param images01 float [B, 3, H, W] in [0, 1]
 * @returns [B]
 *
 * @example
 * ```ts
 * import type { DifferentiableRewardFunction } from 'rldf';
 * export const differentiable: DifferentiableRewardFunction = (images01) => images01.select(1, 0).mean([1, 2]).mul(255);
 * ```
 */
export type DifferentiableRewardFunction = (images01: Tensor, prompts: readonly string[]) => Tensor;

/**
 * Loads a reward module. `.ts` needs no build step.
 * @param path relative to `folder`
 * @throws UserError when there is no such file, it does not load, or its exports are not functions as above
 */
export async function loadRewardModule(path: string, folder = process.cwd()): Promise<Reward> {
  const file = resolve(folder, path);
  const where = `reward module ${path}`;
  const kind = extname(file);
  if (!/^\.[cm]?[jt]s$/.test(kind)) {
    throw new UserError(
      `${where}: ${kind === '' ? 'no file ending' : kind} — a reward is a .ts, .js, .mjs or .cjs file`,
    );
  }
  if (!existsSync(file))
    throw new UserError(`${where}: there is no file ${file} — the path is taken from ${folder}`);
  await noteUserModule(file);
  let exported: Record<string, unknown>;
  try {
    exported = await importModule(file, kind);
  } catch (error) {
    throw new UserError(`${where}: does not load — ${firstLines(error)}`, { cause: error });
  }
  const of = (name: string) =>
    exported[name] ?? (exported.default as Record<string, unknown> | undefined)?.[name];
  const reward = of('reward');
  if (typeof reward !== 'function') {
    const names = Object.keys(exported).join(', ');
    throw new UserError(
      `${where}: ${reward === undefined ? 'exports no `reward`' : `its export \`reward\` is a ${typeof reward}, not a function`}${
        names === '' ? '' : ` (exports: ${names})`
      } — it needs \`export function reward({ images, prompts, meta }) { ... }\` that returns one number a picture`,
    );
  }
  const differentiable = of('differentiable');
  if (differentiable !== undefined && typeof differentiable !== 'function') {
    throw new UserError(
      `${where}: its export \`differentiable\` is a ${typeof differentiable}, not a function — it must map pictures [B, 3, H, W] to rewards [B]. Remove or correct it`,
    );
  }
  return rewardFromFunction(path, reward as RewardFunction, differentiable as DifferentiableRewardFunction);
}

/** A plain function as a reward: images are handed to it as bytes, and what it throws or returns is checked. */
export function rewardFromFunction(
  name: string,
  reward: RewardFunction,
  differentiable?: DifferentiableRewardFunction,
): Reward {
  return {
    name,
    unit: '',
    async score(batch) {
      const images = picturesOf(batch.images);
      let scores: unknown;
      try {
        scores = await reward({ images, prompts: [...batch.prompts], meta: [...batch.meta] });
      } catch (error) {
        throw new UserError(
          `reward ${name}: threw ${firstLines(error)} — a reward must give a number for every picture. Mend it, then ${howToContinue() || 'run the command again'}`,
          { cause: error },
        );
      }
      return checkScores(name, scores, batch);
    },
    ...(differentiable && {
      differentiable: (images01, prompts) => checkedRewards(name, differentiable, images01, prompts),
    }),
  };
}

function checkedRewards(
  name: string,
  differentiable: DifferentiableRewardFunction,
  images01: Tensor,
  prompts: readonly string[],
): Tensor {
  let rewards: unknown;
  try {
    rewards = differentiable(images01, prompts);
  } catch (error) {
    throw new UserError(
      `reward ${name}: its \`differentiable\` threw ${firstLines(error)} — it must give a reward for every picture. Mend it, then ${howToContinue() || 'run the command again'}`,
      { cause: error },
    );
  }
  const shape = rewards instanceof Tensor ? `shape [${rewards.shape.join(', ')}]` : `a ${typeof rewards}`;
  if (shape === `shape [${prompts.length}]`) return rewards as Tensor;
  throw new UserError(
    `reward ${name}: its \`differentiable\` returned ${shape} for ${prompts.length} pictures — it must return a tensor with one reward a picture. Reduce over channels and pixels, such as by .mean([1, 2, 3])`,
  );
}

async function importModule(file: string, kind: string): Promise<Record<string, unknown>> {
  const url = pathToFileURL(file).href;
  if (!kind.endsWith('ts')) return import(url);
  const { register, tsImport } = await import('tsx/esm/api');
  if (kind !== '.mts' && !inModulePackage(file)) return tsImport(url, import.meta.url);
  const unregister = register(); // tsImport would give an ES module copies of rldf and @rldf/torch, whose tensors are not ours
  try {
    return await import(url);
  } finally {
    await unregister();
  }
}

/** Whether `.ts` means an ES module there: the nearest package.json says `"type": "module"`. */
function inModulePackage(file: string): boolean {
  const folder = dirname(file);
  const path = join(folder, 'package.json');
  if (existsSync(path)) return (readJson(path) as { type?: string }).type === 'module';
  return folder !== dirname(folder) && inModulePackage(folder);
}

/** Message and the first place in the user's own code. */
function firstLines(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  const place = error.stack
    ?.split('\n')
    .find(
      (line, index) =>
        (index === 0 && /^file:.*:\d+$/.test(line)) ||
        (/^\s+at /.test(line) && !/node:|node_modules/.test(line)),
    );
  return `${error.name}: ${error.message}${place === undefined ? '' : ` (${place.trim()})`}`;
}
