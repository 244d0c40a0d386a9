/** Fields of recipes whose pictures are drawn by the model in training. Spread into a method's `sample` and `train`. */

import { z } from 'zod';
import { count, fraction, positive } from '../config/fields.js';
import { exploreSchema } from './diffexp-schema.js';

/** Of methods that draw with the model they train. */
export const exploreFields = { explore: exploreSchema.nullish() };

/** What of a network learns. */
export const trained = z.enum(['none', 'lora', 'full']);

/** Of `sample`: how pictures are drawn. */
export const sampleFields = {
  steps: z.int().min(2).max(1000).default(10).describe('denoising steps a picture, 2-1000. Paper: 50'),
  guidanceScale: z
    .number()
    .min(0)
    .max(100)
    .default(4)
    .describe('classifier-free guidance, 1 = off. Paper: 5'),
  promptsPerEpoch: count.default(16).describe('different prompts an epoch'),
  picturesPerPrompt: count.default(4).describe('pictures of each prompt an epoch'),
  batchSize: count.default(64).describe('pictures drawn at once; changes memory and speed, not the result'),
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
  .describe('noise of the DDIM policy, above 0 up to 1. Paper: 1');

/** Of `train`: what learns. */
export const networkFields = {
  unet: trained.default('lora').describe('what of the U-Net learns'),
  textEncoder: trained.default('none').describe('what of the text encoder learns (TexForce: lora)'),
  rank: z.int().min(1).max(1024).default(8).describe('LoRA rank, 1-1024. Paper: 4'),
  alpha: positive.optional().describe('LoRA alpha; the update is scaled by alpha / rank. Default: the rank'),
  targets: z
    .array(z.string().min(1))
    .min(1)
    .optional()
    .describe('ends of the U-Net layers that get LoRA, such as to_q; default: the attention projections'),
};

/** Of `train`: how it learns. */
export const optimiserFields = {
  learningRate: positive.max(1).default(1e-3).describe('AdamW step size. Paper: 3e-4 (LoRA), 1e-5 (full)'),
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
  weightDecay: z.number().min(0).max(1).default(1e-4).describe('AdamW weight decay. Paper: 1e-4'),
  maxGradNorm: positive.default(1).describe('gradients are scaled down to this norm. Paper: 1'),
  updatesPerEpoch: count
    .default(2)
    .describe('optimiser steps in one pass over an epoch’s pictures. Paper: 1-4'),
  batchSize: count.default(32).describe('pictures whose gradient is computed at once; not the result'),
};

/** Of `train`, for policy gradients. */
export const policyFields = {
  innerEpochs: count.default(1).describe('passes over an epoch’s pictures. Paper: 1'),
  timestepFraction: fraction
    .default(1)
    .describe(
      'share of the denoising steps learned from, drawn anew for each picture and pass, above 0 up to 1',
    ),
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
  clipNats: positive
    .optional()
    .describe('clip of the log-ratio of a whole picture, in nats (1.64 on SD 1.x)'),
  clipMeanLogProb: positive
    .optional()
    .describe('the same per latent element, as in the paper’s code: 1e-4, which depends on the latent size'),
};
