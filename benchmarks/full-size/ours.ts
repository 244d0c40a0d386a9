// Our side of `npm run bench -- full-size`, a process for each question: what it took is what the process took.
import { readFileSync } from 'node:fs';
import { createInterface } from 'node:readline';
import { decodeLatents, type GroundedObject, generate, loadLora, loadPipeline } from '@rldf/models';
import {
  allocatedBytes,
  type DType,
  noGrad,
  peakBytes,
  readSafetensors,
  resetPeakBytes,
  scope,
  setThreads,
  type Tensor,
  writeSafetensors,
} from '@rldf/torch';
import { loadRecipe } from 'rldf';
import { openTraining } from '../shared/open-training.js';

export interface DrawQuestion {
  ask: 'draw';
  threads: number;
  model: string;
  dtype: DType;
  latents: string;
  prompts: string[];
  objects?: [phrase: string, box: GroundedObject['box']][];
  steps: number;
  guidance: number;
  size: [height: number, width: number];
  adapter?: string;
  file: string;
}

export interface TrainQuestion {
  ask: 'train';
  threads: number;
  recipe: string;
  overrides: string[];
  /** Where what was learned is exported to. */
  folder: string;
}

const seconds = () => Number(process.hrtime.bigint()) / 1e9;

async function draw(question: DrawQuestion): Promise<object> {
  const began = seconds();
  const pipeline = loadPipeline(question.model, { dtype: question.dtype });
  if (question.adapter !== undefined) loadLora(question.adapter, pipeline.parameters);
  const loading = seconds() - began;
  const { prompts, steps, guidance, objects } = question;
  const [height, width] = question.size;
  const noise = readSafetensors(question.latents).tensors.get('latents') as Tensor;
  resetPeakBytes();
  const start = seconds();
  const { latents, images: bytes } = await generate(pipeline, {
    prompts,
    seeds: prompts.map((_, i) => i),
    latents: noise,
    steps,
    guidanceScale: guidance,
    height,
    width,
    scheduler: 'DDIMScheduler',
    ...(objects && {
      objects: prompts.map(() => objects.map(([phrase, box]) => ({ phrase, box }))),
      groundingBeta: 1,
    }),
  });
  bytes.bytes();
  const took = { seconds: seconds() - start, tensors: peakBytes(), weights: allocatedBytes() };
  noGrad(() =>
    scope(() => {
      const images = decodeLatents(pipeline, latents).div(2).add(0.5).clamp(0, 1).contiguous();
      writeSafetensors(
        question.file,
        new Map([
          ['images', images],
          ['latents', latents],
        ]),
      );
    }),
  );
  return { ...took, loading, process: mostResident() };
}

/** One epoch, and what it learned as a file. */
async function train({ recipe: file, overrides, folder }: TrainQuestion): Promise<object> {
  const recipe = loadRecipe(file, overrides);
  const began = seconds();
  const training = await openTraining(recipe);
  const loading = seconds() - began;
  resetPeakBytes();
  const start = seconds();
  const metrics: Record<string, number>[] = [];
  for await (const event of training.run(0)) if (event.kind === 'step') metrics.push(event.metrics);
  const took = { seconds: seconds() - start, tensors: peakBytes() };
  const adapters = await training.exportTo(folder);
  return { ...took, loading, metrics: Object.assign({}, ...metrics), adapters, process: mostResident() };
}

function mostResident(): number {
  const [, peak] = /VmHWM:\s+(\d+)/.exec(readFileSync('/proc/self/status', 'utf8')) ?? [];
  return Number(peak) * 1024;
}

for await (const line of createInterface({ input: process.stdin })) {
  const question = JSON.parse(line) as DrawQuestion | TrainQuestion;
  setThreads(question.threads);
  const reply = await (question.ask === 'draw' ? draw(question) : train(question)).catch((error: Error) => ({
    error: error.stack ?? error.message,
  }));
  process.stdout.write(`${JSON.stringify(reply)}\n`);
}
