/** Pieces of recipe schemas that methods share. Every field says its unit, range and, where there is one, the paper's value. */

import { nouns, promptSetNames, sceneKinds, splits } from '@rldf/emoji-world';
import { largestSeed, type Seed } from '@rldf/torch/seeds';
import { z } from 'zod';
import { nearest } from '../base/suggest.js';

/** A whole number from 1; beyond a million it is a slip of the pen that would fill the memory. */
export const count = z.int().min(1).max(1_000_000);
/** A number above 0. */
export const positive = z.number().positive();
/** A number above 0, at most 1. */
export const fraction = z.number().gt(0).max(1);

/** Any seed that other tools write: exact to the last of its 64 bits. */
export const seedSchema = z
  .custom<Seed>((value) => seedProblem(value) === undefined, { error: ({ input }) => seedProblem(input)! })
  .meta({ type: 'integer', minimum: 0 });

function seedProblem(value: unknown): string | undefined {
  if (typeof value !== 'number' && typeof value !== 'bigint') return 'expected a number';
  if (typeof value === 'number' && !Number.isInteger(value)) return 'expected a whole number';
  if (value < 0) return 'must be at least 0';
  if (value > largestSeed) return `must be at most ${largestSeed}`;
  if (typeof value === 'number' && !Number.isSafeInteger(value))
    return 'a number of this size has lost digits — give it as a BigInt';
  return undefined;
}

/** Schema version of recipes; raised when an old recipe would mean something else. */
export const recipeVersion = 1;

/** Prompts of the built-in world, by the kind of scene they describe. */
export const worldPromptsSchema = z.strictObject({
  split: z
    .enum(splits)
    .default('train')
    .describe('which of the disjoint prompt sets; those of kind single are shared'),
  kind: z.enum(sceneKinds).default('single').describe('kind of scene'),
  nouns: z
    .array(z.enum(nouns.map(({ name }) => name)))
    .min(1)
    .optional()
    .describe('only scenes of nothing but these nouns; default: all'),
});

/** A frozen set of the built-in world, named after its paper. */
export const promptSetSchema = z.strictObject({
  set: z
    .string() // not an enum: zod would take a misspelt name for the other kind of object
    .refine((name) => promptSetNames.includes(name), {
      error: ({ input }) => {
        const near = nearest(String(input), promptSetNames);
        return `none of the sets that \`rldf prompts\` lists${near === undefined ? '' : ` (nearest: ${near})`}`;
      },
    })
    .meta({ enum: promptSetNames, description: 'one of `rldf prompts`' }),
  group: z.string().min(1).optional().describe('only this group of the set; default: all'),
});

export const promptsSchema = z
  .union([z.string().min(1), z.array(z.string().min(1)).min(1), promptSetSchema, worldPromptsSchema], {
    error:
      'expected the path of a prompt file, a list of prompts, a named set such as { set: diffexp-animals }, or prompts of the world such as { split: train, kind: single }',
  })
  .describe(
    'a prompt file (.txt, .jsonl, .csv, .tsv), a list of prompts, a named set (`rldf prompts`), or prompts of the built-in world by kind',
  );
export type PromptsField = z.output<typeof promptsSchema>;

/** A prompt file's path made absolute; other kinds of prompts as they are. */
export const absolutePrompts = (prompts: PromptsField, absolute: (path: string) => string): PromptsField =>
  typeof prompts === 'string' ? absolute(prompts) : prompts;

/** One reward: a built-in by name, a module of the user's own, or people's ratings. */
export const singleRewardSchema = z.union(
  [
    z.string().min(1),
    z.strictObject({ module: z.string().min(1) }),
    z.strictObject({ ratings: z.string().min(1) }),
  ],
  {
    error:
      'expected the name of a built-in reward, { module: ./my-reward.ts }, or { ratings: ./ratings.csv }',
  },
);

export const weightedRewardSchema = z.strictObject({
  reward: singleRewardSchema,
  weight: z
    .number()
    .optional()
    .describe('factor in the sum; may be negative. Default: 1, or 0 for a reward with a floor'),
  cap: z
    .number()
    .optional()
    .describe(
      'a score above this counts as this: min(r, cap), in the reward’s own unit, before it is normalised',
    ),
  floor: z
    .union([z.number(), z.literal('base')], { error: 'expected a number, or base' })
    .optional()
    .describe(
      'raise the others while the mean of this one stays at least here, in its own unit; base: where the model was before training, drawn without exploring. Its weight becomes a Lagrange multiplier (docs/guide-rewards.md)',
    ),
  floorRate: positive
    .optional()
    .describe(
      'how fast the multiplier follows a shortfall: what it rises by after an epoch that is one standard deviation short. Default: 0.5',
    ),
  normalise: z
    .enum(['none', 'batch', 'running'])
    .default('running')
    .describe(
      'none: as it is; batch: to mean 0 and spread 1 within an epoch; running: the same over the whole run',
    ),
});

