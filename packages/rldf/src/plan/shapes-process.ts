/** A process with `RLDF_TORCH=shapes`: a question in JSON on standard input, the answer on standard output. */

import { readFileSync } from 'node:fs';
import type { Prompt } from '../prompts/prompts.js';
import type { Recipe } from '../recipe/recipe.js';
import type { Failure } from './ask-shapes.js';
import { type Fitted, fit } from './fit.js';
import { type PlannedModel, runMiniature } from './miniature.js';

export interface Question {
  recipe: Recipe;
  model: PlannedModel;
  prompts: Prompt[];
  /** Pictures of one evaluation. */
  evaluated: number;
  /** Bytes that libtorch's tensors may take. */
  limit?: number;
}

export type Answer = Fitted | Failure;

try {
  const { recipe, model, prompts, evaluated, limit } = JSON.parse(readFileSync(0, 'utf8')) as Question;
  const answer: Answer = await fit(recipe, limit, (changed) =>
    runMiniature(changed, model, prompts, evaluated),
  );
  process.stdout.write(JSON.stringify(answer));
} catch (error) {
  const { name, message, stack } = error as Error;
  const answer: Answer = {
    error: name === 'UserError' ? message : (stack ?? message),
    user: name === 'UserError',
  };
  process.stdout.write(JSON.stringify(answer));
}
