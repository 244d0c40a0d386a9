/** Which prompts the suites ask for, and what a judge behind them will be asked. */

import { createHash } from 'node:crypto';
import { basename } from 'node:path';
import { promptSet, type SetPrompt } from '@rldf/emoji-world';
import { UserError } from '@rldf/torch/errors';
import { mostPictures } from '../base/counts.js';
import { readPromptFile } from '../prompts/prompt-files.js';
import { canTell, genevalTask } from '../rewards/geneval.js';
import { callsOf, callsOfPairs } from '../rewards/remote/cost.js';
import type { EvaluateOptions } from './evaluate.js';
import { suites } from './index.js';
import type { EvalPrompt } from './suite.js';

/** A set that is drawn once for all suites that ask for it. */
export interface SetPlan {
  set: string;
  hash: string;
  prompts: readonly EvalPrompt[];
  numbers: readonly number[];
  suites: string[];
}

export function plansOf(
  names: readonly string[],
  { pictures, seeds, maxPrompts, arms, prompts: file, onNotice }: EvaluateOptions,
  labels: readonly string[] | undefined,
): SetPlan[] {
  const plans = new Map<string, SetPlan>();
  for (const name of names) {
    for (const one of suites[name]!.sets) {
      const { pictures: own } = one;
      const from = suites[name]!.file;
      if (from === 'must' && file === undefined)
        throw new UserError(
          `suite ${name}: no prompt file is given — it asks what a file such as GenEval’s evaluation_metadata.jsonl says. Name it by --prompts`,
        );
      const told = from !== undefined && file !== undefined ? promptsIn(file) : promptSet(one.set);
      const known = suites[name]!.judges.includes('detector')
        ? tellable(name, told.prompts, labels)
        : told.prompts;
      if (known.length < told.prompts.length)
        onNotice?.(
          `${name}: ${known.length} of ${told.prompts.length} prompts name only what the detector knows; the others are left out`,
        );
      const prompts = known;
      const { hash } = told;
      const set =
        known.length < told.prompts.length ? `${told.name}, as far as the detector knows` : told.name;
      const each = seeds?.length ?? pictures ?? own;
      const asked = prompts.slice(0, maxPrompts).length * each * arms.length;
      if (asked > mostPictures)
        throw new UserError(
          `suite ${name}: ${each} pictures of each prompt are ${asked} in all — at most ${mostPictures} in one evaluation. Give fewer with --pictures or --max-prompts`,
        );
      const numbers = seeds ?? Array.from({ length: each }, (_, number) => number);
      const plan: SetPlan = plans.get(set) ?? {
        set,
        hash,
        prompts: prompts.slice(0, maxPrompts),
        numbers,
        suites: [],
      };
      plan.suites.push(name);
      plans.set(set, plan);
    }
  }
  return [...plans.values()];
}

/** The prompts of a file, with what it says besides. */
function promptsIn(file: string): { name: string; prompts: EvalPrompt[]; hash: string } {
  const prompts = readPromptFile(file).map(
    ({ text, meta }): EvalPrompt => ({ prompt: text, meta, group: '', scene: nothing }),
  );
  const hash = createHash('sha256').update(JSON.stringify(prompts.map(({ prompt, meta }) => [prompt, meta]))).digest('hex'); // biome-ignore format: one thought
  return { name: basename(file), prompts, hash };
}

/** What stands for a scene where there is none: a prompt file says in `meta` what is asked. */
const nothing = { objects: [] } as unknown as SetPrompt['scene'];

/** The prompts that name only what a detector knows. @throws UserError if there is none */
function tellable(
  suite: string,
  prompts: readonly EvalPrompt[],
  labels: readonly string[] | undefined,
): readonly EvalPrompt[] {
  if (labels === undefined) return prompts;
  const known = new Set<string>(labels);
  const told = prompts.filter(({ scene, meta, prompt }) =>
    meta === undefined
      ? scene.objects.every(({ noun }) => known.has(noun)) && scene.activity === undefined
      : canTell(genevalTask(meta, prompt), { labels }),
  );
  if (told.length > 0) return told;
  throw new UserError(
    `suite ${suite}: none of its ${prompts.length} prompts names only what the detector knows (${labels.slice(0, 6).join(', ')}, ...) — nothing could be judged. Leave the suite out, or give another --detector`,
  );
}

/** What a vision judge will be asked at most, told before anything is drawn. */
export function callsIn(plans: readonly SetPlan[], { reward, arms }: EvaluateOptions): string[] {
  if (reward === undefined) return [];
  const picturesOf = (suite: string) =>
    plans
      .filter(({ suites }) => suites.includes(suite))
      .reduce((sum, { prompts, numbers }) => sum + prompts.length * numbers.length, 0);
  const [scored, paired] = [picturesOf('reward') * arms.length, picturesOf('pairs')];
  return [
    ...(scored === 0 ? [] : callsOf(reward, scored)),
    ...(paired === 0 ? [] : callsOfPairs(reward, paired)),
  ];
}
