// XL: a model of diffusers' here, and written by us there; adapters of its three networks, diffusers' here, and ours in both layouts there.
import { join } from 'node:path';
import { InternalError, readSafetensors } from '@rldf/torch';
import { train } from 'rldf';
import { largestDifference } from '../shared/differences.js';
import { ask, type Check, type Context, changes, rldf, same } from './checks.js';
import { type Drawing, drawHere, drawThere, prompts } from './drawing.js';
import { redness } from './redness.js';

/** Of each network another rank; and patterns, which the U-Net's layers are scaled by. */
const configs = {
  unet: {
    r: 4,
    lora_alpha: 6,
    rank_pattern: { 'attn1.to_q': 2 },
    alpha_pattern: { 'transformer_blocks\\.1\\..*': 3 },
    target_modules: [
      'to_q',
      'to_k',
      'to_v',
      'to_out.0',
      'proj_in',
      'ff.net.0.proj',
      'conv1',
      'linear_1',
      'conv_in',
    ],
  },
  // with out_proj: without it diffusers 0.42 leaves q_proj, k_proj and v_proj out of a file in kohya's layout, without a word
  text_encoder: { r: 3, lora_alpha: 2, target_modules: ['q_proj', 'v_proj', 'out_proj', 'fc1'] },
  text_encoder_2: { r: 2, lora_alpha: 5, target_modules: ['k_proj', 'out_proj', 'fc2'] },
};

export async function xlAdapterChecks(context: Context): Promise<Check[]> {
  const model = join(context.folder, 'xl-model');
  await ask(context, { ask: 'write_xl_model', model: context.model, folder: model, seed: 4 });
  const drawing: Drawing = { name: 'xl', model, prompts, scheduler: 'euler', steps: 6, guidance: 3 };
  const { pixels: plain, latents } = await drawHere(context, drawing);
  const checks = [
    same('XL: no adapter', largestDifference(plain, await drawThere(context, drawing, latents)), 2, '/255'),
    ...(await modelChecks(context, drawing, plain)),
  ];

  const folder = join(context.folder, 'xl-adapter');
  const output = `${folder}-pictures.safetensors`;
  await ask(context, {
    ask: 'write_adapter',
    ...drawing,
    ...configs,
    latents,
    seed: 5,
    spread: 0.2,
    folder,
    output,
  });
  const theirs = join(folder, 'pytorch_lora_weights.safetensors');
  const expected = readSafetensors(output).tensors.get('images')!.toArray() as Uint8Array;
  checks.push(changes('XL, PEFT’s adapter: from none', largestDifference(expected, plain), 20, '/255'));
  const trained = await trainXlAdapter(context, model);
  for (const [label, file] of [
    ['PEFT’s adapter', theirs],
    ['an adapter trained here', trained],
  ] as const) {
    const name = `xl-${label.replaceAll(/\W+/g, '-')}`;
    const layouts = { diffusers: `${name}-diffusers`, kohya: `${name}-kohya` };
    for (const [format, written] of Object.entries(layouts)) {
      const output = join(context.folder, `${written}.safetensors`);
      await rldf('export', file, '--format', format, '--output', output);
    }
    const again = join(context.folder, `${name}-again.safetensors`);
    await rldf(
      'export',
      join(context.folder, `${layouts.kohya}.safetensors`),
      '--format',
      'diffusers',
      '--output',
      again,
    );
    const files = {
      'as it is': file,
      'in diffusers’ layout': join(context.folder, `${layouts.diffusers}.safetensors`),
      'in kohya’s layout': join(context.folder, `${layouts.kohya}.safetensors`),
      'and exported back': again,
    };
    for (const [layout, path] of Object.entries(files)) {
      const adapters = [{ file: path, strength: 1 }];
      const own = { ...drawing, name: `${name}-${layout.replaceAll(/\W+/g, '-')}`, adapters };
      const ours = (await drawHere(context, own)).pixels;
      const there = await drawThere(context, own, latents);
      checks.push(same(`XL, ${label} ${layout}`, largestDifference(ours, there), 2, '/255'));
      if (file === theirs)
        checks.push(
          same(`XL, ${label} ${layout}: as PEFT drew`, largestDifference(ours, expected), 2, '/255'),
        );
      else
        checks.push(changes(`XL, ${label} ${layout}: from none`, largestDifference(ours, plain), 5, '/255'));
    }
  }
  return checks;
}

/** What XL is told besides the prompts; and the folder written by us, drawn there. */
async function modelChecks(context: Context, drawing: Drawing, plain: Uint8Array): Promise<Check[]> {
  const again = join(context.folder, 'xl-again');
  await rldf('export', '--merge', '--model', drawing.model, '--format', 'diffusers', '--output', again);
  const checks: Check[] = [];
  for (const [label, changed] of [
    ['the empty negative prompt, which is not none', { negative: '' }],
    ['a negative prompt', { negative: 'a red bicycle' }],
    ['not square', { size: [16, 24] as const }],
    ['our folder', {}],
  ] as const) {
    const own = { ...drawing, ...changed, name: `xl-${label.replaceAll(/\W+/g, '-')}` };
    const { pixels, latents } = await drawHere(context, own);
    const there = await drawThere(context, own, latents, label === 'our folder' ? { model: again } : {});
    checks.push(same(`XL: ${label}`, largestDifference(pixels, there), 2, '/255'));
    if ('negative' in changed)
      checks.push(changes(`XL: ${label}: from none`, largestDifference(pixels, plain), 2, '/255'));
  }
  return checks;
}

/** Two epochs of DDPO on all three networks. */
async function trainXlAdapter(context: Context, model: string): Promise<string> {
  const recipe = {
    method: 'ddpo',
    model,
    prompts: prompts.slice(0, 2),
    reward: 'redness',
    epochs: 2,
    sample: {
      steps: 3,
      guidanceScale: 3,
      promptsPerEpoch: 2,
      picturesPerPrompt: 4,
      batchSize: 8,
      scheduler: 'euler-ancestral',
    },
    train: {
      ...{ unet: 'lora', textEncoder: 'lora', textEncoder2: 'lora', rank: 4, learningRate: 0.03 },
      ...{ updatesPerEpoch: 2, batchSize: 8, clipNats: 50 },
    },
    evaluate: { every: 2 },
    checkpoint: { every: 1 },
    report: { maxPrompts: 1 },
  };
  for await (const event of train(recipe, {
    name: 'xl',
    root: join(context.folder, 'xl-runs'),
    reward: redness(),
  })) {
    if (event.kind === 'finished') return event.adapters[0]!;
  }
  throw new InternalError('crosscheck: the training on XL did not finish');
}
