/** The commands of `rldf`. Each is one file; what it computes with is loaded only when it runs. */

import { version } from '@rldf/common/base/version';
import { Command } from 'commander';
import { cloneCommand } from './clone.js';
import { doctorCommand } from './doctor.js';
import { evalCommand } from './eval.js';
import { exitCodeOf } from './exit-code.js';
import { explainCommand } from './explain.js';
import { exportCommand } from './export.js';
import { fuseCommand } from './fuse.js';
import { generateCommand } from './generate.js';
import { modelsCommand } from './models.js';
import { print } from './output.js';
import { planCommand } from './plan.js';
import { pretrainCommand } from './pretrain.js';
import { promptsCommand } from './prompts.js';
import { quickstartCommand } from './quickstart.js';
import { recipesCommand } from './recipes.js';
import { redrawCommand } from './redraw.js';
import { reportCommand } from './report.js';
import { reproduceCommand } from './reproduce.js';
import { resumeCommand } from './resume.js';
import { rewardsCommand } from './rewards.js';
import { searchCommand } from './search.js';
import { setupCommand } from './setup.js';
import { studioCommand } from './studio.js';
import { trainCommand } from './train.js';
import { validateCommand } from './validate.js';
import { verifyResumeCommand } from './verify-resume.js';
import { verifySeedCommand } from './verify-seed.js';
import { addWorkersOption, dismissWorkers, joinWorkers } from './workers.js';
import { worldCommand } from './world.js';

function program(): Command {
  const root = new Command('rldf')
    .description('Fine-tune text-to-image diffusion models with feedback on their own pictures.')
    .version(version)
    .enablePositionalOptions()
    .showSuggestionAfterError()
    .addHelpText(
      'after',
      `
Examples:
  $ rldf quickstart                     a reward rises in three minutes, on the shipped model
  $ rldf generate "a cat" --count 8     draw pictures
  $ rldf train my-recipe.yaml --dry-run what a recipe would do, with its arithmetic
  $ rldf doctor                         what rldf runs on, and what is wrong

Each command explains itself: rldf train --help`,
    );
  const commands = [
    quickstartCommand(),
    trainCommand(),
    resumeCommand(),
    generateCommand(),
    exportCommand(),
    fuseCommand(),
    validateCommand(),
    planCommand(),
    recipesCommand(),
    promptsCommand(),
    modelsCommand(),
    rewardsCommand(),
    evalCommand(),
    studioCommand(),
    reportCommand(),
    redrawCommand(),
    explainCommand(),
    reproduceCommand(),
    searchCommand(),
    cloneCommand(),
    worldCommand(),
    pretrainCommand(),
    setupCommand(),
    verifyResumeCommand(),
    verifySeedCommand(),
    doctorCommand(),
  ];
  addWorkersOption(commands);
  for (const command of commands) root.addCommand(command);
  for (const command of [root, ...commands, ...commands.flatMap((command) => command.commands)])
    command.exitOverride().configureOutput({ writeOut: print, outputError: () => {} });
  return root;
}

/**
 * Runs a command line, without the program's own name.
 * @returns the exit code: 0, 2 for a mistake of the user's or an interruption, 1 for a fault of ours
 */
export async function runCommandLine(words: readonly string[]): Promise<number> {
  process.exitCode = 0;
  let code = 1;
  try {
    const followed = await joinWorkers(words);
    if (followed !== undefined) return followed;
    await program().parseAsync(words, { from: 'user' });
    code = Number(process.exitCode);
  } catch (error) {
    code = exitCodeOf(error);
  }
  await dismissWorkers(code);
  return code;
}
