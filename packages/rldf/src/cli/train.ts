import { join } from 'node:path';
import { Command } from 'commander';
import type { Recipe } from '../recipe/recipe.js';
import { runsOption } from './options.js';
import { Progress } from './progress.js';
import { provideCards, provideModels, provideRewardCards, provideRewards } from './provide.js';
import { collect, freeRunName, interruption, isRun, recipePath, setOption } from './shared.js';
import { unitOf, watch } from './watch.js';

interface Options {
  name?: string;
  runs: string;
  set?: string[];
  dryRun?: boolean;
  json?: boolean;
  commercial?: boolean;
}

export function trainCommand(): Command {
  return new Command('train')
    .description('train by a recipe; Ctrl-C saves and ends, `rldf resume` continues')
    .argument('<recipe>', 'recipe file, or the name of a shipped one (`rldf recipes`)')
    .option('--name <name>', 'name of the run folder; default: the recipe’s name and a number')
    .option(...runsOption)
    .option(...setOption, collect)
    .option('--commercial', 'refuse parts whose licence forbids commercial use or is not known')
    .option('--dry-run', 'check everything, print the arithmetic and an estimated time, train nothing')
    .option('--json', 'print the result (or the plan) as JSON')
    .addHelpText(
      'after',
      `
Examples:
  $ rldf train quickstart --name first
  $ rldf train my-recipe.yaml --dry-run
  $ rldf train my-recipe.yaml --set seed=1 --set train.learningRate=3e-4
  $ rldf train my-recipe.yaml --commercial`,
    )
    .action(async (recipe: string, options: Options) => {
      const { loadRecipe } = await import('../recipe/load.js');
      const file = recipePath(recipe);
      const commercial = options.commercial ? ['commercial=true'] : [];
      const checked = loadRecipe(file, [...(options.set ?? []), ...commercial]);
      if (checked.commercial) await refuseBeforeDownload(checked);
      await provideModels([checked.model]);
      await provideRewards([checked.reward, checked.watch.judge]);
      if (options.dryRun) {
        const { dryRun } = await import('./dry-run.js');
        return dryRun(checked, options.json ?? false);
      }
      const { crew } = await import('@rldf/common/workers/crew');
      const restarted = crew().attempt > 0; // by torchrun: the run goes on that the attempt before has begun
      const name = options.name ?? checked.name ?? freeRunName(file, options.runs, restarted);
      if (restarted && isRun(options.runs, name)) {
        const { resumeRun } = await import('./resume.js');
        return resumeRun(join(options.runs, name), { json: options.json ?? false });
      }
      await trainByRecipe(checked, name, options.runs, options.json ?? false);
    });
}

/** Of what is not here yet, its card alone is downloaded first. */
async function refuseBeforeDownload(recipe: Recipe): Promise<void> {
  const { licencesOf, refuseUncommercial } = await import('../train/ledger.js');
  await provideCards([recipe.model]);
  await provideRewardCards([recipe.reward, recipe.watch.judge]);
  refuseUncommercial(licencesOf(recipe));
}

/** Trains and shows it. */
export async function trainByRecipe(
  recipe: Recipe,
  name: string,
  root: string,
  json: boolean,
): Promise<void> {
  const { train } = await import('../train/from-recipe.js');
  const progress = new Progress();
  const { signal, release } = await interruption(() =>
    progress.print('stopping: saving at the next place where that is possible; Ctrl-C again ends at once'),
  );
  try {
    const unit = await unitOf(recipe);
    const folder = join(root, name);
    await watch(train(recipe, { name, root, signal }), progress, { name, folder, unit, json });
  } finally {
    release();
  }
}
