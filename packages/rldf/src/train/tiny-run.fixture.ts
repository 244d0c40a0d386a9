// A whole DDPO run small enough for tests and campaigns of the run machinery: a real pipeline with random weights, two
// prompts of two pictures an epoch, adapters on the U-Net and the text encoder, a reward whose statistics are state.

import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { savePipeline, tinyPipeline } from '@rldf/models';
import { comparableRow, readMetrics } from '../run/metrics.js';
import type { Run } from '../run/run.js';

/** Writes the tiny model's folder. */
export function saveTinyModel(folder: string, seed = 0): string {
  const pipeline = tinyPipeline(seed);
  savePipeline(pipeline, folder);
  for (const parameters of Object.values(pipeline.parameters)) parameters.free();
  return folder;
}

/** Recipe of a run on that folder; two updates an epoch. */
export const tinyRecipe = (model: string, epochs: number) => ({
  method: 'ddpo',
  model,
  prompts: ['a cat', 'a dog', 'a cow'],
  reward: [{ reward: 'jpeg-incompressibility', weight: -1 }], // of this sign validation rises, so that the best is not step 0
  threads: 1,
  epochs,
  sample: { steps: 3, promptsPerEpoch: 2, picturesPerPrompt: 2, batchSize: 4 },
  train: {
    unet: 'lora',
    textEncoder: 'lora',
    rank: 2,
    updatesPerEpoch: 2,
    batchSize: 2,
    clipNats: 5,
    learningRate: 0.01,
  },
  evaluate: { every: 2 },
  checkpoint: { every: 1, keep: 2 },
});

/** What must be equal between an interrupted and an uninterrupted run. */
export const fingerprint = (run: Run) => ({
  adapter: readFileSync(join(run.adaptersFolder, 'pytorch_lora_weights.safetensors')).toString('base64'),
  metrics: readMetrics(run.metricsPath).map((row) => comparableRow(row)),
  report: JSON.parse(readFileSync(join(run.reportFolder, 'report.json'), 'utf8')).reward,
  checkpoints: run.checkpoints().map(({ step, score, path }) => {
    const { files } = JSON.parse(readFileSync(join(path, 'checkpoint.json'), 'utf8'));
    return [step, score, files]; // with their hashes
  }),
});

/** Runs to the end. */
export async function drain<Event>(events: AsyncIterable<Event>): Promise<Event[]> {
  const all: Event[] = [];
  for await (const event of events) all.push(event);
  return all;
}
