// Model folders and adapters that diffusers and PEFT wrote load here and draw the same.
import { cpSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { readSafetensors } from '@rldf/torch';
import { largestDifference } from '../shared/differences.js';
import { ask, type Check, type Context, changes, same } from './checks.js';
import { type Drawing, drawHere, drawThere, prompts } from './drawing.js';

/** What PEFT's LoraConfig can say: patterns of ranks and alphas, convolutions, rsLoRA. */
const configs = {
  unet: {
    r: 4,
    lora_alpha: 6,
    rank_pattern: { 'attn1.to_q': 2, 'ff\\.net\\.\\d\\.proj': 3 },
    alpha_pattern: { 'attn2.to_v': 3, 'attn1\\.to_[qk]': 16, '(down|up)_blocks.*\\.conv1': 2 },
    target_modules: ['to_q', 'to_k', 'to_v', 'to_out.0', 'proj_in', 'ff.net.0.proj', 'conv1', 'conv_in'],
  },
  text_encoder: {
    r: 3,
    lora_alpha: 2,
    use_rslora: true,
    target_modules: ['q_proj', 'k_proj', 'v_proj', 'out_proj', 'fc1'],
  },
};

export async function theirFileChecks(context: Context): Promise<Check[]> {
  const { folder, model } = context;
  const models = {
    'the shipped model, saved again by diffusers': join(folder, 'saved-again'),
    'a new model in the layout of SD 1.x': join(folder, 'their-model'),
  };
  const [again, fresh] = Object.values(models) as [string, string];
  await ask(context, { ask: 'write_again', model, folder: again });
  await ask(context, { ask: 'write_model', model, folder: fresh, seed: 1 });

  const checks: Check[] = [];
  for (const [label, theirs] of Object.entries(models)) {
    const name = `theirs-${theirs === again ? 'again' : 'new'}`;
    const drawing: Drawing = { name, model: theirs, prompts, scheduler: 'ddim', steps: 6, guidance: 3 };
    const { pixels: plain, latents } = await drawHere(context, drawing);
    checks.push(same(label, largestDifference(plain, await drawThere(context, drawing, latents)), 2, '/255'));

    const adapterFolder = join(folder, `${name}-adapter`);
    const output = join(folder, `${name}-adapter-pictures.safetensors`);
    await ask(context, {
      ask: 'write_adapter', ...drawing, ...configs, latents, seed: 2, spread: theirs === again ? 0.03 : 0.2, folder: adapterFolder, output,
    }); // biome-ignore format: a question on one line
    const adapters = [{ file: join(adapterFolder, 'pytorch_lora_weights.safetensors'), strength: 1 }];
    const ours = (await drawHere(context, { ...drawing, name: `${name}-adapted`, adapters })).pixels;
    const expected = readSafetensors(output).tensors.get('images')!.toArray() as Uint8Array;
    checks.push(
      same(`${label}, with PEFT’s adapter`, largestDifference(ours, expected), 2, '/255'),
      changes(`${label}, with PEFT’s adapter: from none`, largestDifference(expected, plain), 20, '/255'),
    );
    checks.push(...(await peftFolders(context, label, drawing, latents, theirs === again ? 0.03 : 0.2)));
  }
  for (const [scheduler, options] of settings) {
    const label = [scheduler, ...Object.keys(options)].join(', ');
    const name = `theirs-${label.replaceAll(', ', '-')}`;
    const model =
      Object.keys(options).length === 0 ? fresh : withSchedulerOptions(fresh, join(folder, name), options);
    const drawing: Drawing = { name, model, prompts, scheduler, steps: 8, guidance: 3 };
    const { pixels, latents } = await drawHere(context, drawing);
    const expected = await drawThere(context, drawing, latents);
    checks.push(same(`a new model, drawn with ${label}`, largestDifference(pixels, expected), 2, '/255'));
  }
  return checks;
}

/** Schedulers that add no noise of their own, and what the model's scheduler_config.json says besides. */
const settings: readonly (readonly [scheduler: Drawing['scheduler'], options: object])[] = [
  ['pndm', {}],
  ['lms', {}],
  ['unipc', {}],
  ['unipc', { use_karras_sigmas: true, solver_order: 3 }],
  ['euler', { use_karras_sigmas: true }],
  ['euler', { use_exponential_sigmas: true }],
  ['dpm-solver++', { use_karras_sigmas: true }],
  ['ddim', { timestep_spacing: 'trailing', rescale_betas_zero_snr: true, prediction_type: 'v_prediction' }],
  ['euler', { timestep_spacing: 'trailing', rescale_betas_zero_snr: true, prediction_type: 'v_prediction' }],
];

/** A copy of a model with more options in its scheduler_config.json. */
function withSchedulerOptions(model: string, copy: string, options: object): string {
  cpSync(model, copy, { recursive: true });
  const file = join(copy, 'scheduler', 'scheduler_config.json');
  const config = JSON.parse(readFileSync(file, 'utf8')) as object;
  writeFileSync(file, JSON.stringify({ ...config, ...options }));
  return copy;
}

/** PEFT's own folders, one a network. */
async function peftFolders(
  context: Context,
  label: string,
  drawing: Drawing,
  latents: string,
  spread: number,
): Promise<Check[]> {
  const folder = join(context.folder, `${drawing.name}-peft`);
  const output = `${folder}-pictures.safetensors`;
  await ask(context, { ask: 'write_peft', ...drawing, ...configs, latents, seed: 3, spread, folder, output });
  const adapters = ['unet', 'text_encoder'].map((name) => ({ file: join(folder, name), strength: 1 }));
  const ours = (await drawHere(context, { ...drawing, name: `${drawing.name}-peft-adapted`, adapters }))
    .pixels;
  const expected = readSafetensors(output).tensors.get('images')!.toArray() as Uint8Array;
  return [same(`${label}, with PEFT’s folders`, largestDifference(ours, expected), 2, '/255')];
}
