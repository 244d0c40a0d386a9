/** The recipe of a run: one strict schema, told apart by `method:`. Each method's part lives in its own file. */

import { z } from 'zod';
import type { ArithmeticProblem } from '../config/batch-arithmetic.js';
import { type Explore, exploreProblems } from '../methods/diffexp-schema.js';
import { type MethodName, methodNames, methodOf, methods, type Recipe } from '../methods/index.js';
import { gradientProblems } from '../rewards/differentiable.js';

/** Every method's recipe schema, by the value of `method:`. */
export const methodSchemas = Object.fromEntries(
  Object.entries(methods).map(([name, method]) => [name, method.schema]),
) as { [Name in keyof typeof methods]: (typeof methods)[Name]['schema'] };

export { type MethodName, methodNames, type Recipe };

/** Mistakes between fields, for recipes whose fields are each valid by themselves. */
export function crossFieldProblems(recipe: Recipe): ArithmeticProblem[] {
  const problems = methodOf(recipe).problems(recipe);
  const { sample, train } = recipe;
  const { explore } = recipe as { explore?: Explore | null };
  if (explore != null) problems.push(...exploreProblems(explore, sample));
  if (train.unet === 'none' && train.textEncoder === 'none' && (train.textEncoder2 ?? 'none') === 'none') {
    problems.push({
      path: ['train'],
      message:
        'unet and textEncoder are both none — nothing would learn. Set train.unet: lora or train.textEncoder: lora',
    });
  }
  if (recipe.offload === true && recipe.device === 'cpu') {
    problems.push({
      path: ['offload'],
      message:
        'true with device: cpu — the host’s memory is the only one there is. Leave it out, or set device: cuda',
    });
  }
  if (train.warmup > 0 && problems.length === 0) {
    const { updates } = methodOf(recipe).plan.arithmetic(recipe);
    if (train.warmup >= updates) {
      problems.push({
        path: ['train', 'warmup'],
        message: `${train.warmup} of ${updates} updates — the learning rate would not reach its value before the end. Set it below ${updates}, or raise epochs`,
      });
    }
  }
  return problems;
}

/** Why a method cannot learn from a reward. */
export function rewardProblems(recipe: Pick<Recipe, 'method' | 'reward' | 'sample'>): ArithmeticProblem[] {
  const { method, reward } = recipe;
  return [
    ...(methodOf({ method }).followsReward === true ? gradientProblems(method, reward) : []),
    ...aloneProblems(recipe),
  ];
}

/** One picture of a prompt has no others of its prompt to be compared with: its normalised score is always 0. */
function aloneProblems({ reward, sample }: Pick<Recipe, 'reward' | 'sample'>): ArithmeticProblem[] {
  if (!Array.isArray(reward)) return [];
  return reward.flatMap(({ normalise }, i) =>
    normalise === 'prompt' && sample.picturesPerPrompt === 1
      ? [
          {
            path: ['reward', i, 'normalise'],
            message:
              'prompt compares pictures of the same prompt, and sample.picturesPerPrompt is 1 — every score would be 0. Raise it (GDPO takes groups of 4 to 24), or choose running',
          },
        ]
      : [],
  );
}

/** JSON Schema of recipes, for editors. */
export function recipeJsonSchema(): unknown {
  return z.toJSONSchema(z.union(Object.values(methodSchemas)), { io: 'input', unrepresentable: 'any' });
}
