/** DDPO's part of the recipe. */

import { z } from 'zod';
import { commonFields, count, fraction, positive } from './fields.js';

const trained = z.enum(['none', 'lora', 'full']);

export const ddpoSchema = z.strictObject({
  method: z.literal('ddpo').describe('DDPO (Black et al. 2023, arXiv 2305.13301)'),
  ...commonFields,
  epochs: count
    .default(15)
    .describe('epochs; in each, pictures are drawn, scored and learned from. Paper: 50-200'),
  sample: z
    .strictObject({
      steps: z.int().min(2).max(1000).default(10).describe('denoising steps a picture, 2-1000. Paper: 50'),
      guidanceScale: z
        .number()
        .min(0)
        .max(100)
        .default(4)
        .describe('classifier-free guidance, 1 = off. Paper: 5'),
      eta: z
        .number()
        .max(1)
        .refine((eta) => eta > 0, {
          error:
            'must be above 0: at eta 0 DDIM is deterministic, so there is no probability whose gradient could be followed. Use 1 (paper)',
        })
        .default(1)
        .describe('noise of the DDIM policy, above 0 up to 1. Paper: 1'),
      promptsPerEpoch: count.default(16).describe('different prompts an epoch'),
      picturesPerPrompt: count.default(4).describe('pictures of each prompt an epoch'),
      batchSize: count
        .default(64)
        .describe('pictures drawn at once; changes memory and speed, not the result'),
    })
    .prefault({}),
  train: z
    .strictObject({
      unet: trained.default('lora').describe('what of the U-Net learns'),
      textEncoder: trained.default('none').describe('what of the text encoder learns (TexForce: lora)'),
      rank: z.int().min(1).max(1024).default(8).describe('LoRA rank, 1-1024. Paper: 4'),
      alpha: positive
        .optional()
        .describe('LoRA alpha; the update is scaled by alpha / rank. Default: the rank'),
      targets: z
        .array(z.string().min(1))
        .min(1)
        .optional()
        .describe('ends of the U-Net layers that get LoRA, such as to_q; default: the attention projections'),
      learningRate: positive
        .max(1)
        .default(1e-3)
        .describe('AdamW step size. Paper: 3e-4 (LoRA), 1e-5 (full)'),
      schedule: z
        .enum(['constant', 'linear', 'cosine'])
        .default('constant')
        .describe(
          'constant, or from the full learning rate down to 0 at the last update of `epochs`: along a line, or half a cosine',
        ),
      warmup: z
        .int()
        .min(0)
        .default(0)
        .describe('updates in which the learning rate rises from 0, whatever the schedule'),
      klWeight: z
        .number()
        .min(0)
        .default(0)
        .describe(
          'how strongly the policy is kept near the one training began from: weight of their KL at each step, in nats per latent element, in the loss. 0: not at all, as in the paper; costs one more pass without gradient',
        ),
      weightDecay: z.number().min(0).max(1).default(1e-4).describe('AdamW weight decay. Paper: 1e-4'),
      maxGradNorm: positive.default(1).describe('gradients are scaled down to this norm. Paper: 1'),
      updatesPerEpoch: count
        .default(2)
        .describe('optimiser steps in one pass over an epoch’s pictures. Paper: 1-4'),
      innerEpochs: count.default(1).describe('passes over an epoch’s pictures. Paper: 1'),
      batchSize: count.default(32).describe('pictures whose gradient is computed at once; not the result'),
      timestepFraction: fraction
        .default(1)
        .describe('share of the denoising steps learned from, above 0 up to 1'),
      reuse: z
        .boolean()
        .default(true)
        .describe(
          'computes the text’s keys and values once for all steps, with the U-Net’s LoRA merged into its weights: faster, the same up to rounding. false: everything in every pass, to compare',
        ),
      stepWeights: z
        .enum(['none', 'balanced'])
        .default('none')
        .describe(
          'none: as in the paper; balanced: the same change of the network’s answer counts the same at every step, where otherwise the last steps, which hardly show, outweigh all others',
        ),
      estimator: z
        .enum(['is', 'sf'])
        .default('is')
        .describe('is: importance sampling with a clip; sf: REINFORCE'),
      clipNats: positive
        .optional()
        .describe('clip of the log-ratio of a whole picture, in nats (1.64 on SD 1.x)'),
      clipMeanLogProb: positive
        .optional()
        .describe(
          'the same per latent element, as in the paper’s code: 1e-4, which depends on the latent size',
        ),
      promptStatistics: z
        .strictObject({
          bufferSize: count.default(32).describe('rewards remembered for each prompt. Paper: 16-32'),
          minimumCount: count
            .default(16)
            .describe('fewer than this, and the prompt is judged by the whole batch. Paper: 16'),
        })
        .prefault({})
        .describe('what a picture is compared with: the last rewards of its own prompt'),
      advantageClip: positive
        .default(5)
        .describe('advantages are cut at this many standard deviations. Paper: 5'),
    })
    .prefault({}),
});

export type DdpoRecipe = z.infer<typeof ddpoSchema>;
