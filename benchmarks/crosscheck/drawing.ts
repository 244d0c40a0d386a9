// The same drawing twice: by `rldf generate`, and by diffusers from the noise that `--save-latents` wrote.
import { join } from 'node:path';
import { readSafetensors } from '@rldf/torch';
import { ask, type Context, readPictures, rldf } from './checks.js';

export interface Drawing {
  /** Names the files. */
  name: string;
  model: string;
  prompts: readonly string[];
  scheduler: 'ddim' | 'dpm-solver++' | 'euler' | 'lms' | 'pndm' | 'unipc';
  steps: number;
  guidance: number;
  negative?: string;
  /** Of GLIGEN's kind: what is where in every picture, and the share of steps in which it is heard. */
  boxes?: readonly { phrase: string; box: readonly number[] }[];
  beta?: number;
  /** In pixels; default: the model's. */
  size?: readonly [height: number, width: number];
  /** `ldm`: in LDM's names, which diffusers must be told. */
  adapters?: readonly { file: string; strength: number; ldm?: boolean }[];
}

export const prompts = ['a cat', 'two dogs on grass', 'a photo of a red bicycle', 'a fox left of a house'];

/** Draws on our side. Returns the pixels and the file of the noise. */
export async function drawHere(
  { folder }: Context,
  drawing: Drawing,
): Promise<{ pixels: Uint8Array; latents: string }> {
  const {
    name,
    model,
    scheduler,
    steps,
    guidance,
    negative,
    size,
    adapters = [],
    boxes = [],
    beta,
  } = drawing;
  const output = join(folder, name);
  const latents = join(folder, `${name}-noise.safetensors`);
  await rldf(
    'generate',
    ...drawing.prompts,
    ...['--model', model, '--seed', '7', '--scheduler', scheduler, '--steps', String(steps)],
    ...['--guidance', String(guidance), '--save-latents', latents, '--output', output],
    ...(negative === undefined ? [] : ['--negative', negative]),
    ...boxes.flatMap(({ phrase, box }) => ['--box', `${phrase}@${box}`]),
    ...(beta === undefined ? [] : ['--grounding-beta', String(beta)]),
    ...(size === undefined ? [] : ['--height', String(size[0]), '--width', String(size[1])]),
    ...adapters.flatMap(({ file, strength }) => ['--adapter', `${file}:${strength}`]),
  );
  return { pixels: await readPictures(output), latents };
}

/** Draws in diffusers. `theirs` replaces what the other side is to draw with. */
export async function drawThere(
  context: Context,
  drawing: Drawing,
  latents: string,
  theirs: Partial<Drawing> = {},
): Promise<Uint8Array> {
  const output = join(context.folder, `${drawing.name}-theirs.safetensors`);
  await ask(context, { ask: 'draw', ...drawing, ...theirs, latents, output });
  return readSafetensors(output).tensors.get('images')!.toArray() as Uint8Array;
}
