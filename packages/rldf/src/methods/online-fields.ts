/** Fields of recipes whose pictures are drawn by the model in training. Spread into a method's `sample` and `train`. */

import { z } from 'zod';
import { count, fraction, positive, range } from '../config/fields.js';
import { exploreSchema } from './diffexp-schema.js';

/** Fields of the methods that draw with the model they train. */
export const exploreFields = { explore: exploreSchema.nullish() };

/** What of a network learns. */
export const trained = z.enum(['none', 'lora', 'full']);
/** Of the U-Net, also `gated`: the gated layers of a model of GLIGEN's kind. */
export const trainedUnet = z.enum(['none', 'lora', 'full', 'gated']);

/** Of `sample`: how pictures are drawn. */
export const sampleFields = {
  steps: z
    .int()
    .min(2)
    .max(1000)
    .default(10)
    .describe('Number of denoising steps for each image, 2 to 1000. DDPO’s paper uses 50.'),
  guidanceScale: z
    .number()
    .min(0)
    .max(100)
    .default(4)
    .describe('Scale of classifier-free guidance; 1 turns it off. DDPO’s paper uses 5.'),
  promptsPerEpoch: count.default(16).describe('Number of different prompts in an epoch.'),
  picturesPerPrompt: count.default(4).describe('Images of each prompt in an epoch.'),
  batchSize: count
    .default(64)
    .describe('How many images are sampled at once. This changes memory and speed, not the result.'),
};

/** Of `sample`, for policy gradients. */
export const policyEta = z
  .number()
  .max(1)
  .refine((eta) => eta > 0, {
    error:
      'must be above 0: at eta 0 DDIM is deterministic, so there is no probability whose gradient could be followed. Use 1 (paper)',
  })
  .default(1)
  .describe('Noise of the DDIM policy, above 0 and at most 1. DDPO’s paper uses 1.');

/** Of `sample`, for DDPO and DPOK: what draws. */
export const policySchedulerField = z
  .enum(['ddim', 'euler-ancestral'])
  .optional()
  .describe(
    'The sampler that is the policy, whatever scheduler the model has: `ddim` (the default), or ' +
      '`euler-ancestral`, whose last step has no noise and is not learned from.',
  );

/** Of `train`: what learns. */
export const networkFields = {
  unet: trainedUnet
    .default('lora')
    .describe(
      'What is trained in the U-Net: nothing, a LoRA adapter, all weights, or all weights of ' +
        'the gated layers that GLIGEN adds.',
    ),
  textEncoder: trained
    .default('none')
    .describe('What is trained in the text encoder: nothing, a LoRA adapter (TexForce), or all weights.'),
  textEncoder2: trained
    .optional()
    .describe('The same of the second text encoder, which Stable Diffusion XL has. By default, nothing.'),
  rank: z
    .int()
    .min(1)
    .max(1024)
    .default(8)
    .describe('Rank of the LoRA adapter, 1 to 1024. DDPO’s public code uses 4.'),
  alpha: positive
    .optional()
    .describe('LoRA alpha: the update is scaled by alpha / rank. By default, the rank.'),
  targets: z
    .array(z.string().min(1))
    .min(1)
    .optional()
    .describe(
      'Which U-Net layers get LoRA, by the ends of their names, such as `to_q`. By default, ' +
        'the attention projections.',
    ),
  checkpointing: z
    .boolean()
    .optional()
    .describe(
      'Whether each block of the U-Net runs a second time for its gradient, instead of being ' +
        'remembered: a fraction of the memory, the same gradient, one forward pass more. By ' +
        'default, no.',
    ),
};

/** Whether all weights of a network learn, so that what was before is not what is left without the adapters. */
export function learnsWholly(train: {
  unet: string;
  textEncoder: string;
  textEncoder2?: string | undefined;
}): boolean {
  const all = [train.unet, train.textEncoder, train.textEncoder2];
  return all.some((what) => what === 'full' || what === 'gated');
}

/** Of `train`: how it learns. */
export const optimiserFields = {
  learningRate: positive
    .max(1)
    .default(1e-3)
    .describe('Learning rate of AdamW. DDPO uses 3e-4 for LoRA and 1e-5 for all weights.'),
  schedule: z
    .enum(['constant', 'linear', 'cosine'])
    .default('constant')
    .describe(
      'How the learning rate changes: it stays constant, or falls to 0 at the last update of ' +
        '`epochs`, along a line or half a cosine.',
    ),
  warmup: z
    .int()
    .min(0)
    .default(0)
    .describe('Number of updates during which the learning rate rises from 0, with any schedule.'),
  weightDecay: z
    .number()
    .min(0)
    .max(1)
    .default(1e-4)
    .describe('Weight decay of AdamW. DDPO’s paper uses 1e-4.'),
  maxGradNorm: positive
    .default(1)
    .describe('Gradients with a larger norm are scaled down to this norm. DDPO’s paper uses 1.'),
  updatesPerEpoch: count
    .default(2)
    .describe('Optimiser steps in one pass over an epoch’s images. DDPO’s paper uses 1 to 4.'),
  batchSize: count
    .default(32)
    .describe(
      'How many images the gradient is computed for at once. This changes memory and speed, ' +
        'not the result.',
    ),
};

/** Of `train`, for policy gradients. */
export const policyFields = {
  innerEpochs: count
    .default(1)
    .describe('Number of passes over the images of an epoch. DDPO’s paper uses 1.'),
  timestepFraction: fraction
    .default(1)
    .describe(
      'Fraction of the denoising steps to learn from, above 0 and at most 1, chosen anew for ' +
        'each image and pass.',
    ),
  stepRange: range
    .optional()
    .describe(
      'Part of the denoising steps to learn from, as two fractions: 0 is the last step, 1 the ' +
        'first one, which sees pure noise. [0.7, 1] learns from the first three of ten. By ' +
        'default, all, as in the paper.',
    ),
  reuse: z
    .boolean()
    .default(true)
    .describe(
      'Whether the keys and values of the text are computed once for all steps, with the ' +
        'U-Net’s LoRA adapter merged into its weights. This is faster and gives the same ' +
        'result up to rounding. `false` computes everything in every pass, for comparison.',
    ),
  stepWeights: z
    .enum(['none', 'balanced'])
    .default('none')
    .describe(
      'How the denoising steps are weighted. `none` is as in the paper. `balanced` gives the ' +
        'same change of the network’s prediction the same effect at every step; otherwise the ' +
        'last steps, which hardly change the image, outweigh all others.',
    ),
  clipNats: positive
    .optional()
    .describe(
      'Clip of the log-ratio of one denoising step of a whole image, in nats. 1.64 on Stable ' +
        'Diffusion 1.x equals the clip of DDPO’s public code.',
    ),
  clipMeanLogProb: positive
    .optional()
    .describe(
      'The same clip for each latent element, as in DDPO’s public code, which uses 1e-4. Its ' +
        'effect depends on the latent size; `clipNats` does not.',
    ),
};
