import type { Seed } from '@rldf/torch';

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
}
