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
  const { scalars, images } = (await ask(context, { ask: 'tensorboard', folder: run.tensorBoardFolder })) as {
    scalars?: Record<string, [step: number, value: number][]>;
    images?: [tag: string, step: number, width: number, height: number, png: string][];
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
    picturesCheck(run.samplesFolder, images ?? []),
  ];
}

/** The validation pictures of a run, as its folder keeps them. */
function picturesCheck(
  folder: string,
  images: readonly [tag: string, step: number, width: number, height: number, png: string][],
): Check {
  const kept = readdirSync(folder, { recursive: true, encoding: 'utf8' }).flatMap((name) => {
    const [, step, index] = /step-(\d+).validation-(\d+)\.png$/.exec(name) ?? [];
    if (step === undefined) return [];
    const png = readFileSync(join(folder, name));
    const size = `${png.readUInt32BE(16)}x${png.readUInt32BE(20)}`;
    return [`${Number(step)} ${Number(index)} ${size} ${png.toString('hex')}`];
  });
  const found = images.map(([tag, step, width, height, png]) => {
    const index = Number(/^validation\/(\d+) /.exec(tag)?.[1]);
    return `${step} ${index} ${width}x${height} ${png}`;
  });
  const apart = [
    ...kept.filter((one) => !found.includes(one)),
    ...found.filter((one) => !kept.includes(one)),
  ];
  return same(
    `TensorBoard: ${kept.length} pictures of a run`,
    apart.length,
    0,
    'differ',
    apart[0]?.slice(0, 40),
  );
}
