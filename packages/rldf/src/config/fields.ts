/** Pieces of recipe schemas that methods share. Every field says its unit, range and, where there is one, the paper's value. */

import { nearest } from '@rldf/common/base/suggest';
import { nouns, promptSetNames, sceneKinds, splits } from '@rldf/emoji-world';
import { largestSeed, type Seed } from '@rldf/torch/seeds';
import { z } from 'zod';
import { detectedRewardSchema, textRewardSchema } from './detector-fields.js';
import { precisions } from './precision.js';
import { httpRewardSchema, visionRewardSchema } from './remote-fields.js';

/** A whole number from 1; beyond a million it is a slip of the pen that would fill the memory. */
export const count = z.int().min(1).max(1_000_000);
/** A number above 0. */
export const positive = z.number().positive();
/** A number above 0, at most 1. */
export const fraction = z.number().gt(0).max(1);
/** Two fractions, the lower one first. */
export const range = z
  .tuple([z.number().min(0).max(1), z.number().min(0).max(1)])
  .refine(([from, to]) => from < to, { error: 'must rise: the first number lies below the second' });

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
    .describe('Which of the disjoint prompt sets. All three share the prompts of kind `single`.'),
  kind: z.enum(sceneKinds).default('single').describe('Kind of scene.'),
  nouns: z
    .array(z.enum(nouns.map(({ name }) => name)))
    .min(1)
    .optional()
    .describe('Only scenes that contain no other nouns than these. By default, all nouns.'),
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
  group: z.string().min(1).optional().describe('Only this group of the set. By default, the whole set.'),
});

export const promptsSchema = z
  .union([z.string().min(1), z.array(z.string().min(1)).min(1), promptSetSchema, worldPromptsSchema], {
    error:
      'expected the path of a prompt file, a list of prompts, a named set such as { set: diffexp-animals }, or prompts of the world such as { split: train, kind: single }',
  })
  .describe(
    'A prompt file (.txt, .jsonl, .csv or .tsv), a list of prompts, a named set (`rldf ' +
      'prompts` lists them), or prompts of the built-in world by kind.',
  );
export type PromptsField = z.output<typeof promptsSchema>;

/** A prompt file's path made absolute; other kinds of prompts as they are. */
export const absolutePrompts = (prompts: PromptsField, absolute: (path: string) => string): PromptsField =>
  typeof prompts === 'string' ? absolute(prompts) : prompts;

/** Rewards that are published with weights of their own. */
export const publishedRewardNames = [
  'imagereward',
  'hpsv2.1',
  'hpsv2',
  'pickscore',
  'clip-score',
  'laion-aesthetic',
] as const;

export const publishedRewardSchema = z.strictObject({
  name: z
    .enum(publishedRewardNames)
    .describe('A reward that is published with weights of its own; `rldf rewards NAME` describes it.'),
  weights: z
    .string()
    .min(1)
    .optional()
    .describe(
      'Its weights: a file, a folder, or a repository of a hub. By default, the repository it ' +
        'was published in. `tiny` stands for random ones that ship with rldf, to try a recipe.',
    ),
  clip: z
    .string()
    .min(1)
    .optional()
    .describe('For `laion-aesthetic`: the CLIP ViT-L/14 that it reads, given as `weights` are.'),
  tokenizer: z
    .string()
    .min(1)
    .optional()
    .describe(
      'Folder of the tokenizer where there is none beside the weights: CLIP’s, or for ' +
        '`imagereward` that of bert-base-uncased.',
    ),
  activation: z
    .enum(['gelu', 'quick_gelu'])
    .optional()
    .describe(
      'Activation of a CLIP in a file without a configuration: `gelu` (the default), or ' +
        '`quick_gelu` for OpenAI’s own weights.',
    ),
});
export type PublishedReward = z.output<typeof publishedRewardSchema>;

/**
 * One reward: a built-in by name, one with published weights, a module of the user's own, people's ratings,
 * or what a server answers.
 */
export const singleRewardSchema = z.union(
  [
    z.string().min(1),
    publishedRewardSchema,
    z.strictObject({ module: z.string().min(1) }),
    z.strictObject({ ratings: z.string().min(1) }),
    httpRewardSchema,
    visionRewardSchema,
    detectedRewardSchema,
    textRewardSchema,
  ],
  {
    error:
      'expected the name of a built-in reward, { name: imagereward, weights: ./ImageReward.pt }, { module: ./my-reward.ts }, { ratings: ./ratings.csv }, { http: ADDRESS }, { vision: alignment, endpoint: ADDRESS, model: NAME }, { score: count, detector: human }, or { text: tesseract }',
  },
);

