// A long run of the tiny recipe: neither tensors nor memory may grow between update 50 and the last one.
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { liveBytes, liveTensors, setThreads } from '@rldf/torch';
import { train } from 'rldf';
import { saveTinyModel, tinyRecipe } from 'rldf/testing';
import { median } from '../shared/rows.js';
import type { CampaignOptions } from './main.js';

const updatesPerEpoch = 2;
const firstUpdate = 50;
const allowedGrowth = 0.03;
/** Epochs whose RSS is taken together, so that a single garbage collection does not decide. */
const window = 5;

interface Sample {
  update: number;
  tensors: number;
  bytes: number;
  rss: number;
}

export async function run({ count = 1000, seed, say }: CampaignOptions): Promise<boolean> {
  setThreads(1);
  setFlagsFromString('--expose-gc');
  const collectGarbage = runInNewContext('gc') as () => void;
  const folder = mkdtempSync(join(tmpdir(), 'rldf-endurance-'));
  const epochs = Math.ceil(count / updatesPerEpoch);
  const recipe = {
    ...tinyRecipe(saveTinyModel(join(folder, 'model')), epochs),
    seed,
    evaluate: { every: 25 },
    checkpoint: { every: 25, keep: 2 },
  };
  const samples: Sample[] = [];
  for await (const event of train(recipe, { name: 'long', root: join(folder, 'runs') })) {
    if (event.kind !== 'step') continue;
    collectGarbage();
    const update = event.step * updatesPerEpoch;
    samples.push({ update, tensors: liveTensors(), bytes: liveBytes(), rss: process.memoryUsage.rss() });
    if (update % 100 === 0 || update === firstUpdate) say(line(samples.at(-1) as Sample));
  }
  rmSync(folder, { recursive: true, force: true });

  const settled = samples.filter(({ update }) => update >= firstUpdate);
  if (settled.length < 2 * window) {
    say(`${count} updates are too few to tell — at least ${firstUpdate + 2 * window * updatesPerEpoch}`);
    return false;
  }
  const flat = (name: 'tensors' | 'bytes') => new Set(settled.map((sample) => sample[name])).size === 1;
  const rss = (part: Sample[]) => median(part.map((sample) => sample.rss));
  const growth = rss(settled.slice(-window)) / rss(settled.slice(0, window)) - 1;
  say(
    `after ${count} updates, compared with ${firstUpdate}: live tensors ${flat('tensors') ? 'flat' : 'NOT flat'} (${settled.at(-1)?.tensors}), ` +
      `live bytes ${flat('bytes') ? 'flat' : 'NOT flat'} (${settled.at(-1)?.bytes}), RSS ${growth < 0 ? '' : '+'}${(100 * growth).toFixed(2)} % (at most 3 %)`,
  );
  return flat('tensors') && flat('bytes') && Math.abs(growth) <= allowedGrowth;
}

const line = ({ update, tensors, bytes, rss }: Sample) =>
  `update ${String(update).padStart(4)}  ${tensors} tensors  ${bytes} bytes  RSS ${(rss / 2 ** 20).toFixed(1)} MiB`;
