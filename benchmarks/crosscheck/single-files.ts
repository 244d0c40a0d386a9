// Checkpoints of one file that we write are read by diffusers' from_single_file, and those of diffusers' own conversion scripts by
// us: the same weights, and the same pictures. The scripts are no part of the package; DIFFUSERS_SCRIPTS names their folder.
import { join } from 'node:path';
import { clipTokenizer, openModel, savePipeline, tinyCheckpoint } from '@rldf/models';
import { readSafetensors, type StateDict, scope } from '@rldf/torch';
import { largestDifference } from '../shared/differences.js';
import { Peer } from '../shared/peer.js';
import { ask, type Check, type Context, changes, rldf, same } from './checks.js';
import { type Drawing, drawHere } from './drawing.js';

const kinds = ['sd1', 'sd2', 'xl'] as const;
const parts = ['unet', 'vae', 'text_encoder', 'text_encoder_2'] as const;

export async function singleFileChecks(context: Context): Promise<Check[]> {
  const peer = new Peer(context.python, 'single_file_peer.py');
  try {
    const own = { ...context, peer, python: context.python };
    const checks: Check[] = [];
    for (const kind of kinds) checks.push(...(await written(own, kind)));
    if (process.env.DIFFUSERS_SCRIPTS === undefined)
      context.say('single-files: DIFFUSERS_SCRIPTS names no folder, so diffusers’ own scripts are not run');
    else for (const kind of kinds) checks.push(...(await theirs(own, kind)));
    return checks;
  } finally {
    peer.end();
  }
}

/** Our file, in diffusers. */
async function written(context: Context, kind: (typeof kinds)[number]): Promise<Check[]> {
  const model = join(context.folder, `single-${kind}`);
  const file = `${model}.safetensors`;
  const pipeline = tinyCheckpoint(kind, 11);
  savePipeline(pipeline, model);
  for (const parameters of Object.values(pipeline.parameters)) parameters.free();
  await rldf('export', '--merge', '--model', model, '--format', 'single-file', '--output', file);
  return compared(context, `our single file of ${kind}, in diffusers`, {
    name: `single-${kind}`,
    model,
    file,
    kind,
  });
}

/** The file of diffusers' script, here. */
async function theirs(context: Context, kind: (typeof kinds)[number]): Promise<Check[]> {
  const model = join(context.folder, `original-${kind}`);
  const [file, tokenizer] = [`${model}.safetensors`, join(context.folder, 'clip-tokenizer')];
  clipTokenizer(kind === 'sd2' ? '!' : '<|endoftext|>').save(tokenizer);
  await ask(context, { ask: 'write_original', kind, folder: model, file, tokenizer });
  const [folder, original] = [stored(model, kind), stored(file, kind)];
  const label = `the file of diffusers’ script for ${kind}, here`;
  return [same(`${label}: weights that differ from the folder’s`, different(original, folder), 0, 'tensors')];
}

/** Our weights of a folder, and diffusers' of the file; then pictures of both. */
async function compared(
  context: Context,
  label: string,
  { name, model, file, kind }: { name: string; model: string; file: string; kind: string },
): Promise<Check[]> {
  const drawing: Drawing = {
    ...{ name, model: file, prompts: ['a cat', 'two dogs on grass'], negative: 'a house' },
    ...{ scheduler: 'ddim', steps: 3, guidance: 4, size: [32, 32] },
  };
  const { pixels, latents } = await drawHere(context, drawing);
  const [output, pictures] = [
    join(context.folder, `${name}-state.safetensors`),
    join(context.folder, `${name}-pictures.safetensors`),
  ];
  await ask(context, { ask: 'weights', ...drawing, kind, model, file, latents, output, pictures });
  const found = readSafetensors(output).tensors;
  const expected = stored(model, kind);
  const drawn = readSafetensors(pictures).tensors.get('images')!.toArray() as Uint8Array;
  return [
    same(
      `${label}: weights that differ`,
      different(found, expected),
      0,
      'tensors',
      `${expected.size} tensors`,
    ),
    same(`${label}: pictures`, largestDifference(pixels, drawn), 2, '/255'),
    changes(`${label}: the pictures show something`, spread(drawn), 20, '/255'),
  ];
}

/** All weights of a folder or file, as diffusers names its parts. */
function stored(location: string, kind: string): StateDict {
  const files = openModel(location);
  const all: StateDict = new Map();
  for (const part of parts) {
    if (part === 'text_encoder_2' && kind !== 'xl') continue;
    for (const [name, tensor] of files.weights(part).state) all.set(`${part}.${name}`, tensor);
  }
  return all;
}

/** Tensors of which bytes or shape differ, or that one side has not. */
function different(found: StateDict, expected: StateDict): number {
  const names = new Set([...found.keys(), ...expected.keys()]);
  return [...names].filter((name) => {
    const [one, other] = [found.get(name), expected.get(name)];
    if (one === undefined || other === undefined || `${one.shape}` !== `${other.shape}`) return true;
    return scope(() => Buffer.compare(one.contiguous().bytes(), other.contiguous().bytes()) !== 0);
  }).length;
}

const spread = (pixels: Uint8Array) =>
  pixels.reduce((most, value) => Math.max(most, value), 0) -
  pixels.reduce((least, value) => Math.min(least, value), 255);
