import type { Tensor } from '@rldf/torch';

/**
 * All a denoising network is told besides the noisy latents and the timestep.
 *
 * Stable Diffusion 1.x and 2.x read `hiddenStates` only. `pooled` and `timeIds` are SDXL's, `grounding` is
 * GLIGEN's: networks that read them come later and need no other signature.
 */
export interface Conditioning {
  /** Text features, [B, L, D]. */
  hiddenStates: Tensor;
  /** Pooled text features, [B, P]. */
  pooled?: Tensor;
  /** Original size, crop and target size, [B, 6]. */
  timeIds?: Tensor;
  /** Boxes as (x0, y0, x1, y1) in [0, 1] [B, N, 4], their phrases' embeddings [B, N, D], 1 for a real box [B, N]. */
  grounding?: { boxes: Tensor; embeddings: Tensor; masks: Tensor };
}
