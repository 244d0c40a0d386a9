import { grad, liveTensors, Parameters, scope, type Tensor, tensor } from '@rldf/torch';
import { expect, test } from 'vitest';
import { AestheticPredictor } from './aesthetic.js';
import { CLIPModel } from './clip.js';
import { ImageRewardModel } from './image-reward.js';
import { PreferenceModel, pairLoss, TunedPreferenceModel } from './preference.js';

const tower = {
  hidden_size: 8,
  intermediate_size: 16,
  num_hidden_layers: 2,
  num_attention_heads: 2,
  hidden_act: 'quick_gelu',
};
const config = {
  projection_dim: 6,
  text_config: {
    ...tower,
    vocab_size: 6,
    max_position_embeddings: 4,
    bos_token_id: 4,
    eos_token_id: 5,
    pad_token_id: 5,
  },
  vision_config: { ...tower, image_size: 8, patch_size: 4, num_channels: 3 },
};
function tinyClip() {
  const parameters = Parameters.random(1);
  return { clip: new CLIPModel(config, parameters.at()), parameters };
}
const ids = tensor([4, 2, 5, 4, 3, 5], { shape: [2, 3], dtype: 'int64' });
const pixels = tensor(
  Float32Array.from({ length: 2 * 3 * 64 }, (_, i) => Math.sin(i * 1.7)),
  { shape: [2, 3, 8, 8] },
);
const scorerConfig = { hidden_size: 8, num_hidden_layers: 2, num_attention_heads: 2, intermediate_size: 12 };

test('a preference is exp(logit_scale) times the cosine', () => {
  const { clip } = tinyClip();
  const { logitsPerImage } = clip.forward(ids, pixels);
  const all = logitsPerImage.toNumbers(); // [2, 2]
  const scores = new PreferenceModel(clip).forward(ids, pixels).toNumbers();
  expect(scores[0]).toBeCloseTo(all[0]!, 5);
  expect(scores[1]).toBeCloseTo(all[3]!, 5);
});

test('the pair loss is the mean of log(1 + exp(other - preferred))', () => {
  const loss = pairLoss(tensor([2, 0.5]), tensor([1, 1.5])).item();
  expect(loss).toBeCloseTo((Math.log1p(Math.exp(-1)) + Math.log1p(Math.exp(1))) / 2, 6);
});

test('low-rank updates start without effect, and their state restores what was tuned', () => {
  const { clip, parameters } = tinyClip();
  const before = new PreferenceModel(clip).forward(ids, pixels).toNumbers();
  const model = TunedPreferenceModel.attach(clip, parameters, { rank: 2, seed: 3 });
  expect(model.forward(ids, pixels).toNumbers()).toEqual(before);
  for (const parameter of model.adapter.parameters()) parameter.add_(0.1);
  clip.logitScale.detach().add_(0.5);
  const tuned = model.forward(ids, pixels).toNumbers();
  expect(tuned).not.toEqual(before);

  const other = tinyClip();
  const loaded = TunedPreferenceModel.load(other.clip, other.parameters, model.state(), 'test');
  expect(loaded.forward(ids, pixels).toNumbers()).toEqual(tuned);
  loaded.adapter.merge();
  loaded
    .forward(ids, pixels)
    .toNumbers()
    .forEach((score, i) => {
      expect(score).toBeCloseTo(tuned[i]!, 4);
    });
  expect(() => TunedPreferenceModel.load(other.clip, other.parameters, new Map(), 'x.safetensors')).toThrow(
    'x.safetensors: no low-rank updates',
  );
});

/** Gradient with respect to the picture against finite differences along it. */
function checkGradient(score: (pixels: Tensor) => Tensor) {
  const leaf = pixels.clone().requiresGrad_();
  const [gradient] = grad(score(leaf).sum(), [leaf]) as [Tensor];
  const length = gradient.norm().item();
  expect(length).toBeGreaterThan(0);
  const at = (step: number) =>
    scope(() =>
      score(pixels.add(gradient.mul(step / length)))
        .sum()
        .item(),
    );
  expect((at(1e-2) - at(-1e-2)) / 2e-2 / length).toBeCloseTo(1, 1);
}

test('scores are differentiable in the picture', () => {
  const { clip } = tinyClip();
  checkGradient((x) => new PreferenceModel(clip).forward(ids, x));
  const scorer = new ImageRewardModel(scorerConfig, clip, Parameters.random(2).at());
  checkGradient((x) => scorer.forward(ids, x));
});

test('the cross-attention scorer sees text and picture, standardises, has BLIP’s names, and leaves nothing behind', () => {
  const { clip } = tinyClip();
  const parameters = Parameters.random(2);
  const scorer = new ImageRewardModel(scorerConfig, clip, parameters.at());
  for (const name of [
    'text_encoder.encoder.layer.1.crossattention.self.key.weight',
    'text_encoder.encoder.layer.0.attention.output.LayerNorm.weight',
    'text_encoder.encoder.layer.0.intermediate.dense.weight',
    'mlp.layers.7.bias',
  ])
    expect([...parameters.entries.keys()]).toContain(name);
  const live = liveTensors();
  const scores = scorer.forward(ids, pixels);
  expect(liveTensors()).toBe(live + 1);
  const [first] = scores.toNumbers();
  const otherText = tensor([4, 3, 5, 4, 3, 5], { shape: [2, 3], dtype: 'int64' });
  expect(scorer.forward(otherText, pixels).toNumbers()[0]).not.toBeCloseTo(first!, 6);
  expect(scorer.forward(ids, pixels.neg()).toNumbers()[0]).not.toBeCloseTo(first!, 6);
  scorer.mean.add_(1);
  scorer.deviation.mul_(2);
  expect(scorer.forward(ids, pixels).toNumbers()[0]).toBeCloseTo((first! - 1) / 2, 5);
});

test('LAION’s own layout, five layers without activations, is a linear map', () => {
  const parameters = Parameters.random(4);
  const head = new AestheticPredictor(parameters.at(), 3, { widths: [5, 4, 4, 2], relu: false });
  expect([...parameters.entries.keys()].filter((name) => name.endsWith('weight'))).toEqual(
    [0, 2, 4, 6, 7].map((place) => `layers.${place}.weight`),
  );
  const at = (x: number) => head.forward(tensor([x, 2 * x, -x], { shape: [1, 3] })).toNumbers()[0]!;
  expect(at(2) - at(1)).toBeCloseTo(at(1) - at(0), 5);
});
