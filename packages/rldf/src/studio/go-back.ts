/** A new run that goes on from a checkpoint of another. The other is only read. */

import { cpSync, existsSync, mkdirSync, readFileSync, renameSync, rmSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { parseYaml } from '@rldf/common/base/exact';
import { fileOperation, flushFolder, listFolder, replaceFile } from '@rldf/common/base/files';
import { tensorsOf } from '@rldf/common/storage/state-tree';
import { UserError } from '@rldf/torch/errors';
import { stringify } from 'yaml';
import { readMetrics, truncateMetrics } from '../run/metrics.js';
import { truncatePictureLog } from '../run/picture-log.js';
import { Run } from '../run/run.js';

/**
 * Copies a run as it was at `step` to `name` beside it: recipe, metrics, pictures and checkpoints up to there. Where the hack watch
 * raised an alarm later, the new run's `watch.mode` is `stop`: resumed, it learns on to the alarm and ends with the best checkpoint
 * before it, instead of doing the same again.
 *
 * @throws UserError when there is no such checkpoint, it is damaged, or the name is taken
 */
export function goBack(folder: string, step: number, name: string): Run {
  const from = new Run(folder);
  const target = join(dirname(folder), name);
  const taken = () =>
    new UserError(
      `${target}: there is already something of this name — runs are never overwritten. Choose another name`,
    );
  if (existsSync(target)) throw taken();
  const temporary = join(dirname(folder), `.back-${name}-${process.pid}`);
  rmSync(temporary, { recursive: true, force: true });
  const made = new Run(temporary);
  try {
    fileOperation('make folder', temporary, () => mkdirSync(made.checkpointsFolder, { recursive: true }));
    const kept = from.checkpoints().filter((one) => one.step <= step);
    if (!kept.some((one) => one.step === step)) from.loadCheckpoint({ step }); // throws, and says which there are
    const copy = (path: string, to: string) =>
      fileOperation('copy', to, () =>
        cpSync(path, to, { recursive: true, errorOnExist: true, force: false }),
      );
    for (const { step: one, path } of kept) copy(path, join(made.checkpointsFolder, `step-${one}`));
    for (const tensor of tensorsOf(made.loadCheckpoint({ step }).state).values()) tensor.free(); // whole, and unchanged
    if (existsSync(from.environmentPath)) copy(from.environmentPath, made.environmentPath);
    if (existsSync(from.metricsPath)) copy(from.metricsPath, made.metricsPath);
    const alarm = readMetrics(from.metricsPath).find((row) => 'watch/alarm' in row);
    truncateMetrics(made.metricsPath, step);
    mkdirSync(made.samplesFolder);
    for (const entry of listFolder(from.samplesFolder)) {
      const at = /^step-(\d+)/.exec(entry)?.[1];
      if (at === undefined || Number(at) <= step)
        copy(join(from.samplesFolder, entry), join(made.samplesFolder, entry));
    }
    truncatePictureLog(made, step);
    const recipe = parseYaml(readFileSync(from.recipePath, 'utf8')) as Record<string, unknown>;
    if (alarm !== undefined && alarm.step > step)
      recipe.watch = { ...(recipe.watch as object), mode: 'stop' };
    replaceFile(
      join(temporary, 'back.json'),
      `${JSON.stringify({ run: from.name, step, made: new Date().toISOString() })}\n`,
    );
    replaceFile(made.recipePath, stringify(recipe));
    if (existsSync(target)) throw taken();
    fileOperation('rename', target, () => renameSync(temporary, target));
    flushFolder(dirname(folder));
    return new Run(target);
  } finally {
    rmSync(temporary, { recursive: true, force: true });
  }
}
