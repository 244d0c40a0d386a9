import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { Command } from 'commander';
import { runsOption } from './options.js';
import { print } from './output.js';
import { printJson } from './shared.js';

export function explainCommand(): Command {
  return new Command('explain')
    .description(
      'say in plain words why a run’s reward rose, stalled or fell, or whether a pre-training’s loss rises, with the numbers and a change to try',
    )
    .argument('<run>', 'run folder, or its name below --runs; or the folder of a stage of rldf pretrain')
    .option(...runsOption)
    .option('--json', 'print as JSON: { curve, outcome, findings: [{ what, evidence, change }] }')
    .addHelpText(
      'after',
      `
Examples:
  $ rldf explain quickstart
  $ rldf explain runs/my-run --json
  $ rldf explain runs/pretrain/unet`,
    )
    .action(async (run: string, options: { runs: string; json?: boolean }) => {
      const { openRun } = await import('../run/run.js');
      const { explainPretraining, explainRun, explanationText } = await import('../report/explain.js');
      const metrics = join(run, 'metrics.jsonl');
      const isStage = existsSync(metrics) && !existsSync(join(run, 'recipe.yaml'));
      const explanation = isStage ? explainPretraining(metrics) : explainRun(openRun(run, options.runs));
      if (options.json) printJson(explanation);
      else print(explanationText(explanation));
    });
}
