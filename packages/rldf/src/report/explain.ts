/** Why a reward rose, stalled or fell: rules of thumb on a run's metrics and recipe, each with its numbers and one change to try. */

import { readFileSync } from 'node:fs';
import { parseYaml } from '@rldf/common/base/exact';
import { mean, quantile, standardDeviation } from '@rldf/common/base/stats';
import { risingLoss } from '../base/rising-loss.js';
import { type MetricsRow, readMetrics } from '../run/metrics.js';
import type { Run } from '../run/run.js';
import { curveMetrics } from './report.js';

export interface Finding {
  /** What is seen, in plain words. */
  what: string;
  /** The numbers it is seen by. */
  evidence: string;
  /** One change to try. */
  change: string;
}

export interface Explanation {
  /** What is judged. */
  curve: 'reward' | 'training loss';
  outcome: 'rose' | 'stalled' | 'fell' | 'rose, then fell' | 'too short to tell';
  evidence: string;
  findings: Finding[];
}

/** Mean |advantage| of normally spread rewards; far below it, pictures of a prompt hardly differ. */
const NORMAL_ADVANTAGE = 0.8;
const limits = {
  /** Epochs below which a trend means nothing. */
  epochs: 4,
  /** t of the trend's slope. */
  trend: 2,
  advantage: 0.25 * NORMAL_ADVANTAGE,
  clipFraction: { high: 0.3, low: 0.005 },
  klGrowth: 10,
  spreadLeft: 0.3,
  rolloutSteps: 8,
  gradientClipped: 0.8,
  gradientSpike: 20,
  agreements: 10,
  updates: 20,
  validationShare: 0.3,
  risingUpdates: 200,
  risingRows: 16,
  learningRate: 5e-3,
} as const;

/** Explains a pre-training by its folder: whether its loss falls. */
export function explainPretraining(metricsPath: string): Explanation {
  const rows = readMetrics(metricsPath);
  const run = new Reading(rows, {});
  const { outcome, evidence } = outcomeOf(run, 'loss', 'updates');
  return {
    curve: 'training loss',
    outcome,
    evidence,
    findings: [notFinite, lossRises].flatMap((rule) => rule(run, outcome) ?? []),
  };
}

/** Explains a run by its folder. */
export function explainRun(run: Run): Explanation {
  return explain(readMetrics(run.metricsPath), parseYaml(readFileSync(run.recipePath, 'utf8')));
}

/**
 * Explains a run by its rows and its recipe. Metrics and fields that a method does not have are passed over.
 * @param recipe as in `recipe.yaml`, all defaults filled in
 */
export function explain(rows: readonly MetricsRow[], recipe: unknown): Explanation {
  const run = new Reading(rows, recipe);
  const { outcome, evidence } = outcomeOf(run);
  return { curve: 'reward', outcome, evidence, findings: rules.flatMap((rule) => rule(run, outcome) ?? []) };
}

/** The explanation as text for a terminal. */
export function explanationText({ curve, outcome, evidence, findings }: Explanation): string {
  const lines = findings.map(
    ({ what, evidence: seen, change }, index) =>
      `\n${index + 1}. ${what}\n   seen by  ${seen}\n   try      ${change}\n`,
  );
  const none = '\nNothing stands out. Compare with another seed: `rldf report RUN RUN` overlays them.\n';
  return `The ${curve} ${outcome === 'too short to tell' ? 'curve is too short to tell' : outcome}: ${evidence}.\n${lines.length === 0 ? none : lines.join('')}`;
}

type Outcome = Explanation['outcome'];
type Rule = (run: Reading, outcome: Outcome) => Finding | undefined;

/** A run's numbers by name. */
class Reading {
  constructor(
    readonly rows: readonly MetricsRow[],
    readonly recipe: unknown,
  ) {}

  /** The finite values of a metric, with their steps. */
  series(name: string): { step: number; value: number }[] {
    return this.rows.flatMap((row) => {
      const value = row[name];
      return typeof value === 'number' ? [{ step: row.step, value }] : [];
    });
  }

  values(name: string): number[] {
    return this.series(name).map(({ value }) => value);
  }

