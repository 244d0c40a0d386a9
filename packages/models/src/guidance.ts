import { cat, full, scope, type Tensor, tensor, UserError } from '@rldf/torch';
import type { Conditioning } from './conditioning.js';
import type { UNet2DConditionModel } from './unet.js';

/**
 * The network's prediction under classifier-free guidance (Ho & Salimans 2022): u + w (c - u), both halves in one
 * batch, the unconditional one first. Differentiable.
 *
 * @param latents [B, C, H, W]
 * @param conditioning of 2B entries, the B unconditional ones first; or of B, which is no guidance
 * @param timestep of all, or one each
 * @param guidanceScale w, for all samples or one each
 * @returns [B, C, H, W] float32
 */
export function predictGuided(
  unet: UNet2DConditionModel,
  latents: Tensor,
  timestep: number | readonly number[],
  conditioning: Conditioning,
  guidanceScale: number | readonly number[],
): Tensor {
  const batch = latents.shape[0]!;
  const rows = conditioning.hiddenStates.shape[0]!;
  if (rows !== batch && rows !== 2 * batch) {
    throw new UserError(
      `predictGuided: ${rows} conditionings for ${batch} latents — must be ${batch}, or ${2 * batch} with guidance. ` +
        'Encode one prompt per sample, and one negative prompt.',
    );
  }
  return scope(() => {
    const { device } = latents;
    const timesteps = // [B or 2B]
      typeof timestep === 'number'
        ? full([rows], timestep, { device })
        : tensor(rows === batch ? [...timestep] : [...timestep, ...timestep], { dtype: 'int64', device });
    if (rows === batch) return unet.forward(latents, timesteps, conditioning);
    const both = unet.forward(cat([latents, latents]), timesteps, conditioning); // [2B, C, H, W]
    const [unconditional, conditional] = both.chunk(2, 0) as [Tensor, Tensor];
    const difference = conditional.sub(unconditional);
    if (typeof guidanceScale === 'number') return unconditional.add(difference.mul(guidanceScale));
    const scales = tensor([...guidanceScale], {
      shape: [batch, 1, 1, 1],
      dtype: latents.dtype,
      device,
    });
    return unconditional.add(difference.mul(scales));
  });
}
