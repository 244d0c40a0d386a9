import { existsSync, renameSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { Command } from 'commander';
import { runsOption } from './options.js';
import { collect, freeRunName, recipePath, setOption } from './shared.js';
import { trainByRecipe } from './train.js';

interface Options {
  runs: string;
  seed?: string;
  set?: string[];
  json?: boolean;
}

export function quickstartCommand(): Command {
  return new Command('quickstart')
    .description('raise a reward of the shipped model in a few minutes, with a report to look at')
    .option(...runsOption)
    .option('--seed <n>', 'seed of the run')
    .option(...setOption, collect)
    .option('--json', 'print report.json at the end')
    .addHelpText(
      'after',
      `
Examples:
  $ rldf quickstart
  $ rldf quickstart --seed 3`,
    )
    .action(async (options: Options) => {
      const { loadRecipe } = await import('../recipe/load.js');
      const overrides = [
        ...(options.seed === undefined ? [] : [`seed=${options.seed}`]),
        ...(options.set ?? []),
      ];
      const recipe = loadRecipe(recipePath('quickstart'), overrides);
      const folder = join(options.runs, 'quickstart');
      if (existsSync(folder)) {
        const { Run } = await import('../run/run.js');
        const last = new Run(resolve(folder));
        last.take(); // refused while it trains
        last.release();
        const kept = join(options.runs, freeRunName('quickstart', options.runs));
        renameSync(folder, kept);
        process.stderr.write(`the last quickstart is kept as ${kept}\n`);
      }
      await trainByRecipe(recipe, 'quickstart', options.runs, options.json ?? false);
      const where = options.runs === 'runs' ? '' : ` ${options.runs}`;
      process.stderr.write(`look at it in the browser: npx rldf studio${where}\n`);
    });
}
