import { mkdtempSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { expect, test } from 'vitest';
import type { MetricsRow } from '../run/metrics.js';
import { openRun } from '../run/run.js';
import { explain, explainPretraining, explainRun, explanationText } from './explain.js';

// Real short runs: two seeds of the quickstart, and three of a tiny model that were made to fail.
const stored = (name: string) =>
  explainRun(openRun(name, fileURLToPath(new URL('./stored-runs', import.meta.url))));
const firstWords = (findings: readonly { what: string }[]) => findings.map(({ what }) => what.slice(0, 24));

const healthy = {
  epochs: 12,
  sample: { steps: 10, promptsPerEpoch: 16, picturesPerPrompt: 4 },
  train: { learningRate: 1e-3, updatesPerEpoch: 2, innerEpochs: 1, maxGradNorm: 1, timestepFraction: 1 },
};
/** Twelve epochs of a reward, with ordinary metrics beside it; `of` changes them. */
function made(
  reward: (epoch: number) => number,
  of: (epoch: number) => Record<string, number | string> = () => ({}),
): MetricsRow[] {
  return Array.from({ length: 12 }, (_, i) => ({
    step: i + 1,
    'reward/mean': reward(i) + (i % 2 === 0 ? 0.01 : -0.01),
    'reward/std': 1,
    'advantage/meanAbsolute': 0.8,
    'policy/clipFraction': 0.1,
    'policy/approxKl': 1e-4,
    'gradient/norm': 0.3,
    ...of(i),
  }));
}
const rising = (i: number) => i / 10;
const flat = () => 1;

test('a real run that rose: nothing to complain about', () => {
  const { outcome, findings, evidence } = stored('quickstart-4');
  expect([outcome, findings]).toEqual(['rose', []]);
  expect(evidence).toBe(
    'reward/mean -2.34 -> -1.67 by its trend over 14 epochs (t 7.4); validation -1.98 -> -1.42',
  );
});

test('a real run of the same recipe that stalled', () => {
  const explanation = stored('quickstart-3');
  expect(explanation.outcome).toBe('stalled');
  expect(explanationText(explanation)).toMatchInlineSnapshot(`
    "The reward stalled: reward/mean -2.22 -> -2.23 by its trend over 14 epochs (t -0.4); validation -1.98 -> -2.23.

    1. The learning rate is high; whether such a run succeeds depends on its seed.
       seen by  train.learningRate 0.01 (the default is 1e-3, the paper’s 3e-4 for LoRA)
       try      set train.learningRate to 0.00333, with more epochs; or run other seeds and overlay them with rldf report

    2. What changed is smaller than the scatter of one epoch’s mean: this many pictures cannot show it.
       seen by  trend -0.012, standard error of an epoch’s mean 0.0541 (64 pictures, spread 0.433)
       try      draw more pictures an epoch (sample.promptsPerEpoch, sample.picturesPerPrompt), or train for more epochs
    "
  `);
});

test('real runs that were made to fail', () => {
  expect(firstWords(stored('tiny-steps').findings)).toEqual(['The policy hardly moves:']);
  expect(firstWords(stored('constant-reward').findings)).toEqual(['Every picture gets the s']);
  expect(firstWords(stored('huge-steps').findings)).toEqual([
    'Most pictures leave the ',
    'The learning rate is hig',
    'Rollouts are too short: ',
    'What changed is smaller ',
  ]);
});

test('outcomes', () => {
  const outcome = (reward: (epoch: number) => number) => explain(made(reward), healthy).outcome;
  expect(outcome(rising)).toBe('rose');
  expect(outcome((i) => -i / 10)).toBe('fell');
  expect(outcome(flat)).toBe('stalled');
  expect(outcome((i) => (i < 7 ? i / 10 : 0.7 - (i - 6) / 8))).toBe('rose, then fell');
  expect(explain(made(rising).slice(0, 3), healthy).outcome).toBe('too short to tell');
  expect(explain([], healthy).outcome).toBe('too short to tell');
});

const cases: [
  name: string,
  rows: MetricsRow[],
  recipe: object,
  what: RegExp,
  evidence: RegExp,
  change: RegExp,
][] = [
  [
    'no spread in groups',
    made(flat, () => ({ 'advantage/meanAbsolute': 0.05 })),
    healthy,
    /no spread in the groups/,
    /median advantage\/meanAbsolute 0.05/,
    /picturesPerPrompt \(now 4\)/,
  ],
  [
    'an easy reward, used up',
    made(
      (i) => Math.min(1, i / 4),
      (i) => ({ 'reward/std': i < 4 ? 1 : 0.1 }),
    ),
    healthy,
    /nearly used up/,
    /reward\/std fell 1 -> 0.1 while reward\/mean went/,
    /harder prompts/,
  ],
  [
    'too large steps',
    made(flat, () => ({ 'policy/clipFraction': 0.7 })),
    healthy,
    /leave the clip range/,
    /70.0 %/,
    /halve train.learningRate \(now 0.001\)/,
  ],
  [
    'drift',
    made(
      (i) => -i / 10,
      (i) => ({ 'policy/approxKl': 1e-4 * 2 ** i }),
    ),
    healthy,
    /drifting away/,
    /grew 256 times/,
    /halve train.learningRate/,
  ],
  [
    'too short rollouts',
    made(flat),
    { ...healthy, sample: { ...healthy.sample, steps: 4 } },
    /Rollouts are too short/,
    /sample.steps 4, 4 of them/,
    /sample.steps to 10/,
  ],
  [
    'clipped gradients',
    made(flat, () => ({ 'gradient/norm': 8 })),
    healthy,
    /cut by gradient clipping/,
    /above train.maxGradNorm 1 in 100.0 % of epochs, median 8/,
    /maxGradNorm near 8/,
  ],
  [
    'one spike',
    made(rising, (i) => ({ 'gradient/norm': i === 5 ? 0.9 : 0.01 })),
    healthy,
    /far larger than all others/,
    /0.9 at epoch 6, median 0.01/,
    /maxGradNorm to 0.03/,
  ],
  [
    'gradients that disagree',
    made(flat, (i) => ({ 'gradient/agreement': i % 2 === 0 ? 0.11 : -0.1 })),
    healthy,
    /The steps are noise/,
    /0.005 ± 0.0317 over 12 epochs/,
    /^draw more pictures.*picturesPerPrompt.*fewer train.updatesPerEpoch/,
  ],
  [
    'gradients of a guided policy that disagree',
    made(flat, (i) => ({ 'gradient/agreement': i % 2 === 0 ? 0.11 : -0.1, 'policy/approxKl': 1e-9 })),
    { ...healthy, sample: { ...healthy.sample, guidanceScale: 3 } },
    /The steps are noise/,
    /0.005 ± 0.0317 over 12 epochs/,
    /less guidance, or none \(sample.guidanceScale, now 3\)/,
  ],
  [
    'no gradient',
    made(flat, () => ({ 'gradient/norm': 0 })),
    healthy,
    /No gradient reaches/,
    /at most 0/,
    /train.targets/,
  ],
  [
    'reward and validation part',
    made(
      rising,
      (i): Record<string, number> =>
        i === 0 ? { 'validation/reward': 0.5 } : i === 11 ? { 'validation/reward': 0.4 } : {},
    ),
    healthy,
    /not on validation/,
    /validation\/reward 0.5 -> 0.4/,
    /more different prompts \(16 an epoch now\)/,
  ],
  [
    'divergence',
    made(rising, (i): Record<string, string> => (i === 9 ? { 'loss/policy': 'NaN' } : {})),
    healthy,
    /no longer a finite number/,
    /loss\/policy is NaN at epoch 10/,
    /learningRate by 10/,
  ],
  [
    'few updates',
    made(rising).slice(0, 5),
    { ...healthy, epochs: 5 },
    /only a few updates/,
    /10 optimiser steps in 5 epochs/,
    /epochs=20/,
  ],
  [
    'an unfinished run',
    made(rising).slice(0, 11),
    healthy,
    /not come to its end/,
    /epoch 11 of 12/,
    /rldf resume/,
  ],
];

test.each(cases)('%s', (_, rows, recipe, what, evidence, change) => {
  const { findings } = explain(rows, recipe);
  const found = findings.find((finding) => what.test(finding.what));
  expect(found?.evidence).toMatch(evidence);
  expect(found?.change).toMatch(change);
  // and a healthy run shows nothing of it
  expect(explain(made(rising), healthy).findings).toEqual([]);
});

test('metrics and fields that a method does not have are passed over', () => {
  const rows = made(flat).map(({ step, ...row }) => ({ step, 'reward/mean': row['reward/mean']! }));
  expect(explain(rows, {}).outcome).toBe('stalled');
  expect(explain(rows, null).findings).toEqual([]);
});

test('a denoising loss that rises over hundreds of updates is said; one that falls, or rises over few, is not', () => {
  const rows = (epochs: number, loss: (epoch: number) => number) =>
    Array.from({ length: epochs }, (_, i) => ({
      ...(made(rising)[i % 12] as MetricsRow),
      step: i + 1,
      'loss/denoising': loss(i),
    }));
  const recipe = (updatesPerEpoch: number) => ({
    ...healthy,
    epochs: 24,
    train: { ...healthy.train, updatesPerEpoch },
  });
  const said = (epochs: number, updates: number, loss: (epoch: number) => number) =>
    explain(rows(epochs, loss), recipe(updates)).findings.filter(({ what }) => what.includes('loss rises'));
  const [finding] = said(24, 10, (i) => 0.2 + 0.01 * i);
  // eighths of three epochs: medians 0.21 and 0.42, 23 epochs of 10 updates apart
  expect(finding?.evidence).toBe(
    'loss/denoising 0.21 -> 0.42 over 230 updates (medians of the first and last eighth)',
  );
  expect(said(24, 10, (i) => 0.5 - 0.01 * i)).toEqual([]);
  expect(said(24, 8, (i) => 0.2 + 0.01 * i)).toEqual([]); // 184 updates
  expect(said(15, 40, (i) => 0.2 + 0.01 * i)).toEqual([]); // 15 epochs
});

test('a pre-training is explained by its loss', () => {
  const file = join(mkdtempSync(join(tmpdir(), 'rldf-explain-')), 'metrics.jsonl');
  const write = (loss: (update: number) => number) =>
    writeFileSync(
      file,
      Array.from({ length: 64 }, (_, i) => `${JSON.stringify({ step: 10 * i, loss: loss(10 * i) })}\n`).join(
        '',
      ),
    );
  write((update) => 0.165 + (0.057 * update) / 450);
  const text = explanationText(explainPretraining(file));
  expect(text).toMatch(/^The training loss rose: loss 0.165 -> 0.245 by its trend over 64 updates/);
  // medians of eighths: updates 0 to 70 and 560 to 630
  expect(text).toContain('seen by  loss 0.169 -> 0.24 over 630 updates');
  write((update) => 0.165 - (0.057 * update) / 450);
  expect(explainPretraining(file)).toMatchObject({ curve: 'training loss', outcome: 'fell', findings: [] });
});
