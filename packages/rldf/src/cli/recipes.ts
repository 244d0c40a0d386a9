import { copyFileSync, existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { Command } from 'commander';
import { printJson, recipeNames, recipePath, recipesFolder, table } from './shared.js';

export function recipesCommand(): Command {
  return new Command('recipes')
    .description('list the recipes that ship with rldf, show one, or copy one to change it')
    .argument('[name]', 'show this recipe')
    .option('--copy <file>', 'copy the named recipe to a file of your own')
    .option('--json', 'print names, paths and descriptions as JSON')
    .addHelpText(
      'after',
      `
Examples:
  $ rldf recipes
  $ rldf recipes quickstart
  $ rldf recipes quickstart --copy mine.yaml`,
    )
    .action(async (name: string | undefined, options: { copy?: string; json?: boolean }) => {
      const names = recipeNames();
      if (name === undefined) {
        const rows = names.map((recipe) => ({ name: recipe, path: join(recipesFolder, `${recipe}.yaml`) }));
        const described = rows.map((row) => ({ ...row, description: firstComment(row.path) }));
        if (options.json) return printJson(described);
        process.stdout.write(`${table(described.map((row) => [row.name, row.description]))}\n`);
        return;
      }
      const { UserError } = await import('../errors.js');
      const { didYouMean } = await import('../config/suggest.js');
      const path = recipePath(name);
      if (!existsSync(path)) {
        throw new UserError(
          `recipe ${name}: there is none of this name — there are ${names.join(', ')}${didYouMean(name, names)}`,
        );
      }
      if (options.copy === undefined) {
        process.stdout.write(readFileSync(path, 'utf8'));
        return;
      }
      if (existsSync(options.copy))
        throw new UserError(`${options.copy}: exists already — choose another name`);
      copyFileSync(path, options.copy);
      process.stdout.write(`${options.copy}\n`);
    });
}

/** The first comment line of a recipe says what it is. */
function firstComment(path: string): string {
  return /^#\s*(.+)$/m.exec(readFileSync(path, 'utf8'))?.[1] ?? '';
}
