import { Command } from 'commander';
import { print } from './output.js';
import { collect, printJson, recipePath, setOption, table } from './shared.js';

interface Options {
  steps: string;
  at?: string;
  set?: string[];
  json?: boolean;
}

/** What makes the default recipe short enough to be run twice: fewer pictures an epoch. */
const shortened = ['sample.promptsPerEpoch=4', 'sample.picturesPerPrompt=2'];

export function verifyResumeCommand(): Command {
  return new Command('verify-resume')
    .description(
      'prove on this machine that N straight steps equal k steps, a kill and N - k resumed ones, byte for byte',
    )
    .argument('[recipe]', 'recipe file or name; default: emoji/compressibility with fewer pictures')
    .option('--steps <n>', 'steps (epochs) of the whole run', '4')
    .option('--at <k>', 'steps before the kill; default: half')
    .option(...setOption, collect)
    .option('--json', 'print hashes and the first difference as JSON')
    .addHelpText(
      'after',
      `
Adapters, optimiser and statistics, and all metrics but times and memory are compared. Exit code 0: equal; 1: not equal.

Examples:
  $ rldf verify-resume                            under a minute on two cores
  $ rldf verify-resume my-recipe.yaml --steps 6 --at 2
  $ rldf verify-resume my-recipe.yaml --set threads=1 --json`,
    )
    .action(async (recipe: string | undefined, options: Options) => {
      const { loadRecipe } = await import('../recipe/load.js');
      const { UserError } = await import('@rldf/torch/errors');
      const { verifyResume } = await import('../verify/resume.js');
      const steps = Number(options.steps);
      const at = Number(options.at ?? Math.floor(steps / 2));
      if (!Number.isSafeInteger(steps) || !Number.isSafeInteger(at) || at < 1 || at >= steps) {
        throw new UserError(
          `verify-resume --steps ${options.steps} --at ${options.at ?? at}: whole numbers are needed, 1 <= k < n. Use --steps 4 --at 2`,
        );
      }
      const overrides = [...(recipe === undefined ? shortened : []), ...(options.set ?? [])];
      const checked = loadRecipe(recipePath(recipe ?? 'emoji/compressibility'), overrides);
      const result = await verifyResume(checked, { steps, at, quiet: options.json ?? false });
      process.exitCode = result.equal ? 0 : 1;
      if (options.json) return printJson(result);
      const rows = result.comparisons.map(({ what, hashes: [a, b], equal }) => [
        what,
        a.slice(0, 16),
        equal ? '=' : '≠',
        b.slice(0, 16),
      ]);
      const difference = result.comparisons.find(({ equal }) => !equal)?.difference;
      const verdict = result.equal
        ? `equal: ${steps} straight steps end in the same bytes as ${at}, a kill and ${steps - at} resumed`
        : `NOT equal: ${difference}`;
      print(`${table([['', 'straight', '', 'resumed'], ...rows])}\n${verdict}\n`);
    });
}