export type SingleReward = z.output<typeof singleRewardSchema>;

export const weightedRewardSchema = z.strictObject({
  reward: singleRewardSchema,
  weight: z
    .number()
    .optional()
    .describe(
      'Factor of this reward in the sum; it may be negative. By default 1, or 0 for a reward ' +
        'with a floor.',
    ),
  cap: z
    .number()
    .optional()
    .describe(
      'Scores above the cap count as the cap: min(r, cap), in the reward’s own unit, before ' +
        'normalising.',
    ),
  floor: z
    .union([z.number(), z.literal('base')], { error: 'expected a number, or base' })
    .optional()
    .describe(
      'Makes the reward a constraint: the other rewards are raised while the mean of this ' +
        'one stays at or above the floor, in its own unit. `base` stands for the mean of the ' +
        'model before training, sampled without exploring. The weight of this reward becomes a ' +
        'Lagrange multiplier (docs/guide-rewards.md).',
    ),
  floorRate: positive
    .optional()
    .describe(
      'How fast the multiplier follows a shortfall: how much it rises after an epoch whose ' +
        'mean is one standard deviation below the floor. By default 0.5.',
    ),
  normalise: z
    .enum(['none', 'batch', 'running', 'prompt'])
    .default('running')
    .describe(
      'How scores are normalised before they are added. `none` leaves them as they are, ' +
        '`batch` brings them to mean 0 and standard deviation 1 within an epoch, `running` ' +
        'does so over the whole run, `prompt` within the images of one prompt in an epoch (GDPO).',
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
      'expected a reward name, { name, weights }, { module: ./my-reward.ts }, { ratings: ./ratings.csv }, { http: ADDRESS }, { vision, endpoint, model }, or a list of { reward, weight, normalise, cap, floor }',
  })
  .describe(
    'The reward to raise: the name of a built-in reward (`rldf rewards` lists them), a ' +
      'module of your own, ratings, a server of your own, a vision-language model, or a list ' +
      'of weighted rewards.',
  );
export type RewardField = z.output<typeof rewardSchema>;

/** Trackers that people have. What each is told is in run/trackers.ts. */
export const trackerNames = ['tensorboard', 'wandb', 'trackio'] as const;

/** Height and width in pixels. */
const sizeSchema = z.tuple([count.max(16_384), count.max(16_384)]);

const precisionSchema = z.enum(precisions);

/** Fields of every method. */
export const commonFields = {
  version: z.literal(recipeVersion).default(recipeVersion).describe('Schema version of this file.'),
  name: z
    .string()
    .min(1)
    .optional()
    .describe('Name of the run folder. By default, the name of the recipe file and a number.'),
  model: z
    .string()
    .min(1)
    .default('emoji')
    .describe(
      'Name of a shipped model, a folder in diffusers layout, a .safetensors file, or an id of a ' +
        'hub: `owner/name[@revision][:variant]` (docs/models.md).',
    ),
  device: z
    .string()
    .regex(/^(cpu|cuda(:\d+)?)$/, 'expected cpu, cuda or cuda:N')
    .default('cpu')
    .describe('Where to compute: `cpu`, `cuda` or `cuda:N`.'),
  precision: z
    .union(
      [
        precisionSchema,
        z.strictObject({
          unet: precisionSchema.optional(),
          vae: precisionSchema.optional(),
          textEncoder: precisionSchema.optional(),
          textEncoder2: precisionSchema.optional(),
        }),
      ],
      {
        error:
          'expected float32, bfloat16 or float16, or one for each part, such as { unet: bfloat16, vae: float32 }',
      },
    )
    .optional()
    .describe(
      'What the model computes in: `float32` (the default), `bfloat16` or `float16`, for all ' +
        'parts or each (`{ unet, vae, textEncoder, textEncoder2 }`). Whatever learns, its ' +
        'optimiser and the latents stay float32 (docs/memory.md).',
    ),
  offload: z
    .boolean()
    .optional()
    .describe(
      'Whether text encoders, autoencoder and reward networks lie in the host’s memory while ' +
        'nothing is computed with them. For `device: cuda`; by default, no.',
    ),
  threads: count
    .max(1024)
    .optional()
    .describe(
      'Number of CPU threads. By default, all cores. A resumed run is identical bit for bit ' +
        'only with the same number of threads.',
    ),
  seed: seedSchema.default(0).describe('Seed of everything that is random, from 0 to 2^64 - 1.'),
  prompts: promptsSchema,
  reward: rewardSchema,
  longPrompts: z
    .enum(['cut', 'chunks'])
    .optional()
    .describe(
      'What happens to prompts that are longer than the text encoder accepts. `cut` (the ' +
        'default) cuts them off; `chunks` encodes them in pieces, as AUTOMATIC1111 does.',
    ),
  negativePrompt: z
    .string()
    .nullable()
    .default(null)
    .describe(
      'Negative prompt: the prompt of the unguided prediction. `null` is none, as in DDPO’s ' +
        'paper: the empty prompt, or zeros where the model was trained so (Stable Diffusion XL).',
    ),
  size: sizeSchema
    .optional()
    .describe(
      'Height and width of the images in pixels, such as `[768, 1344]`. By default, the size ' +
        'that the model was made for.',
    ),
  microConditioning: z
    .strictObject({
      originalSize: sizeSchema
        .optional()
        .describe('Height and width before it was scaled. By default, the size that is drawn.'),
      crop: z
        .tuple([z.int().min(0), z.int().min(0)])
        .optional()
        .describe('Pixels that were cut off above and to the left. By default, `[0, 0]`.'),
      targetSize: sizeSchema
        .optional()
        .describe('Height and width that were aimed at. By default, the size that is drawn.'),
    })
    .optional()
    .describe(
      'What Stable Diffusion XL is told of an image besides its prompt, as it learned it of its ' +
        'training images. By default, the size that is drawn, without a crop.',
    ),
  commercial: z
    .boolean()
    .optional()
    .describe(
      'Refuses to train, before anything is loaded, with a base model, reward, detector or ' +
        'prompts whose licence forbids commercial use or is not known. `rldf train ' +
        '--commercial` sets it.',
    ),
  licences: z
    .record(z.string(), z.string().min(1))
    .optional()
    .describe(
      'Licences that you know better than rldf does: of the `base` model, of `prompts`, or of a ' +
        'reward by its name.',
    ),
  report: z
    .strictObject({
      prompts: promptsSchema
        .optional()
        .describe('Prompts of the final comparison. By default, those of `evaluate`.'),
      picturesPerPrompt: count
        .max(1000)
        .default(1)
        .describe('Images for each prompt, sampled from the same noise before and after training.'),
      maxPrompts: count.default(32).describe('Largest number of prompts to use.'),
      checkpoint: z
        .enum(['best', 'last'])
        .default('best')
        .describe(
          'Which checkpoint is compared and exported: the best by validation, or the last. ' +
            'The best of many noisy validations is never worse than the start, so a table that ' +
            'compares methods should use the last.',
        ),
    })
    .prefault({})
    .describe(
      'The final comparison of the model before and after training. Use prompts that nothing ' +
        'was chosen by, such as `split: test`.',
    ),
  evaluate: z
    .strictObject({
      every: count.default(5).describe('Number of epochs between two evaluations.'),
      prompts: promptsSchema.optional().describe('Validation prompts. By default, the training prompts.'),
      picturesPerPrompt: count
        .max(1000)
        .default(1)
        .describe('Images for each prompt, with the same seeds at every evaluation.'),
      maxPrompts: count.default(32).describe('Largest number of prompts to use.'),
    })
    .prefault({})
    .describe('Validation with fixed seeds. It chooses the best checkpoint.'),
  watch: z
    .strictObject({
      mode: z
        .enum(['off', 'log', 'stop'])
        .default('log')
        .describe(
          'What to do when the statistics of the validation images diverge from the reward. ' +
            '`off` does not look, `log` raises an alarm, `stop` ends the training and keeps ' +
            'the best checkpoint before the alarm.',
        ),
      judge: singleRewardSchema
        .optional()
        .describe('A further reward to watch. It must not be one that is trained on.'),
    })
    .prefault({})
    .describe('Detects reward hacking at every validation.'),
  log: z
    .array(z.enum(trackerNames))
    .default(['tensorboard'])
    .describe(
      'Trackers that get the metrics too, besides `metrics.jsonl`: TensorBoard’s files with the ' +
        'validation images, Weights & Biases, trackio. The last two also write plain JSON lines ' +
        'into the run folder.',
    ),
  checkpoint: z
    .strictObject({
      every: count.default(5).describe('Number of epochs between two checkpoints.'),
      keep: count
        .default(2)
        .describe(
          'How many of the newest checkpoints are kept. The best one by validation is always ' +
            'kept as well.',
        ),
    })
    .prefault({}),
};
