// The gradients that AlignProp, DRaFT and ReFL climb: of every built-in reward whose card promises one.
import { grad, noGrad, noiseKey, scope, setThreads, type Tensor, uniform } from '@rldf/torch';
import { expect, test } from 'vitest';
import { cards } from './cards.js';
import { differentiableRewards } from './differentiable.js';
import { loadReward } from './index.js';
import { scorePictures } from './reward.js';

setThreads(1);
const prompts = ['a cat', 'two dogs'];

/** Grey waves with some noise, float [2, 3, 64, 64] of whole 255ths. */
const pictures = () =>
  noGrad(() =>
    scope(() =>
      uniform([noiseKey(1, 'a'), noiseKey(2, 'b')], [3, 64, 64])
        .mul(100)
        .add(80)
        .round()
        .div(255),
    ),
  );

test.each(differentiableRewards)(
  '%s: the differentiable form scores alike, and finite differences agree',
  async (name) => {
    const reward = await loadReward(name);
    const images01 = pictures();
    const images = noGrad(() => scope(() => images01.permute([0, 2, 3, 1]).mul(255).round().to('uint8')));
    const { total } = await scorePictures(reward, { images, prompts, meta: [null, null] });
    const differentiable = reward.differentiable as NonNullable<typeof reward.differentiable>;
    const leaf = images01.detach().requiresGrad_();
    const [gradient, scores] = scope(() => {
      const found = differentiable(leaf, prompts);
      return [...grad(found.sum(), [leaf]), found.detach()];
    }) as [Tensor, Tensor];
    scores.toNumbers().forEach((score, i) => {
      expect(score).toBeCloseTo(total[i] as number, 3);
    });
    const [slope, norm] = noGrad(() =>
      scope(() => {
        const length = gradient.norm().item();
        const along = gradient.div(length);
        const at = (by: number) => differentiable(images01.add(along, by), prompts).sum().item();
        const central = (h: number) => (at(h) - at(-h)) / (2 * h);
        return [(4 * central(0.01) - central(0.02)) / 3, length];
      }),
    );
    expect(norm).toBeGreaterThan(0);
    expect(Math.abs(slope / norm - 1)).toBeLessThan(0.03); // float32
  },
);

test('no other reward pretends to have a gradient', async () => {
  for (const name of Object.keys(cards).filter((card) => !differentiableRewards.includes(card))) {
    expect((await loadReward(name)).differentiable).toBeUndefined();
  }
});
