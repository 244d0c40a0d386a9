import { scope, type Tensor } from '@rldf/torch';

/**
 * Mean over the latent's elements of log N(sample; mean, std²), as DDPO's public code defines a step's log-probability
 * (Black et al. 2023, equation 5; the joint one is this times the number of elements). Elements and their mean
 * are computed in float64, so that a ratio of two policies is exact to what the networks give.
 *
 * @param sample x_{t-1} [B, C, H, W], a constant
 * @param mean μ [B, C, H, W]; gradients flow through it
 * @param std σ > 0 of this step
 * @returns [B] in nats per element, float64
 */
export function meanLogProb(sample: Tensor, mean: Tensor, std: number): Tensor {
  return scope(() => {
    const difference = sample.to('float64').sub(mean.to('float64'));
    const constant = -Math.log(std) - 0.5 * Math.log(2 * Math.PI);
    return difference
      .square()
      .mul(-0.5 / std ** 2)
      .mean([1, 2, 3])
      .add(constant);
  });
}

/** Latent elements of one picture: the factor between the mean and the joint log-probability. */
export function elementsOf(latents: Tensor): number {
  return latents.shape.slice(-3).reduce((product, size) => product * size, 1);
}
