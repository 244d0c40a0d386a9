/** Prompts from files and from the built-in world. */

import { didYouMean } from '@rldf/common/base/suggest';
import { type PromptSet, promptScenes, promptSet, promptSetNames } from '@rldf/emoji-world';
import { noiseKey, Random, type Seed } from '@rldf/torch';
import { UserError } from '@rldf/torch/errors';
import type { PromptsField } from '../config/fields.js';
import { readPromptFile } from './prompt-files.js';

export { readPromptFile };

export interface Prompt {
  text: string;
  /** What its file says besides (other fields or columns), or its scene in the built-in world; handed to rewards. */
  meta: unknown;
}

/**
 * All prompts of a recipe's `prompts:`.
 * @throws UserError when the file is missing, holds no prompt, or a line is malformed
 */
export function loadPrompts(field: PromptsField): Prompt[] {
  if (typeof field === 'string') return readPromptFile(field);
  if (Array.isArray(field)) return field.map((text) => ({ text, meta: null }));
  if ('set' in field) return promptsOfSet(field.set, field.group);
  const { split, kind, nouns } = field;
  const allowed = nouns === undefined ? undefined : new Set<string>(nouns);
  const scenes = promptScenes(split, kind).filter(
    ({ scene }) => allowed === undefined || scene.objects.every(({ noun }) => allowed.has(noun)),
  );
  if (scenes.length === 0) {
    throw new UserError(
      `prompts: no ${kind} scene of the ${split} split consists of ${nouns?.join(', ')} only — name more nouns, or another kind`,
    );
  }
  return scenes.map(({ prompt, scene }) => ({ text: prompt, meta: scene }));
}

/** A frozen set of the built-in world. @throws UserError naming the sets there are */
export function namedSet(name: string): PromptSet {
  if (promptSetNames.includes(name)) return promptSet(name);
  throw new UserError(
    `prompts: there is no set ${name} — there are ${promptSetNames.join(', ')}${didYouMean(name, promptSetNames)}`,
  );
}

function promptsOfSet(name: string, group: string | undefined): Prompt[] {
  const { prompts } = namedSet(name);
  const chosen = group === undefined ? prompts : prompts.filter((prompt) => prompt.group === group);
  if (chosen.length === 0) {
    const groups = [...new Set(prompts.map((prompt) => prompt.group))].filter((found) => found !== '');
    throw new UserError(
      `prompts: the set ${name} has no group "${group}" — ${groups.length === 0 ? 'it has no groups. Leave `group` out' : `it has ${groups.slice(0, 8).join(', ')}${groups.length > 8 ? ', ...' : ''}`}`,
    );
  }
  return chosen.map(({ prompt, scene }) => ({ text: prompt, meta: scene }));
}

/** The first `most` prompts, each `times` times in a row. */
export function repeatPrompts(prompts: readonly Prompt[], most: number, times: number): Prompt[] {
  return prompts.slice(0, most).flatMap((prompt) => Array.from({ length: times }, () => prompt));
}

/** A picture to be drawn in an epoch. */
export interface EpochPrompt {
  prompt: Prompt;
  /** Number of the prompt within the epoch, and of the picture within the prompt. */
  path: [number, number];
}

/** The prompts of an epoch, each picture on its own: shuffled passes through all prompts, as many as it takes. */
export function promptsOfEpoch(
  prompts: readonly Prompt[],
  options: { seed: Seed; epoch: number; promptsPerEpoch: number; picturesPerPrompt: number },
): EpochPrompt[] {
  const { seed, epoch, promptsPerEpoch, picturesPerPrompt } = options;
  const passes = Math.ceil(promptsPerEpoch / prompts.length);
  const shuffled = Array.from({ length: passes }, (_, pass) =>
    new Random(noiseKey(seed, 'prompts', epoch, pass)).shuffle(prompts),
  ).flat();
  return shuffled
    .slice(0, promptsPerEpoch)
    .flatMap((prompt, p) =>
      Array.from(
        { length: picturesPerPrompt },
        (_, picture): EpochPrompt => ({ prompt, path: [p, picture] }),
      ),
    );
}
