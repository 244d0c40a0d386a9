import { join } from 'node:path';
import { Command } from 'commander';
import { runsOption } from './options.js';
import { print } from './output.js';
import { printJson, table } from './shared.js';

interface Options {
  runs: string;
  output: string;
  json?: boolean;
}

export function reportCommand(): Command {
  return new Command('report')
    .description('draw the report of a finished run again; of several runs, lay their curves over each other')
    .argument('<run...>', 'run folders, or names below --runs')
    .option(...runsOption)
    .option('--output <folder>', 'of several runs: where the common report goes', 'overlay')
    .option('--json', 'print report.json, or overlay.json of several runs')
    .addHelpText(
      'after',
      `
Examples:
  $ rldf report quickstart
  $ rldf report runs/my-run --json
  $ rldf report seed-1 seed-2 seed-3 other-recipe --output comparison

Runs whose recipes differ in their seed only become one line with a band.`,
    )
    .action(async (runs: string[], options: Options) => {
      const { openRun } = await import('../run/run.js');
      const [first, ...others] = runs.map((run) => openRun(run, options.runs));
      if (first !== undefined && others.length === 0) {
        const { redrawReport } = await import('../report/report.js');
        const numbers = await redrawReport(first);
        if (options.json) return printJson(numbers);
        print(`${describeResult(numbers)}\n${join(first.reportFolder, 'index.html')}\n`);
        return;
      }
      const { writeOverlay } = await import('../report/overlay.js');
      const numbers = await writeOverlay([first!, ...others], options.output);
      if (options.json) return printJson(numbers);
      const shown = (value: number | null) => (value === null ? '-' : value.toFixed(3));
      const rows = numbers.groups.map(({ label, runs: own, difference }) => [
        label,
        own.map(({ name }) => name).join(' '),
        difference === null
          ? own.map((run) => shown(run.difference)).join(' ')
          : `${shown(difference.mean)} [${difference.ci95.map(shown).join(', ')}] over ${difference.seeds} seeds`,
      ]);
      print(`${table([['recipe', 'runs', 'difference'], ...rows])}\n${join(options.output, 'index.html')}\n`);
    });
}

/** The result in one line. */
export function describeResult({
  reward,
  rewardName,
  unit,
}: import('../report/report.js').ReportNumbers): string {
  const number = (value: number) => `${value >= 0 ? '+' : ''}${value.toFixed(3)}`;
  const [lo, hi] = reward.ci95;
  return `${rewardName} ${reward.before.toFixed(3)} -> ${reward.after.toFixed(3)} ${unit}  difference ${number(reward.difference)}, 95 % interval over prompts ${number(lo)} to ${number(hi)}`;
}
