import { type GroundedObject, generate, type Pipeline } from '@rldf/models';
import type { Seed, Tensor } from '@rldf/torch';

/** A picture to be drawn for evaluation. */
export interface DrawRequest {
  prompt: string;
  /** Names the noise: the same seed gives the same noise before and after training. */
  seed: Seed;
}

/** Draws with the weights as they are, by the same number of steps and guidance as in training, deterministically. */
export async function drawForEvaluation(
  pipeline: Pipeline,
  requests: readonly DrawRequest[],
  negativePrompt: string | null,
  {
    steps,
    guidanceScale,
    objects,
  }: { steps: number; guidanceScale: number; objects?: GroundedObject[][] | undefined },
): Promise<Tensor> {
  const { images, latents } = await generate(pipeline, {
    prompts: requests.map(({ prompt }) => prompt),
    seeds: requests.map(({ seed }) => seed),
    negativePrompts: negativePrompt,
    steps,
    guidanceScale,
    eta: 0,
    ...(objects && { objects }),
  });
  latents.free();
  return images;
}
