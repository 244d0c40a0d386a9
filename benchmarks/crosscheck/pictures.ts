// The shipped model in diffusers' own pipeline draws the pictures that we draw.
import { largestDifference } from '../shared/differences.js';
import { type Check, type Context, same } from './checks.js';
import { type Drawing, drawHere, drawThere, prompts } from './drawing.js';

const ways = [
  { label: 'no guidance', guidance: 1 },
  { label: 'guidance 3', guidance: 3 },
  { label: 'guidance 3, negative prompt', guidance: 3, negative: 'a dog on grass' },
];

export async function pictureChecks(context: Context): Promise<Check[]> {
  const checks: Check[] = [];
  for (const scheduler of ['ddim', 'dpm-solver++', 'euler'] as const) {
    for (const { label, ...way } of ways) {
      const name = `pictures-${scheduler}-${label.replaceAll(/\W+/g, '-')}`;
      const drawing: Drawing = { name, model: context.model, prompts, scheduler, steps: 12, ...way };
      const { pixels, latents } = await drawHere(context, drawing);
      const planted = context.planted.has('negative') && way.negative !== undefined;
      const theirs = await drawThere(context, drawing, latents, planted ? { negative: 'a cat' } : {});
      checks.push(same(`pictures: ${scheduler}, ${label}`, largestDifference(pixels, theirs), 2, '/255'));
    }
  }
  return checks;
}
