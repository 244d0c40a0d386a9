// The quickstart on the device and on the CPU: does the reward rise, how long does an epoch take, and the memory of the GPU.
import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { threads, zeros } from '@rldf/torch';
import { loadRecipe, openRun, readMetrics, train } from 'rldf';
import { plan } from 'rldf/run';
import { median } from '../shared/rows.js';
import type { CheckOptions, Found } from './row.js';

const recipe = fileURLToPath(new URL('../../recipes/emoji/compressibility.yaml', import.meta.url));
const short = ['evaluate.maxPrompts=1', 'report.maxPrompts=1'];

/** Whole on the device; two epochs on the CPU, which tell how long one takes. */
export async function* quickstart({ device, smoke }: CheckOptions): Found {
  const words = [`device=${device}`];
  if (device === 'cpu') words.push('epochs=2', ...short);
  if (smoke)
    words.push(
      'epochs=1',
      'sample.promptsPerEpoch=2',
      'sample.batchSize=8',
      'train.batchSize=8',
      'sample.steps=2',
    );
  const root = mkdtempSync(join(tmpdir(), 'rldf-device-'));
  const started = performance.now();
  const before = gpuMemory();
  zeros([1], { device }); // the driver's own share comes with the first tensor
  const context = gpuMemory();
  const checked = loadRecipe(recipe, words);
  try {
    for await (const event of train(checked, { name: 'run', root })) {
      if (event.kind !== 'finished') continue;
      const seconds = (performance.now() - started) / 1000;
      const used = gpuMemory();
      const rows = readMetrics(openRun('run', root).metricsPath).filter(({ step }) => step > 0);
      const { before: start, after, difference, ci95 } = event.report.reward;
      const ratios = rows.map((row) => Number(row['policy/firstRatioError']));
      yield {
        what: device === 'cpu' ? `CPU, ${threads()} threads` : device,
        values: {
          epochs: rows.length,
          'seconds an epoch': median(rows.map((row) => Number(row['time/step']))),
          'seconds in all': seconds,
          'ratio − 1 at first updates, largest': Math.max(...ratios),
          ...(rows.length > 2 && { start, end: after, difference, 'from (95 %)': ci95[0], to: ci95[1] }),
        },
      };
      if (before !== undefined && context !== undefined && used !== undefined && device !== 'cpu') {
        const { memory } = await plan(checked, { calibration: 0 });
        yield {
          what: 'memory, MiB',
          values: {
            'before the process touches the GPU': before,
            'its context': context - before,
            'held at the end besides (the most that the allocator ever took)': used - context,
            'tensors as `rldf plan` predicts for the CPU': memory.peak / 2 ** 20,
          },
        };
      }
    }
  } finally {
    rmSync(root, { recursive: true, force: true });
  }
}

/** MiB in use on the first GPU, by all processes. */
function gpuMemory(): number | undefined {
  try {
    const words = ['--query-gpu=memory.used', '--format=csv,noheader,nounits'];
    return Number(execFileSync('nvidia-smi', words, { encoding: 'utf8' }).split('\n')[0]);
  } catch {
    return undefined;
  }
}
