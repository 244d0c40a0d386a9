// From readings to numbers: pure functions of what one search left behind.

import { type Grammar, mean } from 'rldf';
import type { Input } from './inputs.js';
import { type Reading, shows } from './reader.js';
import type { Found } from './searched.js';

/** One number a search, by name; null where it does not apply. */
export type Measures = Record<string, number | null>;

const share = (hits: readonly boolean[]) => (hits.length === 0 ? null : mean(hits.map(Number)));

export function searchMeasures({ report, seconds }: Found, { noun, background }: Input): Measures {
  const { cost, found, measures, zeroSearch } = report;
  return {
    'noun right': Number(found.meanings.Noun === noun),
    'scene right': Number(found.meanings.Scene === background),
    'noun and scene right': Number(found.meanings.Noun === noun && found.meanings.Scene === background),
    'goal reached': Number(found.isGoal),
    'under 120 s': Number(seconds < 120),
    'seconds, whole command': seconds,
    'seconds to the goal': cost.untilGoal?.seconds ?? null,
    'pictures drawn to the goal': cost.untilGoal?.drawn ?? null,
    'distinct pictures looked at': found.isGoal ? measures.distinctPictures : null,
    'zero search shows objects and scene': Number(zeroSearch[0]!.matches),
  };
}

export function finalMeasures({ report, controlled, reseeded }: Found, grammar: Grammar) {
  const { diverse, reseeded: plain } = report.finals;
  const shown = (readings: readonly Reading[]) =>
    share(readings.map((reading) => shows(reading, 'Noun', report.found.meanings, grammar)));
  return {
    'class consistency, recogniser': { controlled: diverse.consistency, reseeded: plain.consistency },
    'class consistency, judge detector': { controlled: shown(controlled), reseeded: shown(reseeded) },
    'diversity, CLIP': { controlled: diverse.diversity, reseeded: plain.diversity },
    'diversity, style network': {
      controlled: diverse.judged?.diversity ?? null,
      reseeded: plain.judged?.diversity ?? null,
    },
  };
}

/** Half the summed difference of shares from equal ones: 0 when all values come equally often, 1 when none of them does. */
export function imbalance(seen: readonly string[], values: readonly string[]): number {
  const shareOf = (value: string) => seen.filter((one) => one === value).length / seen.length;
  const missed = seen.filter((one) => !values.includes(one)).length / seen.length;
  return values.reduce((sum, value) => sum + Math.abs(shareOf(value) - 1 / values.length), missed) / 2;
}

export function balanceMeasures({ balance }: Found, scenes: readonly string[], looks: readonly string[]) {
  const of = (readings: readonly Reading[]) => ({
    scene: imbalance(
      readings.map(({ scene }) => scene),
      scenes,
    ),
    look: imbalance(
      readings.map(({ style }) => style),
      looks,
    ),
  });
  const [controlled, silent] = [of(balance.controlled), of(balance.silent)];
  return {
    'imbalance of scenes': { controlled: controlled.scene, silent: silent.scene },
    'imbalance of looks': { controlled: controlled.look, silent: silent.look },
  };
}

/**
 * Of each slid axis: share of pictures that show it as asked, and mean share of the other axes as asked in pictures where it
 * was moved away from the found value; beside it what those axes have in pictures of the sentence itself.
 */
export function slideMeasures(
  { report, slides, reseeded }: Found,
  grammar: Grammar,
): Record<string, { values: number; moved: number; held: number; unmoved: number }> {
  const { meanings } = report.found;
  const axes = Object.keys(meanings);
  return Object.fromEntries(
    slides.map(({ axis, values, readings }) => {
      const others = axes.filter((other) => other !== axis);
      const asShown = (reading: Reading, value: string) => {
        const asked = { ...meanings, [axis]: value };
        return mean(others.map((other) => Number(shows(reading, other, asked, grammar))));
      };
      const start = meanings[axis] ?? values[0]!;
      const moved = values.map((value, i) =>
        Number(shows(readings[i]!, axis, { ...meanings, [axis]: value }, grammar)),
      );
      const held = values.flatMap((value, i) => (value === start ? [] : [asShown(readings[i]!, value)]));
      const unmoved = mean(reseeded.map((reading) => asShown(reading, start)));
      return [axis, { values: values.length, moved: mean(moved), held: mean(held), unmoved }];
    }),
  );
}

/** The input's style or art, as the style network sees it in the input and in pictures of the found sentence. */
export function ablationMeasures(
  { input, reseeded }: Found,
  { style, art, noun }: Input,
): { class: number; before: number; after: number } {
  const has = (reading: Reading) => Number(style === 'plain' ? reading.art === art : reading.style === style);
  return {
    class: mean(reseeded.map(({ objects }) => Number(objects[noun] !== undefined))),
    before: has(input),
    after: mean(reseeded.map(has)),
  };
}
