import { tinyGligenPipeline } from '@rldf/models';
import { gradOrUndefined, noiseKey, normal, setThreads, tensor, zeros } from '@rldf/torch';
import { expect, test } from 'vitest';
import { attentionLoss, covered, watched } from './attended-boxes.js';

setThreads(1);

const grounding = (boxes: number[][], told = boxes.map(() => 1)) => ({
  boxes: tensor([boxes]),
  masks: tensor([told]),
});

test('a box covers its share of each place, row by row; places that boxes share are divided; what is not told covers none', () => {
  const half = covered(grounding([[0, 0, 0.25, 1]]), 2); // biome-ignore format: a box a line
  expect(half.squeeze(2).toNumbers()).toEqual([0.5, 0, 0.5, 0]);
  const lower = covered(grounding([[0.5, 0.5, 1, 1], [0.5, 0.75, 1, 1]]), 2); // biome-ignore format: a box a line
  expect(lower.shape).toEqual([1, 4, 2]);
  const [own, other] = [2 / 3, 1 / 3].map((share) => expect.closeTo(share, 6));
  expect(lower.toNumbers()).toEqual([0, 0, 0, 0, 0, 0, own, other]);
  expect(
    covered(grounding([[0, 0, 1, 1]], [0]), 2)
      .sum()
      .item(),
  ).toBe(0);
});

test('the loss is the cross-entropy of objects and of all other places', () => {
  const shares = [0.1, 0.3, 0.6]; // of one place: itself, its object, one that is not told
  const logShares = tensor([[shares]]).log();
  const told = { boxes: tensor([[[0, 0, 0.5, 0.5], [0, 0, 0, 0]]]), masks: tensor([[1, 0]]) }; // biome-ignore format: a box a line
  const expected = -(0.25 * Math.log(0.3) + 0.75 * Math.log(0.1));
  expect(attentionLoss(logShares, told).item()).toBeCloseTo(expected, 5);
});

test('it teaches what makes attention, in every layer, and nothing beneath; nobody looks on afterwards', () => {
  const { unet, parameters } = tinyGligenPipeline();
  const { entries } = parameters.unet;
  for (const weight of entries.values()) weight.requiresGrad_();
  const width = unet.config.cross_attention_dim as number;
  const boxes = zeros([1, 30, 4]).add(tensor([0, 0, 0.5, 0.5]));
  const told = { boxes, masks: zeros([1, 30]).add(1), phrases: normal([noiseKey(1, 'phrases')], [1, 30, width]).squeeze(0) }; // biome-ignore format: one thought
  const noisy = normal([noiseKey(1, 'noise')], [1, unet.inChannels, 8, 8]).squeeze(0); // [1, C, 8, 8]
  const conditioning = { hiddenStates: zeros([1, 4, width]), grounding: told };
  const pass = () => unet.forward(noisy, tensor([900], { dtype: 'int64' }), conditioning);
  const { made, loss } = watched(unet.gatedLayers, told, pass);
  const makesAttention = /fuser\.(linear|norm1|attn\.to_[qk])\.|position_net\.linears/;
  const gradients = gradOrUndefined(loss, [...entries.values()]);
  const taught = [...entries.keys()].filter((_, i) => (gradients[i]?.abs().sum().item() ?? 0) > 0);
  expect(taught).toEqual([...entries.keys()].filter((name) => makesAttention.test(name)));
  expect(unet.gatedLayers.every(({ watch }) => watch === undefined)).toBe(true);
  expect(made.toNumbers()).toEqual(pass().toNumbers());
});
