/** Prompts from files and from the built-in world. */

import { readFileSync } from 'node:fs';
import { promptScenes } from '@rldf/emoji-world';
import { noiseKey, Random } from '@rldf/torch';
import type { PromptsField } from './config/fields.js';
import { UserError } from './errors.js';

export interface Prompt {
  text: string;
  /** The other fields of its `.jsonl` line, or its scene in the built-in world; handed to rewards. */
  meta: unknown;
}

/**
 * All prompts of a recipe's `prompts:`.
 * @throws UserError when the file is missing, holds no prompt, or a line is malformed
 */
export function loadPrompts(field: PromptsField): Prompt[] {
  if (typeof field === 'string') return readPromptFile(field);
  if (Array.isArray(field)) return field.map((text) => ({ text, meta: null }));
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
  options: { seed: number; epoch: number; promptsPerEpoch: number; picturesPerPrompt: number },
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

/** Text files hold one prompt a line (blank lines and those from # on are skipped), `.jsonl` one object with `prompt`. */
export function readPromptFile(path: string): Prompt[] {
  let text: string;
  try {
    text = readFileSync(path, 'utf8');
  } catch (error) {
    const missing = (error as NodeJS.ErrnoException).code === 'ENOENT';
    throw new UserError(
      `${path}: cannot read the prompts — ${missing ? 'there is no such file' : (error as Error).message}`,
    );
  }
  const lines = text.replace(/^\uFEFF/, '').split(/\r?\n/);
  const prompts = lines.flatMap((line, index): Prompt[] => {
    if (line.trim() === '') return [];
    if (!path.endsWith('.jsonl')) return line.startsWith('#') ? [] : [{ text: line.trim(), meta: null }];
    let value: unknown;
    try {
      value = JSON.parse(line);
    } catch (error) {
      throw new UserError(
        `${path}:${index + 1}: not JSON (${(error as Error).message}) — each line is one object`,
      );
    }
    const prompt = (value as { prompt?: unknown } | null)?.prompt;
    if (typeof prompt !== 'string' || prompt === '') {
      throw new UserError(
        `${path}:${index + 1}: no text under "prompt" — each line is one object such as {"prompt": "a cat"}`,
      );
    }
    const { prompt: _prompt, ...meta } = value as Record<string, unknown>;
    return [{ text: prompt, meta }];
  });
  if (prompts.length === 0) throw new UserError(`${path}: holds no prompt — write one a line`);
  return prompts;
}
