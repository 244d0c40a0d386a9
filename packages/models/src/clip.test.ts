import { noGrad, noiseKey, normal, Parameters, type Tensor, tensor } from '@rldf/torch';
import { expect, test } from 'vitest';
import { CLIPModel, contrastiveLoss } from './clip.js';
import { CLIPTextModel, withTowerPrefix } from './clip-text.js';

const TEXT = {
  vocab_size: 20,
  hidden_size: 8,
  intermediate_size: 16,
  num_hidden_layers: 2,
  num_attention_heads: 2,
  max_position_embeddings: 6,
};
const VISION = {
  hidden_size: 12,
  intermediate_size: 16,
  num_hidden_layers: 2,
  num_attention_heads: 3,
  image_size: 8,
  patch_size: 4,
};
const IDS = [
  [1, 5, 19, 7, 7, 7],
  [1, 7, 3, 3, 4, 19],
];

const ids = (rows: number[][]) => tensor(rows, { dtype: 'int64' });
const row = (states: Tensor, batch: number, position: number) =>
  states.select(0, batch).select(0, position).toNumbers();

test('pools at the first end token; at the highest id when the config says 2', () => {
  const model = (eos: number) => new CLIPTextModel({ ...TEXT, eos_token_id: eos }, Parameters.random(1).at());
  noGrad(() => {
    const general = model(7).forward(ids(IDS));
    expect(general.pooled.select(0, 0).toNumbers()).toEqual(row(general.lastHiddenState, 0, 3));
    expect(general.pooled.select(0, 1).toNumbers()).toEqual(row(general.lastHiddenState, 1, 1));
    const old = model(2).forward(ids(IDS));
    expect(old.pooled.select(0, 0).toNumbers()).toEqual(row(old.lastHiddenState, 0, 2));
    expect(old.pooled.select(0, 1).toNumbers()).toEqual(row(old.lastHiddenState, 1, 5));
  });
});

test('a token sees only those before it', () => {
  const model = new CLIPTextModel(TEXT, Parameters.random(1).at());
  noGrad(() => {
    const before = model.forward(ids([[1, 2, 3, 4, 5, 6]])).lastHiddenState;
    const after = model.forward(ids([[1, 2, 3, 9, 9, 9]])).lastHiddenState;
    expect(row(after, 0, 2)).toEqual(row(before, 0, 2));
    expect(row(after, 0, 3)).not.toEqual(row(before, 0, 3));
  });
});

test('skipping the last layer is a model without it', () => {
  const parameters = Parameters.random(1);
  const model = new CLIPTextModel(TEXT, parameters.at());
  const shallow = new CLIPTextModel(
    { ...TEXT, num_hidden_layers: 1 },
    Parameters.from(parameters.state()).at(),
  );
  noGrad(() => {
    const skipped = model.forward(ids(IDS), { clipSkip: 1, hiddenStates: true });
    expect(skipped.lastHiddenState.bytes()).toEqual(shallow.forward(ids(IDS)).lastHiddenState.bytes());
    expect(skipped.hiddenStates!.map((state) => state.shape)).toEqual(Array(3).fill([2, 6, 8]));
  });
  expect(() => model.forward(ids(IDS), { clipSkip: 2 })).toThrow(/clipSkip is 2/);
  expect(() => model.forward(ids([[1, 1, 1, 1, 1, 1, 1]]))).toThrow(/\[1,7\] — expected .* at most 6/);
});

test('both towers meet in one space, scaled by the temperature', () => {
  const parameters = Parameters.random(1);
  const config = { text_config: TEXT, vision_config: VISION, projection_dim: 5 };
  const model = new CLIPModel(config, parameters.at());
  const pixels = normal([noiseKey(1, 'p'), noiseKey(2, 'p'), noiseKey(3, 'p')], [3, 8, 8]);
  noGrad(() => {
    const { textEmbeds, imageEmbeds, logitsPerImage } = model.forward(ids(IDS), pixels);
    expect(textEmbeds.square().sum(-1).toNumbers()).toEqual([expect.closeTo(1, 5), expect.closeTo(1, 5)]);
    expect(logitsPerImage.shape).toEqual([3, 2]);
    const cosine = imageEmbeds.select(0, 2).mul(textEmbeds.select(0, 1)).sum().item();
    expect(logitsPerImage.toNumbers()[5]).toBeCloseTo(Math.exp(2.6592) * cosine, 4);
  });
  expect(parameters.entries.get('logit_scale')!.shape).toEqual([]);
  expect(parameters.entries.has('vision_model.pre_layrnorm.weight')).toBe(true);
});

test('the contrastive loss is the mean cross-entropy of both directions', () => {
  const logits = tensor([[1, 0], [3, 2]]); // biome-ignore format: a matrix
  const entropy = (right: number, wrong: number) => Math.log(1 + Math.exp(wrong - right));
  const perImage = (entropy(1, 0) + entropy(2, 3)) / 2;
  const perText = (entropy(1, 3) + entropy(2, 0)) / 2;
  expect(contrastiveLoss(logits).item()).toBeCloseTo((perImage + perText) / 2, 5);
});

test('takes the names of transformers 5, and leaves position constants out', () => {
  const value = tensor([1]);
  const state = new Map([
    ['encoder.layers.0.layer_norm1.weight', value],
    ['final_layer_norm.bias', value],
    ['text_projection.weight', value],
    ['text_model.embeddings.position_ids', value],
    ['text_model.embeddings.token_embedding.weight', value],
  ]);
  expect([...withTowerPrefix(state, 'text_model').keys()]).toEqual([
    'text_model.encoder.layers.0.layer_norm1.weight',
    'text_model.final_layer_norm.bias',
    'text_projection.weight',
    'text_model.embeddings.token_embedding.weight',
  ]);
});
