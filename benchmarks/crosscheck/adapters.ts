// Adapters trained here change diffusers' pictures as they change ours: each alone, both, at two strengths, as
// diffusers' and as kohya's file.
import { copyFileSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fromKohyaName, fromLdmPath } from '@rldf/models';
import { InternalError, readSafetensors, type StateDict, writeSafetensors } from '@rldf/torch';
import { train } from 'rldf';
import { largestDifference } from '../shared/differences.js';
import { type Check, type Context, changes, rldf, same } from './checks.js';
import { type Drawing, drawHere, drawThere, prompts } from './drawing.js';
import { redness } from './redness.js';

/** All linear layers of the U-Net, so that every kind of name is in the file. */
const targets = [
  ...['to_q', 'to_k', 'to_v', 'to_out.0', 'proj_in', 'proj_out', 'ff.net.0.proj', 'ff.net.2'],
  ...['time_emb_proj', 'linear_1', 'linear_2'],
];
const networks = {
  unet: { unet: 'lora', textEncoder: 'none', rank: 8, alpha: 4, targets },
  text: { unet: 'none', textEncoder: 'lora', rank: 4, alpha: 8 },
} as const;
type Network = keyof typeof networks;

/** Where the runs of this group lie; TensorBoard's check reads one of them. */
export const runsFolder = (context: Context) => join(context.folder, 'runs');

/** Two epochs of DDPO. The adapter file. */
async function trainAdapter(context: Context, network: Network): Promise<string> {
  const recipe = {
    method: 'ddpo',
    model: context.model,
    prompts: ['a cat', 'a dog', 'a fox', 'a bear'],
    reward: 'redness',
    epochs: 2,
    sample: { steps: 5, guidanceScale: 3, promptsPerEpoch: 4, picturesPerPrompt: 4, batchSize: 16 },
    train: { ...networks[network], learningRate: 2e-2, updatesPerEpoch: 2, batchSize: 8, clipNats: 10 },
    evaluate: { every: 2 },
    checkpoint: { every: 2 },
  };
  for await (const event of train(recipe, { name: network, root: runsFolder(context), reward: redness() })) {
    if (event.kind === 'finished') return event.adapters[0]!;
  }
  throw new InternalError('crosscheck: the training did not finish');
}

export async function adapterChecks(context: Context): Promise<Check[]> {
  context.say('training a U-Net adapter and a text-encoder adapter');
  const files: Record<Network, string> = {
    unet: await trainAdapter(context, 'unet'),
    text: await trainAdapter(context, 'text'),
  };
  const theirFiles = { ...files };
  if (context.planted.has('layer')) theirFiles.unet = withoutOneLayer(context, files.unet);

  const base: Drawing = {
    name: 'adapter-none',
    model: context.model,
    prompts,
    scheduler: 'ddim',
    steps: 8,
    guidance: 3,
  };
  const { pixels: plain, latents } = await drawHere(context, base);
  const checks = [
    same('no adapter', largestDifference(plain, await drawThere(context, base, latents)), 2, '/255'),
  ];
  const sets: { label: string; parts: Network[] }[] = [
    { label: 'U-Net adapter', parts: ['unet'] },
    { label: 'text-encoder adapter', parts: ['text'] },
    { label: 'both adapters', parts: ['unet', 'text'] },
  ];
  const compare = async (label: string, strength: number, here: string[], there: string[]) => {
    const name = `adapter-${label.replaceAll(/\W+/g, '-')}-${strength}`;
    const of = (list: string[]) =>
      list.map((file) => ({ file, strength, ...(file.includes('ldm') ? { ldm: true } : {}) }));
    const drawing = { ...base, name, adapters: of(here) };
    const ours = (await drawHere(context, drawing)).pixels;
    const theirs = await drawThere(context, drawing, latents, { adapters: of(there) });
    checks.push(
      same(`${label} at ${strength}`, largestDifference(ours, theirs), 2, '/255'),
      changes(`${label} at ${strength}: from no adapter`, largestDifference(theirs, plain), 20, '/255'),
    );
  };
  for (const { label, parts } of sets) {
    for (const strength of [0.5, 1]) {
      await compare(label, strength, parts.map((part) => files[part]), parts.map((part) => theirFiles[part])); // biome-ignore format: beside each other
    }
  }

  const kohya = join(context.folder, 'kohya.safetensors');
  const printed = await rldf(
    'export',
    files.unet,
    files.text,
    '--format',
    'kohya',
    '--output',
    kohya,
    '--json',
  );
  const { layers } = JSON.parse(printed) as { layers: { unet: number; textEncoder: number } };
  context.say(`exported ${layers.unet} + ${layers.textEncoder} layers in kohya's layout`);
  const theirKohya = context.planted.has('alpha') ? withDoubledAlphas(context, kohya) : kohya;
  for (const strength of [0.5, 1]) {
    await compare('kohya file there, ours here', strength, [files.unet, files.text], [theirKohya]);
  }
  await compare('kohya file on both sides', 1, [kohya], [theirKohya]);

  const { file: ldm, fits } = inLdmNames(context, kohya);
  context.say(`named ${fits} layers as LDM does`);
  await compare('LDM’s names on both sides', 1, [ldm], [ldm]);

  const joined = join(context.folder, 'joined.safetensors');
  await rldf('export', kohya, '--format', 'diffusers', '--output', joined);
  await compare('kohya file exported back', 1, [files.unet, files.text], [joined]);
  return checks;
}

