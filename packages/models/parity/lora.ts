import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { grad } from '@rldf/torch';
import { loadLora, saveLora } from '../src/lora-files.js';
import type { Pipeline } from '../src/pipeline.js';
import { loadPipeline } from '../src/pipeline-files.js';
import { type Difference, Golden, goldenFolder, numbers, relativeError } from './golden.js';

const GOLDEN = 'lora';

function load(): { golden: Golden; pipeline: Pipeline } {
  const golden = new Golden(GOLDEN);
  return { golden, pipeline: loadPipeline(join(goldenFolder, golden.json.folder as string)) };
}

/** Difference of both networks' outputs from those of a golden (`answers`), of the given adapter strength. */
function outputs(
  golden: Golden,
  { unet, textEncoder }: Pipeline,
  suffix: string,
  note: string,
  answers = golden,
): Difference[] {
  const sample = unet.forward(golden.input('latents'), golden.input('timesteps'), {
    hiddenStates: golden.input('hidden_states'),
  });
  const { lastHiddenState } = textEncoder.forward(golden.input('input_ids'));
  const expected = (part: string) => numbers(answers.tensor(`outputs.${part}_${suffix}`));
  return [
    { name: `unet ${note}`, error: relativeError(numbers(sample), expected('unet')) },
    { name: `text encoder ${note}`, error: relativeError(numbers(lastHiddenState), expected('text')) },
  ];
}

/** An adapter file as diffusers writes it, on the networks it was made for: every strength, merged, saved again. */
export function loraDifferences(): Difference[] {
  const { golden, pipeline } = load();
  const found = outputs(golden, pipeline, 'base', 'without adapter');
  const pair = loadLora(join(goldenFolder, 'lora-diffusers'), pipeline.parameters);
  const adapters = [pair.unet!, pair.textEncoder!];
  for (const strength of ['0.0', '0.5', '1.0']) {
    for (const adapter of adapters) adapter.strength = Number(strength);
    found.push(...outputs(golden, pipeline, strength, `at strength ${strength}`));
  }
  found.push(...gradientDifferences(golden, pipeline, pair.unet!));

  for (const adapter of adapters) {
    adapter.strength = 0.5;
    adapter.merge();
  }
  const fused = numbers(golden.tensor('outputs.unet_fused_0.5'));
  const sample = pipeline.unet.forward(golden.input('latents'), golden.input('timesteps'), {
    hiddenStates: golden.input('hidden_states'),
  });
  found.push({ name: 'unet fused at 0.5', error: relativeError(numbers(sample), fused) });
  found.push(...outputs(golden, pipeline, '0.5', 'merged at 0.5'));
  for (const adapter of adapters) adapter.unmerge();
  found.push(...outputs(golden, pipeline, '0.5', 'unmerged'));

  const folder = mkdtempSync(join(tmpdir(), 'rldf-lora-'));
  try {
    saveLora(folder, pair);
    for (const adapter of adapters) adapter.remove();
    loadLora(folder, pipeline.parameters);
    found.push(...outputs(golden, pipeline, '1.0', 'saved and loaded'));
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
  return found;
}

function gradientDifferences(
  golden: Golden,
  { unet }: Pipeline,
  adapter: NonNullable<ReturnType<typeof loadLora>['unet']>,
): Difference[] {
  adapter.trainable();
  const sample = unet.forward(golden.input('latents'), golden.input('timesteps'), {
    hiddenStates: golden.input('hidden_states'),
  });
  const expected = [...golden.group('gradients.')];
  const targets = expected.map(([name]) => adapter.state().get(name)!);
  const found = grad(sample, targets, { gradOutputs: [golden.input('cotangent')] });
  adapter.trainable(false);
  return expected.map(([name, gradient], i) => ({
    name: `gradients.${name}`,
    error: relativeError(numbers(found[i]!), numbers(gradient)),
  }));
}

/** The same adapter in the layout of kohya's trainers. */
export function kohyaDifferences(): Difference[] {
  const { golden, pipeline } = load();
  loadLora(join(goldenFolder, 'lora-kohya.safetensors'), pipeline.parameters);
  return outputs(golden, pipeline, '1.0', 'at strength 1');
}

/** Folders as PEFT saves them, with patterns of ranks and alphas and rsLoRA. */
export function peftDifferences(): Difference[] {
  const { golden, pipeline } = load();
  const expected = new Golden('lora-peft-outputs');
  for (const part of ['unet', 'text_encoder']) {
    loadLora(join(goldenFolder, 'lora-peft', part), pipeline.parameters);
  }
  return outputs(golden, pipeline, '1.0', 'of PEFT’s folder', expected);
}
