import { afterEach, expect, test } from 'vitest';
import { F, grad, noiseKey, normal, scope, type Tensor, tensor } from './index.js';

afterEach(() => void F.setAttention('chosen'));

type Attention = (q: Tensor, k: Tensor, v: Tensor, options?: F.AttentionOptions) => Tensor;

/** Queries [2, 3, 6, 8]; keys and values [2, 3, 5, 8], or as many as queries. */
const inputs = (dtype: 'float32' | 'bfloat16', keys = 5) =>
  ([6, keys, keys] as const).map((length, i) =>
    normal([noiseKey(1, `attention ${i}`)], [2, 3, length, 8])
      .squeeze(0)
      .to(dtype)
      .requiresGrad_(),
  ) as [Tensor, Tensor, Tensor];

/** Output and the three gradients. */
const results = (attention: Attention, qkv: [Tensor, Tensor, Tensor], options: F.AttentionOptions) => {
  const output = attention(...qkv, options);
  return [output, ...grad(output.to('float32').square().sum(), qkv)].map((one) => one.detach().to('float32'));
};

const furthest = (a: readonly Tensor[], b: readonly Tensor[]) =>
  Math.max(
    ...a.map((one, i) => {
      const other = b[i] as Tensor;
      return one.sub(other).abs().amax().item() / other.abs().amax().item();
    }),
  );

const shown = (rows: number, columns: number) =>
  tensor(
    Array.from({ length: rows * columns }, (_, i) => Number(i % 3 > 0)),
    { shape: [rows, columns] },
  );

test('attention by products is attention: plain, causal, scaled, masked; value and gradients', () => {
  scope(() => {
    const cases: Record<string, [F.AttentionOptions, keys?: number]> = {
      plain: [{}],
      causal: [{ causal: true }, 6],
      scaled: [{ scale: 0.1 }],
      'mask of booleans': [{ mask: shown(6, 5).to('bool') }],
      'mask that is added': [{ mask: shown(6, 5) }],
    };
    for (const [name, [options, keys]] of Object.entries(cases)) {
      const expected = results(F.scaledDotProductAttention, inputs('float32', keys), options);
      const found = results(F.attentionByProducts, inputs('float32', keys), options);
      expect(furthest(found, expected), name).toBeLessThan(1e-5); // sums of at most 8 products in float32
    }
  });
});

test('in bfloat16 on a CPU products are chosen, and stay as near to float32 as its eight bits', () => {
  scope(() => {
    const qkv = inputs('bfloat16');
    const chosen = results(F.scaledDotProductAttention, qkv, {});
    expect(furthest(chosen, results(F.attentionByProducts, qkv, {}))).toBe(0);
    const wide = qkv.map((one) => one.detach().to('float32').requiresGrad_()) as [Tensor, Tensor, Tensor];
    expect(furthest(chosen, results(F.scaledDotProductAttention, wide, {}))).toBeLessThan(2 ** -5);
  });
});

test('either way can be had for all types', () => {
  scope(() => {
    const differs = (dtype: 'float32' | 'bfloat16', way: F.AttentionWay) => {
      const qkv = inputs(dtype);
      const products = results(F.attentionByProducts, qkv, {});
      F.setAttention(way);
      return furthest(results(F.scaledDotProductAttention, qkv, {}), products);
    };
    expect(differs('float32', 'products')).toBe(0);
    expect(differs('float32', 'chosen')).toBeGreaterThan(0);
    expect(differs('float32', 'chosen')).toBeLessThan(1e-5);
    expect(differs('bfloat16', 'fused')).toBeGreaterThan(0);
    expect(differs('bfloat16', 'fused')).toBeLessThan(2 ** -5);
    expect(F.setAttention('chosen')).toBe('fused');
  });
});