  /** A number of the recipe by its dotted path. */
  field(path: string): number | undefined {
    let value: unknown = this.recipe;
    for (const key of path.split('.')) value = (value as Record<string, unknown> | null | undefined)?.[key];
    return typeof value === 'number' ? value : undefined;
  }
}

function outcomeOf(
  run: Reading,
  name: string = curveMetrics.training,
  unit = 'epochs',
): { outcome: Outcome; evidence: string } {
  const reward = run.series(name);
  const validation = run.values(curveMetrics.validation);
  const seenOn = validation.length < 2 ? '' : `; validation ${arrow(validation[0]!, validation.at(-1)!)}`;
  if (reward.length < limits.epochs) {
    return { outcome: 'too short to tell', evidence: `${reward.length} ${unit}${seenOn}` };
  }
  const values = reward.map(({ value }) => value);
  const { start, end, t } = trend(values);
  const evidence = `${name} ${arrow(start, end)} by its trend over ${reward.length} ${unit} (t ${t.toFixed(1)})${seenOn}`;
  const peak = peakOf(values);
  if (peak !== undefined) {
    const { step } = reward[peak.index]!;
    return {
      outcome: 'rose, then fell',
      evidence: `${name} ${arrow(peak.start, peak.top)} until about ${unit.replace(/s$/, '')} ${step}, then down to ${short(peak.end)}${seenOn}`,
    };
  }
  return { outcome: t > limits.trend ? 'rose' : t < -limits.trend ? 'fell' : 'stalled', evidence };
}

/** Straight line by least squares: its ends, and slope over its standard error. */
function trend(values: readonly number[]): { start: number; end: number; t: number } {
  const n = values.length;
  const middle = (n - 1) / 2;
  const centre = mean(values);
  const squares = values.reduce((sum, _, i) => sum + (i - middle) ** 2, 0);
  const slope = values.reduce((sum, value, i) => sum + (i - middle) * (value - centre), 0) / squares;
  const rest = values.reduce((sum, value, i) => sum + (value - centre - slope * (i - middle)) ** 2, 0);
  const error = Math.sqrt(rest / Math.max(1, n - 2) / squares);
  const t = slope === 0 ? 0 : error === 0 ? Math.sign(slope) * Number.POSITIVE_INFINITY : slope / error;
  return { start: centre - slope * middle, end: centre + slope * middle, t };
}

/** A rise that was lost again by more than half, both well above the epochs' scatter. */
function peakOf(
  values: readonly number[],
): { index: number; start: number; top: number; end: number } | undefined {
  const width = Math.max(2, Math.round(values.length / 5));
  if (values.length < 3 * width) return undefined;
  const smooth = values.slice(0, values.length - width + 1).map((_, i) => mean(values.slice(i, i + width)));
  const top = Math.max(...smooth);
  const [start, end] = [smooth[0]!, smooth.at(-1)!];
  const jumps = values.slice(1).map((value, i) => value - values[i]!);
  const scatter = jumps.length < 2 ? 0 : standardDeviation(jumps) / Math.sqrt(width);
  if (top === start || top - start < 2 * scatter || top - end < 2 * scatter || top - end < (top - start) / 2)
    return undefined;
  return { index: smooth.indexOf(top) + (width >> 1), start, top, end };
}

/** Losses that should fall whatever is drawn: those of policies and rewards need not. */
const FALLING = ['loss', 'loss/denoising', 'loss/pretraining', 'value/meanSquareError'];

const notFinite: Rule = ({ rows }) => {
  for (const row of rows) {
    const found = Object.entries(row).find(
      ([, value]) => value === 'NaN' || value === 'Infinity' || value === '-Infinity',
    );
    if (found !== undefined) {
      return {
        what: 'A metric is no longer a finite number: training has diverged.',
        evidence: `${found[0]} is ${String(found[1])} at epoch ${row.step}`,
        change: 'divide train.learningRate by 10 and start again',
      };
    }
  }
  return undefined;
};

