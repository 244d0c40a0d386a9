import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { grad, tensor } from '@rldf/torch';
import { type LoraPart, loadLora, saveLora } from '../src/lora-files.js';
import { kohyaTensors } from '../src/lora-kohya.js';
import { placeOf } from '../src/lora-names.js';
import type { Pipeline } from '../src/pipeline.js';
import { loadPipeline } from '../src/pipeline-files.js';
import { type Difference, Golden, goldenFolder, type Numbers, numbers, relativeError } from './golden.js';

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

/** Files of LyCORIS and PEFT's folders of adapters that are no pair of matrices, by name. */
export function kindNames(): string[] {
  const golden = new Golden('lora-kinds-outputs');
  return [...new Set([...golden.group('outputs.').keys()].map((name) => name.split('.')[0]!))];
}

/** Such an adapter, at strength 1 and taken off again. */
export function kindDifferences(name: string): Difference[] {
  const { golden, pipeline } = load();
  const expected = new Golden('lora-kinds-outputs');
  const file = join(goldenFolder, 'lora-kinds', name.startsWith('peft') ? name : `${name}.safetensors`);
  const pair = loadLora(file, pipeline.parameters);
  const compared = (note: string, of: (part: string) => Numbers) => {
    const sample = pipeline.unet.forward(golden.input('latents'), golden.input('timesteps'), {
      hiddenStates: golden.input('hidden_states'),
    });
    const { lastHiddenState } = pipeline.textEncoder.forward(golden.input('input_ids'));
    return [
      { name: `unet ${note}`, error: relativeError(numbers(sample), of('unet')) },
      { name: `text encoder ${note}`, error: relativeError(numbers(lastHiddenState), of('text')) },
    ];
  };
  const adapted = (part: string) =>
    part === 'text' && name.startsWith('peft')
      ? numbers(golden.tensor('outputs.text_base'))
      : numbers(expected.tensor(`outputs.${name}.${part}`));
  const found = compared('at strength 1', adapted);
  const base = (part: string) => numbers(golden.tensor(`outputs.${part}_base`));
  const updated = Object.values(pair).flatMap(({ updates }) => updates.map(({ layer }) => layer.weight));
  const weightsAt = (strength: number) => {
    for (const adapter of Object.values(pair)) adapter.strength = strength;
    return updated.map((weight) => weight.clone());
  };
  const [whole, half] = [weightsAt(1), weightsAt(0.5)];
  const none = weightsAt(0);
  found.push(...compared('at strength 0', base));
  const halves = half.map((weight, i) => {
    const middle = whole[i]!.add(none[i]!).div(2);
    return {
      name: `weight ${i + 1} at strength 0.5`,
      error: relativeError(numbers(weight), numbers(middle)),
    };
  });
  found.push(...halves);
  for (const adapter of Object.values(pair)) adapter.strength = 1;
  found.push(...compared('at strength 1 again', adapted));
  for (const adapter of Object.values(pair)) adapter.remove();
  found.push(...compared('taken off', base));
  return found;
}

/** How many names of U-Net layers are not those of diffusers' converters of LDM's and SGM's, read and written in kohya's layout. */
export function nameDifferences(): Difference[] {
  const { ldm, xl } = new Golden('lora-names').json as unknown as {
    ldm: { [layersPerBlock: string]: { [name: string]: string } };
    xl: { [name: string]: string };
  };
  const flat = (name: string) => `lora_unet_${name.replaceAll('.', '_')}.lora_down.weight`;
  const misread = (names: { [name: string]: string }, layersPerBlock: number) =>
    Object.entries(names).filter(([name, path]) => placeOf('', flat(name), layersPerBlock).path !== path)
      .length;
  const matrix = tensor([[1]]);
  const layer = (part: LoraPart, path: string) => ({ part, path, down: matrix, up: matrix, alpha: 1 });
  const layers = [
    ...Object.values(xl).map((path) => layer('unet', path)),
    layer('textEncoder', 'text_model.encoder.layers.0.mlp.fc1'),
    layer('textEncoder2', 'text_projection'),
  ];
  const expected = [
    ...Object.keys(xl).map(flat),
    'lora_te1_text_model_encoder_layers_0_mlp_fc1.lora_down.weight',
    'lora_te2_text_projection.lora_down.weight',
  ];
  const written = kohyaTensors(layers);
  return [
    ...Object.entries(ldm).map(([count, names]) => ({
      name: `LDM's with ${count} blocks a level`,
      error: misread(names, Number(count)),
    })),
    { name: 'SGM’s', error: misread(xl, 2) },
    { name: 'SGM’s, written', error: expected.filter((name) => !written.has(name)).length },
  ];
}
