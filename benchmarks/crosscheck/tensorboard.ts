// TensorBoard's own reader finds in a run's event file what metrics.jsonl says.
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { openRun, readMetrics } from 'rldf';
import { runsFolder } from './adapters.js';
import { ask, type Check, type Context, same } from './checks.js';

export async function tensorBoardChecks(context: Context): Promise<Check[]> {
  const run = openRun('unet', runsFolder(context));
  const file = join(run.tensorBoardFolder, readdirSync(run.tensorBoardFolder)[0]!);
  if (context.planted.has('event')) writeFileSync(file, readFileSync(file).subarray(0, -9));
  const { scalars } = (await ask(context, { ask: 'tensorboard', folder: run.tensorBoardFolder })) as {
    scalars?: Record<string, [step: number, value: number][]>;
  };
  const events = Object.entries(scalars ?? {}).flatMap(([tag, points]) =>
    points.map(([step, value]) => `${step} ${tag} ${value}`),
  );
  const expected = readMetrics(run.metricsPath).flatMap(({ step, ...values }) =>
    Object.entries(values)
      .filter(([, value]) => typeof value === 'number' && Number.isFinite(value))
      .map(([tag, value]) => `${step} ${tag} ${Math.fround(value as number)}`),
  );
  const missing = expected.filter((event) => !events.includes(event));
  const extra = events.filter((event) => !expected.includes(event));
  return [
    same(
      `TensorBoard: ${expected.length} scalars of a run`,
      missing.length + extra.length,
      0,
      'differ',
      missing[0],
    ),
  ];
}
