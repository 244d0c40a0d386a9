/**
 * Looks for reward hacking while a model trains: statistics of the validation pictures that are not optimised are
 * compared with those of before the training, drawn from the same noise. When they part further than they ever did in
 * clean runs while the reward rises, an alarm names the symptom and the last clean step.
 */

import type { Picture } from '@rldf/common/base/picture';
import { mean } from '@rldf/common/base/stats';
import { diversityOf, type PictureStatistic, pictureStatistics, statisticsOf } from './picture-statistics.js';
import thresholds from './thresholds.json' with { type: 'json' };

export type Watched = PictureStatistic | 'diversity' | 'judge';

/** What is watched, by name: plain statistics, and the scores of a judge if there is one. */
export type Observation = Partial<Record<Watched, number>>;

export interface Alarm {
  step: number;
  /** The last step that was looked at without an alarm. */
  lastCleanStep: number;
  symptoms: { name: Watched; change: number; allowed: readonly [number, number]; meaning: string }[];
}

/** What it means when a statistic leaves its range, downwards and upwards. */
const meanings: Record<Watched, readonly [down: string, up: string]> = {
  edgeDensity: ['pictures become smooth or empty', 'pictures fill with texture or noise'],
  colourEntropy: ['colours collapse to few', 'colours scatter'],
  saturation: ['colours fade', 'colours are over-saturated'],
  gridPeak: ['', 'a regular grid appears'],
  diversity: ['pictures begin to look alike', ''],
  judge: ['a judge that is not trained on finds the pictures worse', ''],
};

/** What it means that a statistic left its range; '' for names that nothing watches. */
export function meaningOf(name: string, rose: boolean): string {
  return Object.hasOwn(meanings, name) ? meanings[name as Watched][rose ? 1 : 0] : '';
}

export function observe(
  pictures: readonly Picture[],
  prompts: readonly string[],
  judged?: readonly number[],
): Observation {
  const each = pictures.map(statisticsOf);
  const means = pictureStatistics.map((name) => [name, mean(each.map((one) => one[name]))] as const);
  return {
    ...Object.fromEntries(means),
    diversity: diversityOf(pictures, prompts),
    ...(judged === undefined ? {} : { judge: mean(judged) }),
  };
}

/** The observation in a metrics row, where each name stands behind `watch/`. */
export function observationOf(row: Readonly<Record<string, unknown>>): Observation {
  const entries = Object.entries(row).flatMap(([key, value]) =>
    key.startsWith('watch/') && typeof value === 'number' ? [[key.slice('watch/'.length), value]] : [],
  );
  return Object.fromEntries(entries);
}

/**
 * How far a statistic moved: the natural logarithm of the ratio, which reads the same for all units; `judge`, whose
 * zero means nothing, by its plain difference.
 */
export function changeOf(name: Watched, start: number, now: number): number {
  if (name === 'judge') return now - start;
  const floor = 1e-3;
  return Math.log((now + floor) / (start + floor));
}

/** Follows one run. Steps are reported in order; a resumed run reports the first one again. */
export class HackWatch {
  #start: { reward: number; observation: Observation } | undefined;
  #lastCleanStep = 0;

  /** @returns an alarm, if what is watched has parted from the reward */
  report(step: number, reward: number, observation: Observation): Alarm | undefined {
    this.#start ??= { reward, observation };
    const symptoms = reward > this.#start.reward ? symptomsOf(this.#start.observation, observation) : [];
    if (symptoms.length > 0) return { step, lastCleanStep: this.#lastCleanStep, symptoms };
    this.#lastCleanStep = step;
    return undefined;
  }
}

function symptomsOf(start: Observation, now: Observation): Alarm['symptoms'] {
  return (Object.keys(meanings) as Watched[]).flatMap((name) => {
    const [from, to] = [start[name], now[name]];
    if (from === undefined || to === undefined) return [];
    const change = changeOf(name, from, to);
    const allowed = thresholds.allowed[name] as [number, number];
    const [down, up] = meanings[name];
    const meaning = change < allowed[0] ? down : change > allowed[1] ? up : '';
    return meaning === '' ? [] : [{ name, change, allowed, meaning }];
  });
}

export function describeAlarm({ step, lastCleanStep, symptoms }: Alarm): string {
  const what = symptoms.map(
    ({ meaning, name, change }) => `${meaning} (${name} ${change >= 0 ? '+' : ''}${change.toFixed(2)})`,
  );
  return `reward hacking? step ${step}: ${what.join('; ')} while the reward rises. Last clean step: ${lastCleanStep}`;
}
