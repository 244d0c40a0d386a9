// The same seeds drawn on the CPU and on the device; and how fast.
import { nounOf, paperAnimals } from '@rldf/emoji-world';
import { generate, loadPipeline, type Pipeline } from '@rldf/models';
import { type Device, type DType, free, threads } from '@rldf/torch';
import { findModel } from 'rldf';
import { median } from '../shared/rows.js';
import { type CheckOptions, differences, type Found } from './row.js';

const guidance = 3;

export const animals = (count: number): string[] =>
  Array.from({ length: count }, (_, i) => {
    const { article, singular } = nounOf((paperAnimals[i % paperAnimals.length] as { name: string }).name);
    return `${article} ${singular}`;
  });

export const loadEmoji = (device: Device, dtype: DType = 'float32'): Pipeline =>
  loadPipeline(findModel('emoji').path, { device, dtype });

export function unload({ parameters }: Pipeline): void {
  for (const weights of Object.values(parameters)) weights.free();
}

async function drawn(pipeline: Pipeline, count: number, steps: number) {
  const prompts = animals(count);
  const options = { prompts, seeds: prompts.map((_, i) => i), steps, guidanceScale: guidance };
  const made = await generate(pipeline, options);
  const result = { latents: made.latents.toArray() as Float32Array, bytes: made.images.bytes() };
  free(made);
  return result;
}

/** In float32, twice, and in half precisions. */
export async function* pictures({ device, smoke }: CheckOptions): Found {
  const [count, steps] = smoke ? [2, 2] : [16, 14];
  const reference = loadEmoji('cpu');
  const wanted = await drawn(reference, count, steps);
  unload(reference);
  let first: Awaited<ReturnType<typeof drawn>> | undefined;
  for (const dtype of ['float32', 'bfloat16', 'float16'] as const) {
    const pipeline = loadEmoji(device, dtype);
    const found = await drawn(pipeline, count, steps);
    const row = (what: string, other: typeof found) => {
      const [latents, bytes] = [
        differences(found.latents, other.latents),
        differences(found.bytes, other.bytes),
      ];
      const values = {
        'latents, relative': latents.relative,
        'latents, largest': latents.largest,
        'equal bytes': bytes.equal,
        'largest difference of a byte': bytes.largest,
      };
      const far = dtype === 'float32' && latents.relative > 0.05;
      return { what, values, ...(far && { problem: 'float32 is further than 5 % from the CPU' }) };
    };
    yield row(`${dtype}, against float32 on the CPU`, wanted);
    if (first === undefined) {
      first = found;
      const again = await drawn(pipeline, count, steps);
      yield row('float32, drawn twice', again);
    }
    unload(pipeline);
  }
}

/** Seconds until the bytes are here. */
async function seconds(pipeline: Pipeline, count: number, steps: number): Promise<number> {
  const prompts = animals(count);
  const start = performance.now();
  const made = await generate(pipeline, {
    prompts,
    seeds: prompts.map((_, i) => i),
    steps,
    guidanceScale: guidance,
  });
  made.images.bytes();
  free(made);
  return (performance.now() - start) / 1000;
}

/** Pictures a second. */
export async function* speed({ device, smoke }: CheckOptions): Found {
  const steps = smoke ? 2 : 14;
  const cases: [DType, number, number][] = smoke
    ? [['float32', 2, 1]]
    : device === 'cpu'
      ? [
          ['float32', 64, 3],
          ['float32', 256, 1],
        ]
      : (['float32', 'bfloat16', 'float16'] as const).flatMap((dtype): [DType, number, number][] => [
          [dtype, 1, 5],
          [dtype, 64, 7],
          [dtype, 256, 5],
          [dtype, 1024, 3],
        ]);
  for (const [dtype, batch, repetitions] of cases) {
    const pipeline = loadEmoji(device, dtype);
    const times: number[] = [];
    for (let i = -1; i < repetitions; i++) {
      const taken = await seconds(pipeline, batch, steps);
      if (i >= 0) times.push(taken);
    }
    unload(pipeline);
    yield {
      what: `${device === 'cpu' ? `CPU, ${threads()} threads` : device}, ${dtype}, batch ${batch}`,
      values: {
        'pictures/s': batch / median(times),
        'ms a step': (1000 * median(times)) / steps,
        repetitions,
      },
    };
  }
}
