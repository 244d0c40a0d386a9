/** What a suite is: prompts, a judge that looks at their pictures, and pure functions from its verdicts to measures. */

import type { Picture } from '@rldf/common/base/picture';
import type { SetPrompt } from '@rldf/emoji-world';
import type { Detection } from '@rldf/models';
import type { Tensor } from '@rldf/torch';
import type { JudgeName, Judges } from './judges.js';
import type { Measure } from './measures.js';

/** A prompt of a frozen set, or of a file, with what that says besides. */
export interface EvalPrompt extends SetPrompt {
  meta?: unknown;
}

/** Pictures to be judged, each of its own prompt. */
export interface Looked {
  /** uint8 [B, H, W, 3] */
  images: Tensor;
  pictures: readonly Picture[];
  prompts: readonly EvalPrompt[];
  /** Number of each picture within its prompt. */
  numbers: readonly number[];
}

/** The pictures of two models, of the same prompts and noise. */
export interface LookedPairs {
  pairs: readonly (readonly [first: Picture, second: Picture])[];
  prompts: readonly EvalPrompt[];
}

/** A prompt with what the judge said about each of its pictures. */
export interface JudgedPrompt<Verdict> {
  prompt: SetPrompt;
  verdicts: readonly Verdict[];
}

export interface SuiteDefinition<Verdict> {
  /** What is asked, in one line. */
  description: string;
  /** Whose answer it is. */
  judges: readonly JudgeName[];
  /** Whether `--prompts FILE` is instead of its sets: it must be, or may be. */
  file?: 'must' | 'may';
  /** Its prompts, and how many pictures of each are drawn by default. */
  sets: readonly { set: string; pictures: number }[];
  look?(batch: Looked, judges: Judges): Promise<readonly Verdict[]> | readonly Verdict[];
  /** Instead of `look`: two models' pictures side by side. Its measures are of the first beside the second. */
  compare?(batch: LookedPairs, judges: Judges): Promise<readonly Verdict[]> | readonly Verdict[];
  measure(judged: readonly JudgedPrompt<Verdict>[]): Record<string, Measure>;
  /** A few words on a picture, for the contact sheet. */
  words(prompt: SetPrompt, verdict: Verdict): string;
  /** What is drawn into the picture on the contact sheet. */
  boxes?(verdict: Verdict): readonly Detection[];
}

/** A suite whose verdicts only it understands. */
export type Suite = SuiteDefinition<unknown>;

/** Hides the type of the verdicts: what `look` returns is handed back to the same suite. */
export function suite<Verdict>(definition: SuiteDefinition<Verdict>): Suite {
  return definition as unknown as Suite;
}

/** Whether something holds, as a value. */
export const share = (holds: boolean): number => (holds ? 1 : 0);
