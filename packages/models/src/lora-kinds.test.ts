import { mkdirSync, mkdtempSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import {
  Linear,
  liveTensors,
  Parameters,
  scope,
  type Tensor,
  tensor,
  UserError,
  writeSafetensors,
} from '@rldf/torch';
import { expect, test } from 'vitest';
import { loadLora } from './lora-files.js';
import { readAdapter, readLora } from './lora-read.js';

type Matrix = number[] | number[][];
const folder = mkdtempSync(join(tmpdir(), 'lora-kinds-'));

/** One layer, `conv_in`, with weight [[1, 2], [3, 4]]. */
function oneLayer() {
  const unet = Parameters.from(new Map([['conv_in.weight', tensor([[1, 2], [3, 4]])]])); // biome-ignore format: a matrix
  const layer = new Linear(unet.at('conv_in'), 2, 2, { bias: false });
  return { networks: { unet, textEncoder: Parameters.from(new Map()) }, layer };
}

/** A file of that layer's tensors, by the ends of their names. */
function written(entries: { [end: string]: Matrix | number }, prefix = 'lora_unet_conv_in'): string {
  const file = join(folder, `${Object.keys(entries).join('-').replaceAll('/', '')}.safetensors`);
  scope(() => {
    const tensors = Object.entries(entries).map(
      ([end, value]) => [`${prefix}.${end}`, tensor(value)] as const,
    );
    writeSafetensors(file, new Map<string, Tensor>(tensors));
  });
  return file;
}

/** The layer's weight less what it was. */
const updateBy = (file: string, strength = 1) => {
  const { networks, layer } = oneLayer();
  const adapter = loadLora(file, networks, strength).unet!;
  const update = layer.weight.toNumbers().map((value, i) => value - [1, 2, 3, 4][i]!);
  adapter.remove();
  expect(layer.weight.toNumbers()).toEqual([1, 2, 3, 4]);
  return update.map((value) => Number(value.toFixed(5)));
};

// (1, 2)ᵀ (1, 1) times, element by element, (1, 1)ᵀ (3, 5): [[3, 5], [6, 10]]
const loha = { hada_w1_a: [[1], [2]], hada_w1_b: [[1, 1]], hada_w2_a: [[1], [1]], hada_w2_b: [[3, 5]] };

test('LoHa is the product of two products, times alpha over rank and the strength', () => {
  expect(updateBy(written(loha))).toEqual([3, 5, 6, 10]);
  expect(updateBy(written({ ...loha, alpha: 0.5 }))).toEqual([1.5, 2.5, 3, 5]);
  expect(updateBy(written({ ...loha, alpha: 0.5 }), 2)).toEqual([3, 5, 6, 10]);
  expect(updateBy(written(loha), 0)).toEqual([0, 0, 0, 0]);
});

test('LoKr is the Kronecker product; beside whole matrices alpha says nothing', () => {
  expect(updateBy(written({ lokr_w1: [[2]], lokr_w2: [[1, 2], [3, 4]], alpha: 8 }))).toEqual([2, 4, 6, 8]); // biome-ignore format: matrices
  expect(updateBy(written({ lokr_w1: [[1, 10]], lokr_w2: [[3], [4]] }))).toEqual([3, 30, 4, 40]);
  // (1, 3)ᵀ (1) of rank 1, alpha 2
  expect(updateBy(written({ lokr_w1: [[1, 10]], lokr_w2_a: [[1], [3]], lokr_w2_b: [[1]], alpha: 2 }))).toEqual([2, 20, 6, 60]); // biome-ignore format: one line
});

test('DoRA gives the rows, or columns, the lengths it learned', () => {
  const pair = { 'lora_down.weight': [[2, 2]], 'lora_up.weight': [[1], [0]] }; // the weight becomes [[3, 4], [3, 4]]
  expect(updateBy(written({ ...pair, dora_scale: [[10], [5]] }))).toEqual([6 - 1, 8 - 2, 0, 0]);
  for (const name of ['', '.weight', '.default.weight']) {
    const peft = {
      'lora_A.weight': [[2, 2]],
      'lora_B.weight': [[1], [0]],
      [`lora_magnitude_vector${name}`]: [10, 5],
    };
    expect(updateBy(written(peft, 'base_model.model.conv_in'))).toEqual([5, 6, 0, 0]);
  }
  // columns of lengths sqrt(18) and sqrt(32)
  const columns = updateBy(written({ ...pair, dora_scale: [[Math.sqrt(18), 2 * Math.sqrt(32)]] }));
  expect(columns).toEqual([2, 6, 0, 4]);
  // strength is a share of the way, so that 0 is the model without the adapter
  expect(updateBy(written({ ...pair, dora_scale: [[10], [5]] }), 0.5)).toEqual([2.5, 3, 0, 0]);
  expect(updateBy(written({ ...pair, dora_scale: [[10], [5]] }), 0)).toEqual([0, 0, 0, 0]);
});

test('a LoCon in Tucker decomposition is a LoRA', () => {
  const file = join(folder, 'tucker.safetensors');
  const name = 'lora_unet_down_blocks_0_resnets_0_conv1';
  scope(() => {
    const of = (values: number[], ...shape: number[]) => tensor(values, { shape });
    const entries: [string, Tensor][] = [
      [`${name}.lora_down.weight`, of([1, 2, 3, 4], 2, 2, 1, 1)],
      [`${name}.lora_mid.weight`, of([1, 0, 0, 10], 1, 2, 1, 2)],
      [`${name}.lora_up.weight`, of([5, 6], 2, 1, 1, 1)],
    ];
    writeSafetensors(file, new Map(entries));
    const [layer] = readLora(file);
    // at the first place of the kernel row 1 of down, at the second ten times row 2
    expect([layer!.down.shape, layer!.down.toNumbers()]).toEqual([[1, 2, 1, 2], [1, 30, 2, 40]]); // biome-ignore format: one line
  });
});

test('several adapters add up on what the model was, in any order', () => {
  const { networks, layer } = oneLayer();
  const pair = { 'lora_down.weight': [[2, 2]], 'lora_up.weight': [[1], [0]] };
  const [first, second] = [written(loha), written({ ...pair, dora_scale: [[10], [5]] })].map(
    (file) => loadLora(file, networks).unet!,
  );
  expect(layer.weight.toNumbers().map(Math.round)).toEqual([1 + 3 + 5, 2 + 5 + 6, 3 + 6, 4 + 10]);
  first!.remove();
  expect(layer.weight.toNumbers().map(Math.round)).toEqual([6, 8, 3, 4]);
  expect(second!.disabled(() => layer.weight.toNumbers())).toEqual([1, 2, 3, 4]);
  expect(second!.layers).toEqual([layer]);
  expect(second!.parameters()).toEqual([]);
  second!.remove();
});

test('nothing is left behind, read, loaded or refused', () => {
  const { networks } = oneLayer();
  const file = written(loha);
  const before = liveTensors();
  scope(() => void readAdapter(file));
  loadLora(file, networks).unet!.remove();
  expect(() => loadLora(written({ ...loha, hada_w1_a: [[1], [2], [3]] }), networks)).toThrow(UserError);
  expect(liveTensors()).toBe(before);
});

const pair = { 'lora_down.weight': [[2, 2]], 'lora_up.weight': [[1], [0]] };
test.each([
  [{ ...loha, hada_w1_a: [[1], [2], [3]] }, 'its two products have shapes [3,2] and [2,2]'],
  [
    {
      ...loha,
      hada_w2_a: [
        [1, 2],
        [1, 2],
      ],
    },
    'hada_w2_a [2,2] and hada_w2_b [1,2] do not fit each other',
  ],
  [{ ...loha, hada_t1: [[1]] }, 'hada_t2 is missing'],
  [{ ...loha, hada_w1_b: [1, 1] }, 'hada_w1_b has shape [2], which is no matrix'],
  [{ hada_w1_a: [[1]] }, 'hada_w1_b is missing'],
  [{ lokr_w1: [[1]], lokr_w2_a: [[1]] }, 'lokr_w2_b is missing'],
  [{ lokr_w1: [[1]], lokr_w2: [[1, 2, 3]] }, 'its update has shape [1, 3], the layer [2,2]'],
  [{ dora_scale: [[1], [1]] }, 'down is missing'],
  [{ ...pair, dora_scale: [[1], [1], [1]] }, 'its lengths (DoRA) have shape [3,1], the layer [2,2]'],
  [{ ...loha, alpha: Number.NaN }, 'rank 1 with alpha NaN is no adapter'],
] as { [end: string]: Matrix | number }[][] | [{ [end: string]: Matrix | number }, string][])(
  '%j is refused: %s',
  (entries, message) => {
    const load = () => loadLora(written(entries as { [end: string]: Matrix }), oneLayer().networks);
    expect(load).toThrow(UserError);
    expect(load).toThrow(message as string);
  },
);

test('other kinds are not rewritten as pairs of matrices', () => {
  expect(() => readLora(written(loha))).toThrow(
    /layer conv_in — is of a LoHa, which is no pair of matrices: .* Merge it \(rldf export --merge\), or use a LoRA/,
  );
});

test('PEFT’s config gives LoKr and LoHa their scale', () => {
  const place = join(folder, 'peft');
  mkdirSync(place);
  const move = (entries: { [end: string]: Matrix }, config: object) => {
    scope(() => {
      const named = Object.entries(entries).map(
        ([end, value]) => [`base_model.model.conv_in.${end}`, tensor(value)] as const,
      );
      writeSafetensors(join(place, 'adapter_model.safetensors'), new Map<string, Tensor>(named));
    });
    writeFileSync(join(place, 'adapter_config.json'), JSON.stringify(config));
    return place;
  };
  const whole = { lokr_w1: [[1]], lokr_w2: [[1, 2], [3, 4]] }; // biome-ignore format: matrices
  expect(updateBy(move(whole, { peft_type: 'LOKR', r: 4, alpha: 8 }))).toEqual([2, 4, 6, 8]);
  expect(
    updateBy(move(whole, { peft_type: 'LOKR', r: 4, alpha: 8, alpha_pattern: { 'conv_.*': 2 } })),
  ).toEqual([0.5, 1, 1.5, 2]);
  expect(updateBy(move(loha, { peft_type: 'LOHA', r: 1, alpha: 2 }))).toEqual([6, 10, 12, 20]);
  expect(() => updateBy(move(loha, { peft_type: 'LOHA', r: 2 }))).toThrow(
    /the rank of conv_in is 2 — its matrices have rank 1/,
  );
});
