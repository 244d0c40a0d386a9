/** The report of a run: grid, curve, page and `report.json`, from an evaluation with paired seeds and the metrics. */

import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { makeFolder, readTextIfThere, replaceFile } from '@rldf/common/base/files';
import type { Picture } from '@rldf/common/base/picture';
import { type MeanDifference, mean, meanDifference } from '@rldf/common/base/stats';
import { type CurvePoint, curveSvg } from '@rldf/common/drawing/curve';
import { contactSheet } from '@rldf/common/drawing/grid';
import { reportHtml } from '@rldf/common/drawing/html';
import { paretoSvg } from '@rldf/common/drawing/pareto';
import { encodePng, settingsTexts } from '@rldf/common/drawing/png';
import { renderSvg } from '@rldf/common/drawing/svg';
import { noiseKey, Random } from '@rldf/torch';
import { UserError } from '@rldf/torch/errors';
import sharp from 'sharp';
import { readMetrics } from '../run/metrics.js';
import type { Run } from '../run/run.js';
import { paretoOf } from './pareto.js';

/** One picture before and after training, from the same prompt and the same noise. */
export interface PicturePair {
  prompt: string;
  seed: number;
  before: Picture;
  after: Picture;
  rewardBefore: number;
  rewardAfter: number;
}

/** What a finished run's report needs and the run folder does not already hold. */
export interface Evaluation {
  reward: string;
  unit: string;
  pairs: PicturePair[];
  /** Pictures drawn for training. */
  pictures: number;
  /** Wall-clock seconds of training. */
  seconds: number;
  /** What the model did not see of the prompts. */
  notices?: string[];
}

export interface ReportNumbers {
  reward: MeanDifference;
  unit: string;
  rewardName: string;
  /** Independent units behind the interval. */
  prompts: number;
  pictures: number;
  seconds: number;
  note: string;
  /** What the model did not see of the prompts; left out if it saw all. */
  notices?: string[];
}

/** Metric names the curve is drawn from. */
export const curveMetrics = { training: 'reward/mean', validation: 'validation/reward' } as const;

const intervalNote =
  'The 95 % interval is over prompts within this one run (paired by prompt and noise). It says how sure this run’s improvement is on such prompts, not how much another training seed would differ.';

interface StoredPair {
  prompt: string;
  seed: number;
  rewardBefore: number;
  rewardAfter: number;
  before: string;
  after: string;
}
type StoredEvaluation = Omit<Evaluation, 'pairs'> & { pairs: StoredPair[] };

/** Keeps the evaluation in the run's folder, then writes the report. */
export async function writeReport(run: Run, evaluation: Evaluation): Promise<ReportNumbers> {
  await keepEvaluation(run, evaluation);
  return renderReport(run, evaluation);
}

/** Writes `report/evaluation.json` and `report/pictures/`. */
export async function keepEvaluation(run: Run, evaluation: Evaluation): Promise<void> {
  const pictures = join(run.reportFolder, 'pictures');
  makeFolder(pictures);
  const pairs: StoredPair[] = [];
  for (const [index, pair] of evaluation.pairs.entries()) {
    const stored = {
      prompt: pair.prompt,
      seed: pair.seed,
      rewardBefore: pair.rewardBefore,
      rewardAfter: pair.rewardAfter,
    };
    const files = { before: '', after: '' };
    for (const when of ['before', 'after'] as const) {
      files[when] = `pictures/${String(index).padStart(3, '0')}-${when}.png`;
      const texts = settingsTexts({ prompt: pair.prompt, seed: pair.seed, run: run.name, when });
      replaceFile(join(run.reportFolder, files[when]), await encodePng(pair[when], texts));
    }
    pairs.push({ ...stored, ...files });
  }
  const stored: StoredEvaluation = { ...evaluation, pairs };
  replaceFile(join(run.reportFolder, 'evaluation.json'), `${JSON.stringify(stored, null, 1)}\n`);
}

/**
 * Draws the report again from what the run folder holds.
 * @throws UserError when the run has not been evaluated yet
 */
export async function redrawReport(run: Run): Promise<ReportNumbers> {
  const path = join(run.reportFolder, 'evaluation.json');
  const text = readTextIfThere(path);
  if (text === undefined) {
    throw new UserError(
      `${path}: missing — this run has not come to its final evaluation. Finish it with \`rldf resume ${run.name}\``,
    );
  }
  const stored = JSON.parse(text) as StoredEvaluation;
  const pairs = await Promise.all(
    stored.pairs.map(async (pair) => ({
      ...pair,
      before: await readPicture(join(run.reportFolder, pair.before)),
      after: await readPicture(join(run.reportFolder, pair.after)),
    })),
  );
  return renderReport(run, { ...stored, pairs });
}

