// A model of GLIGEN's kind that is written here, in diffusers' own pipeline: the same pictures with the same boxes.
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { loadPipeline, savePipeline } from '@rldf/models';
import { largestDifference } from '../shared/differences.js';
import { type Check, type Context, changes, same } from './checks.js';
import { type Drawing, drawHere, drawThere, prompts } from './drawing.js';

const boxes = [
  { phrase: 'a cat', box: [0.05, 0.3, 0.45, 0.9] },
  { phrase: 'two dogs', box: [0.5, 0.2, 1, 0.75] },
];

const ways = [
  { label: 'no guidance, all steps', guidance: 1, beta: 1 },
  { label: 'guidance 3, the first 0.3', guidance: 3, beta: 0.3 },
  { label: 'guidance 3, negative prompt, one half', guidance: 3, negative: 'a dog on grass', beta: 0.5 },
];

/**
 * A tiny model whose every weight is random, gates among them. Not the built-in world's: diffusers' pipeline draws latents of four
 * channels only.
 */
function writeModel({ folder }: Context): string {
  const golden = fileURLToPath(new URL('../../packages/models/goldens/pipeline-gligen', import.meta.url));
  const written = join(folder, 'gligen');
  savePipeline(loadPipeline(golden), written);
  return written;
}

export async function gligenChecks(context: Context): Promise<Check[]> {
  const model = writeModel(context);
  const checks: Check[] = [];
  let told: Uint8Array | undefined; // without guidance, with boxes in all steps
  for (const { label, ...way } of ways) {
    const name = `gligen-${label.replaceAll(/\W+/g, '-')}`;
    const drawing: Drawing = { name, model, prompts, scheduler: 'ddim', steps: 8, boxes, ...way };
    const { pixels, latents } = await drawHere(context, drawing);
    told ??= pixels;
    const theirs = await drawThere(context, drawing, latents);
    checks.push(same(`gligen: ${label}`, largestDifference(pixels, theirs), 2, '/255'));
  }
  const without: Drawing = {
    name: 'gligen-without',
    model,
    prompts,
    scheduler: 'ddim',
    steps: 8,
    guidance: 1,
    beta: 0,
  };
  const { pixels } = await drawHere(context, { ...without, boxes });
  const moved = largestDifference(told!, pixels);
  checks.push(changes('gligen: its layers change the picture', moved, 3, '/255'));
  return checks;
}
