/** Shows the events of a run: one progress line, a lasting line a step, the result at the end. */

import { join } from 'node:path';
import { type LicenceEntry, licenceLines } from '@rldf/common/base/licences';
import { duration } from '../base/duration.js';
import type { Recipe } from '../recipe/recipe.js';
import type { ReportNumbers } from '../report/report.js';
import type { RunEvent } from '../train/train.js';
import { print } from './output.js';
import { bar, Estimate, type Progress } from './progress.js';
import { describeResult } from './report.js';
import { printJson } from './shared.js';

export interface WatchOptions {
  /** Name of the run, for the hint how to continue. */
  name: string;
  folder: string;
  /** What the run's steps are called. */
  unit: 'epoch' | 'step';
  json: boolean;
}

/** An epoch is a step of the run, but where a method says otherwise. */
export async function unitOf(recipe: Recipe): Promise<WatchOptions['unit']> {
  const { methodOf } = await import('../methods/index.js');
  return methodOf(recipe).plan.arithmetic(recipe).steps === undefined ? 'epoch' : 'step';
}

/** All parts with their licences; one line where all of them allow everything. */
function describeLicences(licences: readonly LicenceEntry[]): string[] {
  if (licences.some(({ commercial }) => commercial !== 'yes')) return licenceLines(licences);
  const names = [...new Set(licences.map(({ licence }) => licence))];
  return [`licences: ${names.join(', ')} — all allow commercial use`];
}

/**
 * Follows a run to its end.
 * @throws UserError when it was interrupted, with how to continue
 */
export async function watch(
  events: AsyncIterable<RunEvent>,
  progress: Progress,
  options: WatchOptions,
): Promise<ReportNumbers | undefined> {
  const { UserError } = await import('@rldf/torch/errors');
  const { describeAlarm } = await import('../train/hack-watch.js');
  const estimate = new Estimate();
  let report: ReportNumbers | undefined;
  let headline = '';
  try {
    for await (const event of events) {
      if (event.kind === 'resumed') {
        for (const message of event.skipped) progress.print(`passed over: ${message}`);
        progress.print(`continuing behind ${options.unit} ${event.step}`);
      } else if (event.kind === 'licences') {
        for (const line of describeLicences(event.licences)) progress.print(line);
      } else if (event.kind === 'notice') {
        progress.print(event.text);
      } else if (event.kind === 'evaluating') {
        progress.update(`drawing ${event.what} pictures ${event.done}/${event.total}  ${headline}`);
      } else if (event.kind === 'progress') {
        const share = (event.step + event.share) / event.steps;
        progress.update(
          `${bar(share)} ${options.unit} ${event.step + 1}/${event.steps}  ${event.phase}  ${headline}  ${estimate.left(share)}`,
        );
      } else if (event.kind === 'step') {
        const { row, step, steps } = event;
        const shown = (label: string, value: unknown) =>
          typeof value === 'number' ? `  ${label} ${value.toFixed(3)}` : '';
        headline = shown('reward', row['reward/mean']).trim();
        const left = estimate.left(step / steps);
        progress.print(
          `${options.unit} ${String(step).padStart(String(steps).length)}/${steps}${shown('reward', row['reward/mean'])}${shown('validation', row['validation/reward'])}  ${duration(Number(row['time/step']))}${left && `  ${left}`}`,
        );
      } else if (event.kind === 'alarm') {
        progress.print(describeAlarm(event.alarm));
      } else if (event.kind === 'interrupted') {
        progress.clear();
        throw new UserError(
          `interrupted behind ${options.unit} ${event.step} of ${event.steps} — what was learned is saved. Continue with \`rldf resume ${options.name}\``,
        );
      } else if (event.kind === 'finished') {
        progress.clear();
        report = event.report;
        if (options.json) printJson(event.report);
        else {
          const lines = [
            describeResult(event.report),
            ...(event.bestStep === 0
              ? ['validation never rose above its start: the kept weights are those of before the training']
              : []),
            `saved   ${event.adapters.join(', ')} (${options.unit} ${event.bestStep}, best by validation)`,
            `report  ${join(options.folder, 'report', 'index.html')}`,
          ];
          print(`${lines.join('\n')}\n`);
        }
      }
    }
  } finally {
    progress.clear();
  }
  return report;
}
