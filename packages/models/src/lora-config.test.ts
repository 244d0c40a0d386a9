import { mkdtempSync, readFileSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { scope, tensor, UserError, writeSafetensors } from '@rldf/torch';
import { expect, test } from 'vitest';
import { fits } from './lora-config.js';
import { readLora } from './lora-read.js';

/** Whether a pattern fits a layer's name, by PEFT's `get_pattern_key`. */
const { patterns } = JSON.parse(
  readFileSync(new URL('../goldens/lora-names.json', import.meta.url), 'utf8'),
) as { patterns: [pattern: string, path: string, fits: boolean][] };

test('patterns fit the layers that they fit in PEFT', () => {
  const wrong = patterns.filter(([pattern, path, expected]) => fits('f', 'k', pattern, [path]) !== expected);
  expect(wrong).toEqual([]);
  expect(patterns.filter(([, , expected]) => expected).length).toBeGreaterThan(20);
});

test('patterns that cannot be read, or take for ever, are refused', () => {
  const name = `${'a.'.repeat(40)}to_q`;
  expect(() => fits('f: m', 'alpha_pattern', 'to_(q', [name])).toThrow(
    /^f: m: alpha_pattern has the pattern "to_\(q" — .*must be a regular expression/,
  );
  expect(() => fits('f', 'alpha_pattern', '(([a-z]|[^x])+)+z', [name])).toThrow(/takes too long to match/);
});

const layers = [
  'down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q',
  'mid_block.attentions.0.proj_in',
];

/** Alphas of two layers of rank 2 by a config, in an adapter file's header or beside it as PEFT saves it. */
function alphas(config: object, beside: boolean): number[] {
  const folder = mkdtempSync(join(tmpdir(), 'lora-config-'));
  const prefix = beside ? 'base_model.model' : 'unet';
  const file = join(folder, beside ? 'adapter_model.safetensors' : 'pytorch_lora_weights.safetensors');
  return scope(() => {
    const matrices = layers.flatMap((path) => [
      [`${prefix}.${path}.lora_A.weight`, tensor([[1], [1]])] as const,
      [`${prefix}.${path}.lora_B.weight`, tensor([[1, 1]])] as const,
    ]);
    const named = Object.fromEntries(Object.entries(config).map(([key, value]) => [`unet.${key}`, value]));
    writeSafetensors(file, new Map(matrices), beside ? {} : { lora_adapter_metadata: JSON.stringify(named) });
    if (beside) writeFileSync(join(folder, 'adapter_config.json'), JSON.stringify(config));
    return readLora(folder).map(({ alpha }) => alpha);
  });
}

test.each([false, true])('alphas by default, pattern and rank; beside the file: %s', (beside) => {
  const of = (config: object) => alphas(config, beside);
  expect(of({})).toEqual([2, 2]); // the rank
  expect(of({ r: 2, lora_alpha: 6, alpha_pattern: { 'attn1\\.to_[qk]': 16 } })).toEqual([16, 6]);
  expect(of({ lora_alpha: 6, alpha_pattern: { '.*': 1, to_q: 16 } })).toEqual([1, 1]); // the first that fits
  expect(of({ lora_alpha: 6, use_rslora: true })).toEqual([6 * Math.SQRT2, 6 * Math.SQRT2]);
  expect(of({ r: 8, lora_alpha: 6, rank_pattern: { to_q: 2, 'proj_[a-z]+': 2 } })).toEqual([6, 6]);
});

test.each([
  [
    { r: 8 },
    'the rank of down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q is 8 — its matrices have rank 2',
  ],
  [{ r: 2, rank_pattern: { 'proj_.*': 4 } }, 'the rank of mid_block.attentions.0.proj_in is 4'],
  [{ lora_alpha: 'much' }, 'attn1.to_q is "much" — must be a number'],
  [{ alpha_pattern: [1] }, 'alpha_pattern is [1] — must be an object'],
  [
    { use_dora: true },
    'use_dora is true, but layer down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q has no lora_magnitude_vector',
  ],
  [{ use_qalora: true }, 'use_qalora is true — QALoRA is another kind of adapter'],
  [
    { init_lora_weights: 'pissa_niter_4' },
    'init_lora_weights is "pissa_niter_4" — the adapter was trained on base weights',
  ],
  [{ lora_bias: true }, 'lora_bias is true — LoRA with biases is another kind'],
  [{ layer_replication: [[0, 1]] }, 'copied layers is another kind'],
])('%j is refused', (config, message) => {
  for (const beside of [false, true]) {
    expect(() => alphas(config, beside)).toThrow(UserError);
    expect(() => alphas(config, beside)).toThrow(message);
  }
});

test('other kinds are refused by the name that PEFT gives them', () => {
  expect(() => alphas({ peft_type: 'OFT' }, true)).toThrow(
    /adapter_config\.json: peft_type is "OFT" — only LORA, LOHA, LOKR are supported/,
  );
  expect(alphas({ peft_type: 'LORA', init_lora_weights: 'gaussian', use_dora: false }, true)).toEqual([2, 2]);
});