const lossRises: Rule = (run) => {
  const updates = (run.field('train.updatesPerEpoch') ?? 1) * (run.field('train.innerEpochs') ?? 1);
  for (const name of FALLING) {
    const series = run.series(name);
    const steps = (series.at(-1)?.step ?? 0) - (series[0]?.step ?? 0);
    const rise =
      steps * updates < limits.risingUpdates
        ? undefined
        : risingLoss(
            series.map(({ value }) => value),
            limits.risingRows,
          );
    if (rise === undefined) continue;
    return {
      what: 'The training loss rises: what is learned makes the network worse at what it is trained for.',
      evidence: `${name} ${arrow(rise.from, rise.to)} over ${steps * updates} updates (medians of the first and last eighth)`,
      change: `divide the learning rate by 3${now(run, 'train.learningRate')}; if it rises still, something is wrong with data or gradients`,
    };
  }
  return undefined;
};

const rules: Rule[] = [
  notFinite,
  lossRises,

  function noSpread(run) {
    const advantages = run.values('advantage/meanAbsolute');
    const spread = run.values('reward/std');
    if (isConstant(run)) {
      return {
        what: 'Every picture gets the same reward, so no picture is better than another and nothing can be learned.',
        evidence: `reward/std is at most ${short(Math.max(...spread))}`,
        change:
          'look at the reward on a few pictures by hand; it may fail silently or be constant on these prompts',
      };
    }
    if (advantages.length === 0 || median(advantages) >= limits.advantage) return undefined;
    return {
      what: 'The pictures of a prompt hardly differ in reward: there is no spread in the groups to learn from.',
      evidence: `median advantage/meanAbsolute ${short(median(advantages))} (about ${NORMAL_ADVANTAGE} where rewards spread)`,
      change: `raise sample.picturesPerPrompt${now(run, 'sample.picturesPerPrompt')}, or take prompts at which the model sometimes succeeds and sometimes fails`,
    };
  },

  function saturated(run) {
    const spread = run.values('reward/std');
    const reward = run.values(curveMetrics.training);
    if (spread.length < limits.epochs || reward.length < limits.epochs) return undefined;
    const [first, last] = [mean(firstThird(spread)), mean(lastThird(spread))];
    const [before, after] = [mean(firstThird(reward)), mean(lastThird(reward))];
    if (after < before || first <= 0 || last > limits.spreadLeft * first) return undefined;
    return {
      what: 'The reward is nearly used up: almost all pictures now get the same, high reward.',
      evidence: `reward/std fell ${arrow(first, last)} while ${curveMetrics.training} went ${arrow(before, after)} (first and last third)`,
      change: 'train on harder prompts, or add a second reward that still tells pictures apart',
    };
  },

  function clipped(run) {
    const fractions = run.values('policy/clipFraction');
    if (fractions.length === 0 || mean(fractions) < limits.clipFraction.high) return undefined;
    return {
      what: 'Most pictures leave the clip range, where they teach nothing more: the steps are too large.',
      evidence: `policy/clipFraction ${percent(mean(fractions))} on average`,
      change: `halve train.learningRate${now(run, 'train.learningRate')} or train.updatesPerEpoch${now(run, 'train.updatesPerEpoch')}`,
    };
  },

  function tooSmallSteps(run, outcome) {
    if (outcome !== 'stalled' || !hardlyMoves(run) || isConstant(run)) return undefined;
    return {
      what: 'The policy hardly moves: no picture comes near the clip range.',
      evidence: `policy/clipFraction ${percent(mean(run.values('policy/clipFraction')))} on average`,
      change: `multiply train.learningRate${now(run, 'train.learningRate')} by 10, until a few per cent are clipped`,
    };
  },

  function drifting(run, outcome) {
    const kl = run.values('policy/approxKl').filter((value) => value > 0);
    if (outcome === 'rose' || kl.length < limits.epochs) return undefined;
    const [first, last] = [median(firstThird(kl)), median(lastThird(kl))];
    if (last < limits.klGrowth * first) return undefined;
    return {
      what: 'Each epoch moves the policy further than the one before, and not towards the reward: it is drifting away.',
      evidence: `median policy/approxKl grew ${(last / first).toFixed(0)} times, ${arrow(first, last)} (first and last third)`,
      change: `halve train.learningRate${now(run, 'train.learningRate')}, or leave out inner epochs`,
    };
  },

  function largeRate(run, outcome) {
    const rate = run.field('train.learningRate');
    if (
      outcome === 'rose' ||
      outcome === 'too short to tell' ||
      rate === undefined ||
      rate < limits.learningRate
    )
      return undefined;
    return {
      what: 'The learning rate is high; whether such a run succeeds depends on its seed.',
      evidence: `train.learningRate ${rate} (the default is 1e-3, the paper’s 3e-4 for LoRA)`,
      change: `set train.learningRate to ${short(rate / 3)}, with more epochs; or run other seeds and overlay them with rldf report`,
    };
  },

  function shortRollouts(run, outcome) {
    const steps = run.field('sample.steps');
    if (outcome === 'rose' || steps === undefined) return undefined;
    const trained = Math.ceil(steps * (run.field('train.timestepFraction') ?? 1));
    if (steps >= limits.rolloutSteps && trained > 2) return undefined;
    return {
      what: 'Rollouts are too short: with so few denoising steps pictures are poor and each step is a blunt decision.',
      evidence: `sample.steps ${steps}, ${trained} of them learned from (paper: 50)`,
      change: 'set sample.steps to 10 or more',
    };
  },

  function gradientCut(run) {
    const norms = run.values('gradient/norm');
    const limit = run.field('train.maxGradNorm');
    if (norms.length < limits.epochs || limit === undefined) return undefined;
    const middle = median(norms);
    const cut = norms.filter((norm) => norm > limit).length / norms.length;
    if (cut >= limits.gradientClipped) {
      return {
        what: 'Nearly every update is cut by gradient clipping, so its size says nothing any more.',
        evidence: `gradient/norm above train.maxGradNorm ${limit} in ${percent(cut)} of epochs, median ${short(middle)}`,
        change: `set train.maxGradNorm near ${short(middle)}, or draw more pictures an update`,
      };
    }
    const spike = run.series('gradient/norm').reduce((a, b) => (b.value > a.value ? b : a));
    if (middle <= 0 || spike.value < limits.gradientSpike * middle || spike.value > limit) return undefined;
    return {
      what: 'One update was far larger than all others and was not cut.',
      evidence: `gradient/norm ${short(spike.value)} at epoch ${spike.step}, median ${short(middle)}, train.maxGradNorm ${limit}`,
      change: `set train.maxGradNorm to ${short(3 * middle)}`,
    };
  },

  function gradientsDisagree(run, outcome) {
    const agreements = run.values('gradient/agreement');
    if (outcome === 'rose' || agreements.length < limits.agreements) return undefined;
    const centre = mean(agreements);
    const error = standardDeviation(agreements) / Math.sqrt(agreements.length);
    if (centre > 2 * error) return undefined;
    const guidance = run.field('sample.guidanceScale');
    const guided = run.values('policy/approxKl').length > 0 && Number(guidance) > 1; // docs/results/policy-signal.md
    const lower = guided ? `draw with less guidance, or none (sample.guidanceScale, now ${guidance}), ` : '';
    return {
      what: 'The steps are noise: what some updates learned, the next one does not confirm on other pictures.',
      evidence: `gradient/agreement (cosine with the mean of the gradients before) ${short(centre)} ± ${short(error)} over ${agreements.length} epochs`,
      change: `${lower}draw more pictures an update (sample.picturesPerPrompt${now(run, 'sample.picturesPerPrompt')}, fewer train.updatesPerEpoch${now(run, 'train.updatesPerEpoch')}), on fewer prompts, or train fewer weights (train.rank${now(run, 'train.rank')})`,
    };
  },

  function noGradient(run) {
    const norms = run.values('gradient/norm');
    if (norms.length === 0 || Math.max(...norms) > 1e-9 || isConstant(run)) return undefined;
    return {
      what: 'No gradient reaches the weights in training.',
      evidence: `gradient/norm at most ${short(Math.max(...norms))}`,
      change: 'check train.targets and what is trained (train.unet, train.textEncoder)',
    };
  },

  function gap(run) {
    const reward = run.values(curveMetrics.training);
    const validation = run.values(curveMetrics.validation);
    if (reward.length < limits.epochs || validation.length < 2) return undefined;
    const { start, end, t } = trend(reward);
    if (t <= limits.trend) return undefined;
    const [before, after] = [validation[0]!, validation.at(-1)!];
    if (after - before >= limits.validationShare * (end - start)) return undefined;
    const prompts = run.field('sample.promptsPerEpoch');
    return {
      what: 'The reward rises on training pictures but not on validation: what is learned does not carry over.',
      evidence: `${curveMetrics.training} ${arrow(start, end)}, ${curveMetrics.validation} ${arrow(before, after)}`,
      change: `train on more different prompts${prompts === undefined ? '' : ` (${prompts} an epoch now)`}, and validate at the guidance and steps of training`,
    };
  },

  function noisy(run, outcome) {
    const spread = run.values('reward/std');
    const pictures =
      (run.field('sample.promptsPerEpoch') ?? 0) * (run.field('sample.picturesPerPrompt') ?? 0);
    const reward = run.values(curveMetrics.training);
    if (outcome !== 'stalled' || spread.length === 0 || pictures === 0 || hardlyMoves(run)) return undefined;
    const error = mean(spread) / Math.sqrt(pictures);
    const { start, end } = trend(reward);
    if (Math.abs(end - start) > 2 * error || error === 0) return undefined;
    return {
      what: 'What changed is smaller than the scatter of one epoch’s mean: this many pictures cannot show it.',
      evidence: `trend ${short(end - start)}, standard error of an epoch’s mean ${short(error)} (${pictures} pictures, spread ${short(mean(spread))})`,
      change:
        'draw more pictures an epoch (sample.promptsPerEpoch, sample.picturesPerPrompt), or train for more epochs',
    };
  },

  function fewUpdates(run) {
    const updates = run.field('train.updatesPerEpoch');
    const epochs = run.rows.filter(({ step }) => step > 0).length;
    if (updates === undefined || epochs === 0) return undefined;
    const done = epochs * updates * (run.field('train.innerEpochs') ?? 1);
    if (done >= limits.updates) return undefined;
    return {
      what: 'There were only a few updates.',
      evidence: `${done} optimiser steps in ${epochs} epochs`,
      change: `continue with \`rldf resume RUN --set epochs=${Math.max(4, Math.ceil((limits.updates * epochs) / done)) * 2}\``,
    };
  },

  function unfinished(run) {
    const epochs = run.field('epochs');
    const last = run.rows.at(-1)?.step ?? 0;
    if (epochs === undefined || last >= epochs) return undefined;
    return {
      what: 'The run has not come to its end.',
      evidence: `epoch ${last} of ${epochs}`,
      change: 'continue it with `rldf resume RUN`',
    };
  },
];

/** Whether every picture got the same reward. */
function isConstant(run: Reading): boolean {
  const spread = run.values('reward/std');
  return spread.length > 0 && Math.max(...spread) < 1e-9;
}

/** Whether the policy stayed where it was. */
function hardlyMoves(run: Reading): boolean {
  const fractions = run.values('policy/clipFraction');
  return fractions.length > 0 && mean(fractions) <= limits.clipFraction.low;
}

/** A third of a list, at least one of it. */
const firstThird = (values: readonly number[]) => values.slice(0, Math.max(1, Math.floor(values.length / 3)));
const lastThird = (values: readonly number[]) => values.slice(-Math.max(1, Math.floor(values.length / 3)));

const median = (values: readonly number[]) =>
  quantile(
    [...values].sort((a, b) => a - b),
    0.5,
  );
const short = (value: number) => String(Number(value.toPrecision(3)));
const percent = (share: number) => `${(100 * share).toFixed(1)} %`;
const arrow = (from: number, to: number) => `${short(from)} -> ${short(to)}`;

/** The recipe's value, in words. */
function now(run: Reading, path: string): string {
  const value = run.field(path);
  return value === undefined ? '' : ` (now ${value})`;
}