/** The U-Net's layers of a kohya file under LDM's names of blocks, as other trainers write them. */
function inLdmNames(context: Context, file: string): { file: string; fits: number } {
  const { layers_per_block: layersPerBlock } = JSON.parse(
    readFileSync(join(context.model, 'unet', 'config.json'), 'utf8'),
  ) as { layers_per_block: number };
  const blocks = Array.from({ length: 16 }, (_, i) => i);
  const places = ['input', 'output'].flatMap((side) =>
    blocks.flatMap((block) => [0, 1].map((inner) => `${side}_blocks.${block}.${inner}`)),
  );
  places.push('middle_block.0', 'middle_block.1', 'middle_block.2');
  const { tensors, metadata } = readSafetensors(file);
  const renamed: StateDict = new Map();
  let fits = 0;
  for (const [name, tensor] of tensors) {
    const [, module, ending] = /^lora_unet_([^.]+)(\..*)$/.exec(name) ?? [];
    const layer = module && /^.*(?:attentions|resnets)_\d+_(.*)$/.exec(module)?.[1];
    const inner = layer === 'time_emb_proj' ? 'emb_layers_1' : layer;
    const place = places.find((place) => {
      const path = inner && fromKohyaName(`lora_unet_${place.replaceAll('.', '_')}_${inner}`)!.path;
      return path && fromLdmPath(path, layersPerBlock)?.replaceAll('.', '_') === module;
    });
    if (place === undefined) continue; // of the text encoder, or outside of the blocks
    fits++;
    renamed.set(`lora_unet_${place.replaceAll('.', '_')}_${inner}${ending}`, tensor);
  }
  const ldm = join(context.folder, 'ldm.safetensors');
  writeSafetensors(ldm, renamed, metadata);
  return { file: ldm, fits: fits / 3 };
}

function withDoubledAlphas(context: Context, file: string): string {
  const planted = join(context.folder, 'planted-alpha.safetensors');
  const { tensors, metadata } = readSafetensors(file);
  for (const [name, value] of tensors) if (name.endsWith('.alpha')) tensors.set(name, value.mul(2));
  writeSafetensors(planted, tensors, metadata);
  return planted;
}

function withoutOneLayer(context: Context, file: string): string {
  const planted = join(context.folder, 'planted-layer.safetensors');
  copyFileSync(file, planted);
  const { tensors, metadata } = readSafetensors(file);
  const layer = [...tensors.keys()].find((name) => name.includes('ff.net.2'))!.replace(/\.lora_[AB].*/, '');
  for (const half of ['A', 'B']) tensors.delete(`${layer}.lora_${half}.weight`);
  writeSafetensors(planted, tensors, metadata);
  return planted;
}
