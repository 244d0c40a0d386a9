import type { Seed } from '@rldf/torch';
import type { GroundedObject } from './grounding.js';

/**
 * Which policy drew a sample: enough to replay it exactly, exploration included.
 *
 * The noise of the sample is keyed by `seed` and `path` (for example epoch, prompt, sample); guidance may change
 * from step to step (DiffExp), and words may be weighted.
 */
export interface Behaviour {
  seed: Seed;
  /** Identity of the sample under the seed. */
  path: number[];
  /** Guidance scale of each denoising step, in order. */
  guidance: number[];
  /** Words of the prompt (0-based) whose embeddings were scaled, and by how much. */
  wordWeights?: { word: number; weight: number }[];
  /**
   * Of GLIGEN's kind of model: the objects that it was told (none are its null features), and in how many of the first denoising
   * steps; behind them its gated layers were off.
   */
  grounding?: { objects: readonly GroundedObject[]; steps: number };
}
