/** Two models side by side: which of their pictures of the same prompt and noise a vision-language model prefers. */

import { type BothOrders, preferenceOf } from '../rewards/remote/vision.js';
import { type Measure, type Metric, meanOf } from './measures.js';
import { type JudgedPrompt, share, suite } from './suite.js';

export interface PairVerdict {
  /** Whose picture is preferred in both orders; neither where the answers contradict each other, or the pictures are equal. */
  better: 'first' | 'second' | 'neither';
  /** Undefined for pictures that are equal byte by byte, which nobody is asked about. */
  asked?: BothOrders;
}

/** Above this, so many pairs are ties, or so many answers choose one place, that it is said beside the numbers. */
const manyTies = 0.5;
const strongHabit = 0.1;

/** @param asked undefined for equal pictures */
export function pairVerdict(asked: BothOrders | undefined): PairVerdict {
  if (asked === undefined) return { better: 'neither' };
  const { shownFirst, shownSecond } = asked;
  if (shownFirst > 0.5 && shownSecond > 0.5) return { better: 'first', asked };
  if (shownFirst < 0.5 && shownSecond < 0.5) return { better: 'second', asked };
  return { better: 'neither', asked };
}

/**
 * - `pairWinRate`: share of pairs in which the first model's picture is preferred in both orders, ties counted half;
 * - `pairWins`, `pairTies`, `pairLosses`: the shares behind it;
 * - `pairPreference`: mean probability of being the better one, over both orders;
 * - `pairFirstPlace`: mean probability of choosing the picture that is shown first: 0.5 without a liking for a place.
 *
 * A pair whose answer could not be read does not count (null).
 */
export function pairMeasures(judged: readonly JudgedPrompt<PairVerdict | null>[]): Record<string, Measure> {
  const each = (value: (verdict: PairVerdict) => number | null) =>
    meanOf(judged.map(({ verdicts }) => verdicts.map((verdict) => verdict && value(verdict))));
  const is = (wanted: PairVerdict['better']) => each(({ better }) => share(better === wanted));
  return {
    pairWinRate: each(({ better }) => ({ first: 1, neither: 0.5, second: 0 })[better]),
    pairWins: is('first'),
    pairTies: is('neither'),
    pairLosses: is('second'),
    pairPreference: each(({ asked }) => preferenceOf(asked)),
    pairFirstPlace: each(({ asked }) => (asked ? (asked.shownFirst + 1 - asked.shownSecond) / 2 : null)),
  };
}

export const pairs = suite<PairVerdict | null>({
  description: 'which of the two models’ pictures the judge of --reward prefers, asked in both orders',
  judges: ['pairs'],
  file: 'may',
  sets: [{ set: 'eval-mixed', pictures: 2 }],
  compare: (batch, judges) => judges.preferred(batch),
  measure: pairMeasures,
  words: (_, verdict) => (verdict === null ? 'unreadable' : words[verdict.better]),
});

const words = { first: 'left preferred', second: 'right preferred', neither: 'tie' };

/** What the judge's habits leave of its numbers, in words; undefined where there is little to say. */
export function remarkOnJudge(metrics: Readonly<Record<string, Metric>>): string | undefined {
  const { pairTies, pairFirstPlace } = metrics;
  if (pairTies?.value == null) return undefined;
  const percent = (part: number) => `${Math.round(100 * part)} %`;
  const place = pairFirstPlace?.value;
  if (place == null) return 'pairs: the two models drew equal pictures: nobody was asked about them.';
  const habit =
    place != null && Math.abs(place - 0.5) > strongHabit
      ? `the judge chose the picture shown ${place > 0.5 ? 'first' : 'second'} in ${percent(Math.max(place, 1 - place))} of its answers`
      : '';
  const ties =
    pairTies.value > manyTies
      ? `${percent(pairTies.value)} of the pairs are ties: it tells little about these models`
      : '';
  const said = [habit, ties].filter((one) => one !== '').join('; ');
  return said === '' ? undefined : `pairs: ${said}. A pair counts only where both orders agree.`;
}
