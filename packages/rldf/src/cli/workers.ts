/** One command on several workers: which commands share their work, how they join, and what the others than the first do. */

import type { Place } from '@rldf/common/workers/place';
import { placeOf } from '@rldf/common/workers/place';
import { UserError } from '@rldf/torch/errors';
import type { Command } from 'commander';
import { numberOption } from './shared.js';

/** Commands whose work is shared out by picture. */
const sharing: ReadonlySet<string> = new Set([
  ...['quickstart', 'train', 'resume', 'generate', 'eval', 'search', 'clone', 'reproduce'],
]);

export const workersOption = [
  '--workers <n>',
  'processes on this machine that share the work by picture; torchrun, srun and mpirun start them too',
] as const;

/** Adds `--workers` to the commands that share their work. */
export function addWorkersOption(commands: readonly Command[]): void {
  for (const command of commands.filter((one) => sharing.has(one.name()))) {
    for (const one of [command, ...command.commands]) one.option(...workersOption);
    command.hook('preAction', (_, action) => launch((action.opts() as { workers?: string }).workers));
  }
}

/** `--workers n`: this process leads, and starts the others. */
async function launch(given: string | undefined): Promise<void> {
  const size = numberOption('workers', given, { least: 1, most: 1024 });
  if (size === undefined || size === 1) return;
  const { crew, setCrew } = await import('@rldf/common/workers/crew');
  if (crew().size > 1)
    throw new UserError(
      `--workers ${size}: a launcher has started ${crew().size} processes already — each of them is one worker. Leave --workers out`,
    );
  const { launchCrew } = await import('@rldf/common/workers/launch');
  setCrew(await launchCrew(size, process.argv.slice(2)));
}

/**
 * Where a launcher has started this process as one of several: joins them.
 * @returns the exit code of one that follows, when the first one's work is over; nothing of the first one
 */
export async function joinWorkers([name]: readonly string[]): Promise<number | undefined> {
  const place: Place | undefined = sharing.has(name ?? '') ? placeOf() : undefined;
  if (place === undefined) return undefined;
  const { Crew, Dismissed, setCrew } = await import('@rldf/common/workers/crew');
  const { availableDevices } = await import('@rldf/torch');
  const parent = Number(process.env.RLDF_LAUNCHED); // it ends followers that it has started with itself
  const crew = await Crew.join(place, {
    nccl: availableDevices().length > 1,
    giveUp: () => (place.launcher === 'rldf' && process.ppid !== parent ? new Dismissed(2) : undefined),
    onWait: (line) => process.stderr.write(`${line}\n`),
  });
  setCrew(crew);
  if (crew.leads) return undefined;
  leaveSignalsToTheFirst(); // until here they end this process, as they end others that are waited for
  const { follow } = await import('../train/follow.js');
  return follow();
}

/** The command is over, and with it the work of all. */
export async function dismissWorkers(code: number): Promise<void> {
  if (!sharing.has(process.argv[2] ?? '') && placeOf() === undefined) return;
  const { crew } = await import('@rldf/common/workers/crew');
  if (crew().size > 1 && crew().leads) await crew().end(code);
}

/** Ctrl-C and SIGTERM reach all, and the first worker decides: it saves, and ends the others. A second one ends this one. */
function leaveSignalsToTheFirst(): void {
  let asked = false;
  for (const signal of ['SIGINT', 'SIGTERM'] as const)
    process.on(signal, () => {
      if (asked) process.kill(process.pid, 'SIGKILL');
      asked = true;
      setTimeout(() => process.kill(process.pid, 'SIGKILL'), 20_000).unref(); // if the first one does not answer
    });
}
