import { Command } from 'commander';
import { print } from './output.js';
import { printJson } from './shared.js';

export function explainCommand(): Command {
  return new Command('explain')
    .description(
      'say in plain words why a run’s reward rose, stalled or fell, with the numbers and a change to try',
    )
    .argument('<run>', 'run folder, or its name below --runs')
    .option('--runs <folder>', 'folder of all runs', 'runs')
    .option('--json', 'print as JSON: { outcome, findings: [{ what, evidence, change }] }')
    .addHelpText(
      'after',
      `
Examples:
  $ rldf explain quickstart
  $ rldf explain runs/my-run --json`,
    )
    .action(async (run: string, options: { runs: string; json?: boolean }) => {
      const { openRun } = await import('../run/run.js');
      const { explainRun, explanationText } = await import('../report/explain.js');
      const explanation = explainRun(openRun(run, options.runs));
      if (options.json) printJson(explanation);
      else print(explanationText(explanation));
    });
}
