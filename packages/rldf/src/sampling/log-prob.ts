import { scope, type Tensor } from '@rldf/torch';

// Densities of a denoising step, N(μ, σ²) with the same σ for all elements, as means over the latent's elements. Elements
// and means are computed in float64, so that a ratio of two policies is exact to what the networks give.

/**
 * Mean over the latent's elements of log N(sample; mean, std²), as DDPO's public code defines a step's log-probability
 * (Black et al. 2023, equation 5; the joint one is this times the number of elements).
 *
 * @param sample x_{t-1} [B, C, H, W], a constant
 * @param mean μ [B, C, H, W]; gradients flow through it
 * @param std σ > 0 of this step
 * @returns [B] in nats per element, float64
 */
export function meanLogProb(sample: Tensor, mean: Tensor, std: number): Tensor {
  return scope(() => {
    const constant = -Math.log(std) - 0.5 * Math.log(2 * Math.PI);
    return meanSquare(sample, mean)
      .mul(-0.5 / std ** 2)
      .add(constant);
  });
}

/**
 * Mean over the latent's elements of KL(N(mean, std²) ‖ N(base, std²)) = (mean - base)² / (2 std²), exact.
 *
 * @param mean of the policy [B, C, H, W]; gradients flow through it
 * @param base mean of the other policy at the same latents [B, C, H, W]
 * @returns [B] in nats per element, float64
 */
export function meanKl(mean: Tensor, base: Tensor, std: number): Tensor {
  return scope(() => meanSquare(base, mean).mul(0.5 / std ** 2));
}

/** Mean over C, H, W of (a - b)²: [B], float64 */
function meanSquare(a: Tensor, b: Tensor): Tensor {
  return scope(() => a.to('float64').sub(b.to('float64')).square().mean([1, 2, 3]));
}

/** Latent elements of one picture: the factor between the mean and the joint log-probability. */
export function elementsOf(latents: Tensor): number {
  return latents.shape.slice(-3).reduce((product, size) => product * size, 1);
}
