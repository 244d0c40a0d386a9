/** Rewards of a sum against each other, by the validations of a run. */

import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { readTextIfThere } from '@rldf/common/base/files';
import { mean } from '@rldf/common/base/stats';
import { type ParetoAxis, type ParetoPoint, pairsOf, paretoFront } from '@rldf/common/drawing/pareto';
import { parse } from 'yaml';
import type { PictureLine } from '../run/picture-log.js';
import type { Run } from '../run/run.js';

export interface Pareto {
  axes: ParetoAxis[];
  /** Means over the validation pictures, by step. */
  points: ParetoPoint[];
  /** Steps that no other is better than, of each pair of rewards and of all together. */
  fronts: { rewards: string[]; steps: number[] }[];
}

/** Undefined for a run on one reward, and where fewer than two validations are kept. */
export function paretoOf(run: Run): Pareto | undefined {
  const text = readTextIfThere(join(run.samplesFolder, 'pictures.jsonl')) ?? '';
  const bySteps = new Map<number, Record<string, number[]>>();
  for (const line of text.split('\n').filter((one) => one !== '')) {
    const { step, kind, parts } = lineOf(line) ?? {};
    if (kind === 'validation' && step !== undefined && parts !== undefined) bySteps.set(step, parts);
  }
  const [first] = bySteps.values();
  const names = Object.keys(first ?? {}).filter((name) => !name.endsWith('/multiplier'));
  if (names.length < 2 || bySteps.size < 2) return undefined;
  const { reward } = parse(readFileSync(run.recipePath, 'utf8')) as { reward: unknown };
  const weights = Array.isArray(reward) ? (reward as { weight?: unknown }[]).map(({ weight }) => weight) : [];
  const axes = names.map(
    (name, i): ParetoAxis => (Number(weights[i] ?? 1) < 0 ? { name, less: true } : { name }),
  );
  const whole = [...bySteps].filter(([, parts]) => names.every((name) => (parts[name] ?? []).length > 0));
  const points = whole
    .map(([step, parts]): ParetoPoint => ({ step, values: names.map((name) => mean(parts[name] ?? [])) }))
    .filter(({ values }) => values.every(Number.isFinite))
    .sort((a, b) => a.step - b.step);
  const groups = [...pairsOf(names.length), ...(names.length > 2 ? [names.map((_, i) => i)] : [])];
  const fronts = groups.map((which) => ({
    rewards: which.map((i) => names[i]!),
    steps: paretoFront(points, axes, which).map(({ step }) => step),
  }));
  return points.length < 2 ? undefined : { axes, points, fronts };
}

function lineOf(text: string): Partial<PictureLine> | undefined {
  try {
    return JSON.parse(text) as Partial<PictureLine>;
  } catch {
    return undefined; // cut off by a crash
  }
}
