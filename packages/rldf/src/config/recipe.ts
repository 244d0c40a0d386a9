/** The recipe of a run: one strict schema, told apart by `method:`. Each method's part lives in its own file. */

import { z } from 'zod';
import { methods } from '../methods/index.js';
import { type ArithmeticProblem, batchProblems } from './batch-arithmetic.js';

/** Every method's recipe schema, by the value of `method:`. */
export const methodSchemas = Object.fromEntries(
  Object.entries(methods).map(([name, method]) => [name, method.schema]),
) as { [Name in keyof typeof methods]: (typeof methods)[Name]['schema'] };

export type MethodName = keyof typeof methods;
export type Recipe = z.output<(typeof methodSchemas)[MethodName]>;

export const methodNames = Object.keys(methods) as MethodName[];

/** Mistakes between fields, for recipes whose fields are each valid by themselves. */
export function crossFieldProblems(recipe: Pick<Recipe, 'epochs' | 'sample' | 'train'>): ArithmeticProblem[] {
  const problems = batchProblems(recipe);
  const { train } = recipe;
  const given = [train.clipNats, train.clipMeanLogProb].filter((clip) => clip !== undefined).length;
  if (train.estimator === 'is' && given !== 1) {
    problems.push({
      path: ['train'],
      message: `${given === 0 ? 'neither' : 'both'} of clipNats and clipMeanLogProb given — the importance-sampling clip needs exactly one. Set train.clipNats: 1.5, or train.clipMeanLogProb: 1e-4 to copy the paper's code`,
    });
  }
  const { bufferSize, minimumCount } = train.promptStatistics;
  if (minimumCount > bufferSize) {
    problems.push({
      path: ['train', 'promptStatistics', 'minimumCount'],
      message: `${minimumCount} rewards are needed, but only bufferSize: ${bufferSize} are remembered — no prompt would ever be judged by its own. Set it to at most ${bufferSize}`,
    });
  }
  if (train.klWeight > 0 && (train.unet === 'full' || train.textEncoder === 'full')) {
    problems.push({
      path: ['train', 'klWeight'],
      message: `${train.klWeight}, but all weights of a network learn — the policy before is what is left without the adapters. Set unet and textEncoder to lora or none, or klWeight: 0`,
    });
  }
  if (train.unet === 'none' && train.textEncoder === 'none') {
    problems.push({
      path: ['train'],
      message:
        'unet and textEncoder are both none — nothing would learn. Set train.unet: lora or train.textEncoder: lora',
    });
  }
  return problems;
}

/** JSON Schema of recipes, for editors. */
export function recipeJsonSchema(): unknown {
  return z.toJSONSchema(z.union(Object.values(methodSchemas)), { io: 'input', unrepresentable: 'any' });
}