/** The numbers of `report.json`: rewards are averaged within each prompt first, then compared prompt by prompt. */
export function reportNumbers(evaluation: Evaluation, seed = 0): ReportNumbers {
  const byPrompt = pairsByPrompt(evaluation.pairs);
  const random = new Random(noiseKey(seed, 'report-bootstrap'));
  return {
    reward: meanDifference(
      byPrompt.map(({ before }) => before),
      byPrompt.map(({ after }) => after),
      random,
    ),
    unit: evaluation.unit,
    rewardName: evaluation.reward,
    prompts: byPrompt.length,
    pictures: evaluation.pictures,
    seconds: evaluation.seconds,
    note: intervalNote,
    ...(evaluation.notices === undefined ? {} : { notices: evaluation.notices }),
  };
}

async function renderReport(run: Run, evaluation: Evaluation): Promise<ReportNumbers> {
  const numbers = reportNumbers(evaluation);
  const { before, after, difference, ci95 } = numbers.reward;
  const unit = evaluation.unit === '' ? '' : ` ${evaluation.unit}`;
  const shown = (value: number) => value.toFixed(3);
  const summary = `${evaluation.reward}: ${shown(before)}${unit} before, ${shown(after)}${unit} after training; difference ${shown(difference)}${unit}, 95 % interval ${shown(ci95[0])} to ${shown(ci95[1])}.`;
  const write = (name: string, data: string | Uint8Array) => replaceFile(join(run.reportFolder, name), data);

  makeFolder(run.reportFolder);
  const cells = evaluation.pairs.map((pair) => ({
    pictures: [pair.before, pair.after],
    label: pair.prompt,
    detail: `${shown(pair.rewardBefore)} → ${shown(pair.rewardAfter)}`,
  }));
  if (cells.length > 0)
    write('grid.png', await contactSheet(cells, { title: `${run.name}: before and after, same noise` }));
  const svg = await curveSvg(curvePoints(run), {
    title: `${run.name}: ${evaluation.reward}`,
    xTitle: 'epoch',
    yTitle: `reward${evaluation.unit === '' ? '' : ` (${evaluation.unit})`}`,
  });
  write('curve.svg', svg);
  write('curve.png', await renderSvg(svg, 1280));
  const pareto = paretoOf(run);
  if (pareto !== undefined) {
    const plane = await paretoSvg(pareto.points, pareto.axes, `${run.name}: rewards against each other`);
    write('pareto.svg', plane);
    write('pareto.png', await renderSvg(plane, 1280));
    write('pareto.json', `${JSON.stringify(pareto, null, 2)}\n`);
  }
  const recipe = readFileSync(run.recipePath, 'utf8');
  const page = reportHtml({
    title: `rldf run ${run.name}`,
    summary,
    notes: [intervalNote, ...(evaluation.notices ?? [])],
    facts: [
      ['prompts', `${numbers.prompts}, each with the same noise before and after`],
      ['pictures drawn for training', String(evaluation.pictures)],
      ['training time', `${evaluation.seconds.toFixed(0)} s`],
    ],
    figures: [
      { file: 'grid.png', caption: 'Left before, right after training; same prompt, same noise.' },
      {
        file: 'curve.svg',
        caption:
          'Reward by epoch. Training pictures are drawn with sampling noise, validation with fixed seeds.',
      },
      ...(pareto === undefined
        ? []
        : [
            {
              file: 'pareto.svg',
              caption:
                'The rewards of the sum against each other, at each validation. Ringed: no other step is at least as good in both and better in one (the Pareto front).',
            },
          ]),
    ],
    prompts: pairsByPrompt(evaluation.pairs),
    unit: evaluation.unit,
    recipe,
  });
  write('index.html', page);
  write('report.json', `${JSON.stringify(numbers, null, 2)}\n`);
  return numbers;
}

function pairsByPrompt(pairs: readonly PicturePair[]): { prompt: string; before: number; after: number }[] {
  const byPrompt = new Map<string, PicturePair[]>();
  for (const pair of pairs) byPrompt.set(pair.prompt, [...(byPrompt.get(pair.prompt) ?? []), pair]);
  return [...byPrompt].map(([prompt, group]) => ({
    prompt,
    before: mean(group.map(({ rewardBefore }) => rewardBefore)),
    after: mean(group.map(({ rewardAfter }) => rewardAfter)),
  }));
}

function curvePoints(run: Run): CurvePoint[] {
  const points: CurvePoint[] = [];
  for (const row of readMetrics(run.metricsPath)) {
    for (const [series, metric] of Object.entries(curveMetrics)) {
      const value = row[metric];
      if (typeof value === 'number') points.push({ step: row.step, value, series });
    }
  }
  return points;
}

/** A PNG file of a report. @throws UserError when it cannot be read */
export async function readPicture(path: string): Promise<Picture> {
  try {
    const { data, info } = await sharp(path).removeAlpha().raw().toBuffer({ resolveWithObject: true });
    return { width: info.width, height: info.height, channels: 3, data };
  } catch (error) {
    throw new UserError(
      `${path}: cannot be read (${(error as Error).message}) — evaluate again with \`rldf resume\``,
    );
  }
}
