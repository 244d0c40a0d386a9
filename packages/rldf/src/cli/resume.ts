import { Command } from 'commander';
import { runsOption } from './options.js';
import { Progress } from './progress.js';
import { provideModels, provideRewards } from './provide.js';
import { collect, interruption } from './shared.js';
import { unitOf, watch } from './watch.js';

interface Options {
  runs: string;
  fallback?: boolean;
  set?: string[];
  json?: boolean;
}

export function resumeCommand(): Command {
  return new Command('resume')
    .description('continue an interrupted run; it ends as if it had not been interrupted')
    .argument('[run]', 'run folder, or its name below --runs; default: the run changed last')
    .option(...runsOption)
    .option('--fallback', 'if the newest checkpoint is damaged, continue from the one before')
    .option('--set <epochs=n>', 'make the run longer; nothing else may change', collect)
    .option('--json', 'print the result as JSON')
    .addHelpText(
      'after',
      `
Examples:
  $ rldf resume
  $ rldf resume quickstart
  $ rldf resume my-run --set epochs=100`,
    )
    .action(async (run: string | undefined, options: Options) => {
      const { loadRecipe } = await import('../recipe/load.js');
      const { listRuns, openRun } = await import('../run/run.js');
      const { UserError } = await import('@rldf/torch/errors');
      const opened = run === undefined ? listRuns(options.runs)[0] : openRun(run, options.runs);
      if (opened === undefined)
        throw new UserError(`${options.runs}: no run there to resume — start one with \`rldf train\``);
      const recipe = loadRecipe(opened.recipePath);
      await provideModels([recipe.model]);
      await provideRewards([recipe.reward, recipe.watch.judge]);
      await resumeRun(opened.folder, options);
    });
}

/** Goes on with a run and shows it. */
export async function resumeRun(
  folder: string,
  options: Pick<Options, 'fallback' | 'set' | 'json'>,
): Promise<void> {
  const { loadRecipe } = await import('../recipe/load.js');
  const { openRun } = await import('../run/run.js');
  const { resume } = await import('../train/from-recipe.js');
  const opened = openRun(folder);
  const progress = new Progress();
  progress.print(`resuming ${opened.folder}`);
  const { signal, release } = await interruption(() =>
    progress.print('stopping: saving at the next place where that is possible; Ctrl-C again ends at once'),
  );
  try {
    const events = resume(opened.folder, {
      signal,
      fallback: options.fallback ?? false,
      overrides: options.set ?? [],
    });
    await watch(events, progress, {
      name: opened.name,
      folder: opened.folder,
      unit: await unitOf(loadRecipe(opened.recipePath)),
      json: options.json ?? false,
    });
  } finally {
    release();
  }
}
