import { Command } from 'commander';
import { runsOption } from './options.js';
import { print } from './output.js';
import { printJson } from './shared.js';

export function redrawCommand(): Command {
  return new Command('redraw')
    .description('draw a picture of a run again, from its checkpoint and the same noise, and compare')
    .argument('<run>', 'run folder, or its name below --runs')
    .argument(
      '<picture>',
      'as `rldf studio` names it: validation-STEP-INDEX, rollout-STEP-INDEX or test-INDEX',
    )
    .option(...runsOption)
    .option('--output <file>', 'the PNG to write; default: PICTURE.png')
    .option('--json', 'print what was drawn as JSON')
    .addHelpText(
      'after',
      `
Examples:
  $ rldf redraw quickstart validation-14-003
  $ rldf redraw quickstart rollout-1-000 --output again.png
  $ rldf redraw quickstart test-005 --json`,
    )
    .action(
      async (run: string, picture: string, options: { runs: string; output?: string; json?: boolean }) => {
        const { openRun } = await import('../run/run.js');
        const { redraw } = await import('../studio/redraw.js');
        const drawn = await redraw(openRun(run, options.runs), picture, options.output ?? `${picture}.png`);
        if (options.json) printJson(drawn);
        else {
          const { file, step, checkpoint, largest } = drawn;
          const weights =
            checkpoint === step
              ? `the weights of step ${step}`
              : `the weights of step ${checkpoint}, since those of step ${step} are not kept`;
          const compared =
            largest === null
              ? 'the picture itself was not kept'
              : largest === 0
                ? 'equal to the kept one, pixel by pixel'
                : `at most ${largest} of 255 levels from the kept one`;
          print(`${file}: ${weights}; ${compared}\n`);
        }
      },
    );
}