/** A floor needs something that is raised above it. */
function checkFloors(
  parts: readonly z.output<typeof weightedRewardSchema>[],
  context: z.core.$RefinementCtx,
): void {
  const refuse = (path: (string | number)[], message: string) =>
    context.addIssue({ code: 'custom', path, message, input: undefined });
  if (parts.every(({ floor, weight = 0 }) => floor !== undefined && weight === 0))
    refuse(
      [0, 'floor'],
      'every reward has a floor — there is none to raise meanwhile. Add a reward without, or give one a weight',
    );
  for (const [i, { cap, floor, floorRate }] of parts.entries()) {
    if (typeof floor === 'number' && cap !== undefined && cap < floor)
      refuse([i, 'cap'], `${cap} is below floor: ${floor} — the mean could never reach it. Exchange them`);
    if (floor === undefined && floorRate !== undefined)
      refuse([i, 'floorRate'], 'there is no floor — set floor: base, or leave this out');
  }
}

export const rewardSchema = z
  .union([singleRewardSchema, z.array(weightedRewardSchema).min(1).superRefine(checkFloors)], {
    error:
      'expected a reward name, { module: ./my-reward.ts }, { ratings: ./ratings.csv }, or a list of { reward, weight, normalise, cap, floor }',
  })
  .describe('what is rewarded; `rldf rewards` lists the built-in ones');
export type RewardField = z.output<typeof rewardSchema>;

/** Fields of every method. */
export const commonFields = {
  version: z.literal(recipeVersion).default(recipeVersion).describe('schema version of this file'),
  name: z.string().min(1).optional().describe('name of the run folder; default: file name and a number'),
  model: z.string().min(1).default('emoji').describe('shipped model, folder in diffusers layout, or hub id'),
  device: z
    .string()
    .regex(/^(cpu|cuda(:\d+)?)$/, 'expected cpu, cuda or cuda:N')
    .default('cpu')
    .describe('where to compute: cpu, cuda or cuda:N'),
  threads: count
    .max(1024)
    .optional()
    .describe('CPU threads; default: all cores. Part of what must stay equal to resume bit for bit'),
  seed: seedSchema.default(0).describe('seed of everything random, 0 to 2^64 - 1'),
  prompts: promptsSchema,
  reward: rewardSchema,
  longPrompts: z
    .enum(['cut', 'chunks'])
    .optional()
    .describe(
      'prompts beyond the text encoder’s length: cut (default), or read in pieces of it, as AUTOMATIC1111 does',
    ),
  negativePrompt: z.string().default('').describe('prompt of the unguided half; empty as in the paper'),
  report: z
    .strictObject({
      prompts: promptsSchema
        .optional()
        .describe('prompts of the final comparison; default: those of evaluate'),
      picturesPerPrompt: count
        .max(1000)
        .default(1)
        .describe('pictures of each, with the same noise before and after'),
      maxPrompts: count.default(32).describe('at most this many prompts'),
    })
    .prefault({})
    .describe(
      'the final comparison of before and after; use prompts that nothing was chosen by (split: test)',
    ),
  evaluate: z
    .strictObject({
      every: count.default(5).describe('epochs between evaluations'),
      prompts: promptsSchema.optional().describe('validation prompts; default: the prompts trained on'),
      picturesPerPrompt: count
        .max(1000)
        .default(1)
        .describe('pictures of each prompt, with the same seeds every time'),
      maxPrompts: count.default(32).describe('at most this many prompts'),
    })
    .prefault({})
    .describe('validation with fixed seeds; chooses the best checkpoint'),
  watch: z
    .strictObject({
      mode: z
        .enum(['off', 'log', 'stop'])
        .default('log')
        .describe(
          'log: an alarm when statistics of the validation pictures part from the reward; stop: end there and keep the best clean checkpoint',
        ),
      judge: singleRewardSchema.optional().describe('a reward that nothing is trained on, watched besides'),
    })
    .prefault({})
    .describe('looks for reward hacking at every validation'),
  checkpoint: z
    .strictObject({
      every: count.default(5).describe('epochs between checkpoints'),
      keep: count
        .default(2)
        .describe('how many of the newest are kept; the best by validation is kept besides'),
    })
    .prefault({}),
};
