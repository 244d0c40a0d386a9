import { join } from 'node:path';
import type { ProtocolFile } from '@rldf/common/base/protocol-file';
import { Command, Option } from 'commander';
import { runsOption } from './options.js';
import { print } from './output.js';
import { bar, Progress } from './progress.js';
import { interruption, printJson, recipePath, recipesFolder, tableNames } from './shared.js';

interface Options {
  budget: 'smoke' | 'full';
  arms?: string;
  seeds?: string;
  device?: string;
  minutes?: string;
  runs: string;
  recordedOnly?: boolean;
  json?: boolean;
}

export function reproduceCommand(): Command {
  return new Command('reproduce')
    .description(
      'run a table of arms and seeds by its committed protocol, or go on with it; without a name, list the tables',
    )
    .argument('[table]', 'a table below recipes/reproduce/, or a folder with a protocol.yaml')
    .addOption(
      new Option('--budget <size>', 'smoke: one seed, minutes, claims nothing; full: the table')
        .choices(['smoke', 'full'])
        .default('smoke'),
    )
    .option('--arms <names>', 'only these arms, separated by commas')
    .option('--seeds <numbers>', "only these of the protocol's seeds, separated by commas")
    .option('--device <device>', 'where to train: cpu, cuda or cuda:N; default: as the recipes say')
    .option('--minutes <n>', 'start no further run after so long; what is finished stays')
    .option(...runsOption)
    .option('--recorded-only', 'tables of searches: draw no picture, search in those that are recorded')
    .option('--json', 'print the numbers as JSON')
    .addHelpText(
      'after',
      `
Every finished (arm, seed) is kept as a small file of results under docs/results/TABLE/; a table goes on from those that are
there. The protocol must be committed, and must not change after the first test picture.

Examples:
  $ rldf reproduce
  $ rldf reproduce ddpo-estimators --budget smoke
  $ rldf reproduce ddpo-estimators --budget full --minutes 60
  $ rldf reproduce rldf --budget full --recorded-only`,
    )
    .action(async (table: string | undefined, options: Options) => {
      const tables = join(recipesFolder, 'reproduce');
      if (table === undefined) {
        print(`${tableNames().join('\n')}\n`);
        return;
      }
      const { readProtocol } = await import('@rldf/common/base/protocol-file');
      const read = readProtocol(table, tables, tableNames());
      if (read.kind === 'search') return reproduceSearches(read, options);
      const { loadProtocol } = await import('../reproduce/protocol.js');
      const protocol = loadProtocol(table, tables, tableNames());
      const { reproduce } = await import('../reproduce/reproduce.js');
      const progress = new Progress();
      const { signal, release } = await interruption(() =>
        progress.print('stopping: this run saves and can be continued; Ctrl-C again ends at once'),
      );
      let headline = '';
      try {
        for await (const event of reproduce({
          protocol,
          budget: options.budget,
          shippedRecipe: recipePath,
          runs: options.runs,
          signal,
          ...(options.arms === undefined ? {} : { arms: options.arms.split(',') }),
          ...(options.seeds === undefined ? {} : { seeds: options.seeds.split(',').map(Number) }),
          ...(options.device === undefined ? {} : { device: options.device }),
          ...(options.minutes === undefined ? {} : { minutes: Number(options.minutes) }),
        })) {
          if (event.kind === 'arm')
            headline = `${event.arm}, seed ${event.seed} (${event.done + 1}/${event.total})`;
          if (event.kind === 'run' && event.event.kind === 'progress') {
            const { step, steps, share, phase } = event.event;
            progress.update(`${headline}  ${bar((step + share) / steps)} ${phase}`);
          }
          if (event.kind === 'result') progress.print(`${headline}: ${event.path}`);
          if (event.kind === 'table') showTable(progress, event, options);
        }
      } finally {
        release();
        progress.clear();
      }
    });
}

/** A table of searches: nothing is trained, its pictures are drawn once and looked at by all agents. */
async function reproduceSearches(read: ProtocolFile, options: Options): Promise<void> {
  const { openTableInstruments, searchProtocol, searchTable } = await import('@rldf/search/table');
  const protocol = searchProtocol(read, join(recipesFolder, 'search'));
  const progress = new Progress();
  const { signal, release } = await interruption(() =>
    progress.print('stopping: what was drawn is kept; Ctrl-C again ends at once'),
  );
  try {
    for await (const event of searchTable({
      protocol,
      budget: options.budget,
      runs: options.runs,
      recordedOnly: options.recordedOnly === true,
      instruments: () => openTableInstruments(protocol),
      signal,
    })) {
      if (event.kind === 'progress') progress.update(`${bar(event.share)} ${event.text}`);
      if (event.kind === 'recorded') progress.print(event.path);
      if (event.kind === 'table') showTable(progress, event, options);
    }
  } finally {
    release();
    progress.clear();
  }
}

/** Its numbers as JSON, or where its page is. */
function showTable(
  progress: Progress,
  { path, numbers }: { path: string; numbers: unknown },
  { json }: Options,
): void {
  progress.clear();
  if (json) printJson(numbers);
  else print(`${path}\n`);
}
