import { join } from 'node:path';
import { Command } from 'commander';
import { printJson } from './shared.js';

export function reportCommand(): Command {
  return new Command('report')
    .description('draw the report of a finished run again: grid, curve, page, report.json')
    .argument('<run>', 'run folder, or its name below --runs')
    .option('--runs <folder>', 'folder of all runs', 'runs')
    .option('--json', 'print report.json')
    .addHelpText(
      'after',
      `
Examples:
  $ rldf report quickstart
  $ rldf report runs/my-run --json`,
    )
    .action(async (run: string, options: { runs: string; json?: boolean }) => {
      const { openRun } = await import('../run/run.js');
      const { redrawReport } = await import('../report/report.js');
      const opened = openRun(run, options.runs);
      const numbers = await redrawReport(opened);
      if (options.json) return printJson(numbers);
      process.stdout.write(`${describeResult(numbers)}\n${join(opened.reportFolder, 'index.html')}\n`);
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
