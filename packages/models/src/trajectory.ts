import type { Tensor } from '@rldf/torch';
import type { Behaviour } from './behaviour.js';

/** A batch of sampled denoising paths; each latent is kept once, as the result of step t-1 and the input of t. */
export interface Trajectory {
  /** [T+1, B, C, H, W] float32: index t goes into step t, index t+1 comes out of it. */
  latents: Tensor;
  /** The T timesteps in the order of denoising. */
  timesteps: number[];
  /** Log-probability of each step under the policy that drew it, mean over C, H, W: [T, B] float64. */
  logProbs: Tensor;
  /** One per sample: B entries. */
  behaviours: Behaviour[];
}
