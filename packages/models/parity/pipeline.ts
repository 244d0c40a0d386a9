import { join } from 'node:path';
import { noGrad } from '@rldf/torch';
import type { GroundedObject } from '../src/grounding.js';
import { decodeLatents, generate } from '../src/pipeline.js';
import { loadPipeline } from '../src/pipeline-files.js';
import { encodePrompts, type MicroConditioning } from '../src/prompts.js';
import { type Difference, type Golden, goldenFolder, numbers, relativeError } from './golden.js';

interface Run {
  name: string;
  steps: number;
  prompts: string[];
  guidanceScale: number;
  negativePrompts: string[] | null;
  forceZerosForEmptyPrompt?: boolean;
  microConditioning?: MicroConditioning | null;
  /** Told of every picture. */
  objects?: GroundedObject[];
  groundingBeta?: number;
}

export function pipelineRuns(golden: Golden): string[] {
  return (golden.json.runs as Run[]).map(({ name }) => name);
}

/** A whole drawing, from a model folder as diffusers writes it: latents, and pictures before and after rounding. */
export async function pipelineDifferences(golden: Golden, name: string): Promise<Difference[]> {
  const run = (golden.json.runs as Run[]).find((item) => item.name === name)!;
  const pipeline = loadPipeline(join(goldenFolder, golden.json.folder as string));
  const { forceZerosForEmptyPrompt, microConditioning } = run;
  if (forceZerosForEmptyPrompt === false) pipeline.forceZerosForEmptyPrompt = false; // else as the folder says
  if (microConditioning) pipeline.microConditioning = microConditioning;
  const { images, latents } = await generate(pipeline, {
    prompts: run.prompts,
    seeds: run.prompts.map((_, i) => i),
    steps: run.steps,
    guidanceScale: run.guidanceScale,
    latents: golden.input('latents'),
    width: golden.json.width as number,
    height: golden.json.height as number,
    ...(run.objects && { objects: run.prompts.map(() => run.objects!) }),
    ...(run.groundingBeta !== undefined && { groundingBeta: run.groundingBeta }),
    ...(run.negativePrompts ? { negativePrompts: run.negativePrompts } : {}),
  });
  const unit = noGrad(() => decodeLatents(pipeline, latents).div(2).add(0.5).clamp(0, 1));
  const expected = golden.tensor(`outputs.${name}.images`); // [B, 3, H, W] in [0, 1]
  const bytes = numbers(images.to('float32').permute([0, 3, 1, 2]).contiguous());
  const exact = numbers(expected.mul(255));
  return [
    {
      name: 'latents',
      error: relativeError(numbers(latents), numbers(golden.tensor(`outputs.${name}.latents`))),
    },
    { name: 'images', error: relativeError(numbers(unit), numbers(expected)) },
    { name: 'bytes', error: roundingError(bytes, exact) },
  ];
}

/** What the network is told of a golden's prompts, as two text encoders read them. */
export function textDifferences(golden: Golden): Difference[] {
  const pipeline = loadPipeline(join(goldenFolder, golden.json.folder as string));
  const [{ prompts }] = golden.json.runs as [Run];
  const { hiddenStates, pooled } = noGrad(() => encodePrompts(pipeline, prompts));
  return [['hidden_states', hiddenStates] as const, ['pooled', pooled!] as const].map(([name, found]) => {
    const expected = golden.tensor(`outputs.text.${name}`);
    return { name, error: relativeError(numbers(found), numbers(expected)) };
  });
}

/** How much more than half a step bytes are away from the numbers that they round, in shares of the range. */
function roundingError(bytes: ArrayLike<number>, exact: ArrayLike<number>): number {
  if (bytes.length !== exact.length) return Number.POSITIVE_INFINITY;
  let worst = 0;
  for (let i = 0; i < exact.length; i++) worst = Math.max(worst, Math.abs(bytes[i]! - exact[i]!) - 0.5);
  return worst / 255;
}
