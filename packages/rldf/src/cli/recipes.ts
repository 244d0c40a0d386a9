import { existsSync, readFileSync } from 'node:fs';
import { dirname, isAbsolute, join, relative, resolve } from 'node:path';
import { Command } from 'commander';
import { print } from './output.js';
import { printJson, recipeNames, recipePath, recipesFolder, table } from './shared.js';

/** Folders of recipes, in the order they are listed; `''` holds those without a folder. */
const groups: Readonly<Record<string, string>> = {
  '': 'Start here',
  emoji: 'On the shipped model: minutes on two CPU cores, nothing to download',
  'stable-diffusion':
    'The papers’ settings on Stable Diffusion: its folder and most rewards are yours to bring (recipes/stable-diffusion/README.md)',
};

export function recipesCommand(): Command {
  return new Command('recipes')
    .description('list the recipes that ship with rldf, show one, or copy one to change it')
    .argument('[name]', 'show this recipe, or list those of this folder')
    .option(
      '--copy <file>',
      'copy the named recipe to a file of your own, and the files that it names beside it',
    )
    .option('--json', 'print as JSON: [{ name, group, method, path, description }]')
    .addHelpText(
      'after',
      `
Examples:
  $ rldf recipes
  $ rldf recipes emoji
  $ rldf recipes quickstart
  $ rldf recipes quickstart --copy mine.yaml`,
    )
    .action(async (name: string | undefined, options: { copy?: string; json?: boolean }) => {
      const all = recipeNames();
      const names = all.filter((recipe) => name === undefined || groupOf(recipe) === name);
      if (names.length > 0) {
        const rows = names.map(describe);
        if (options.json) return printJson(rows);
        print(listing(rows));
        return;
      }
      const { UserError } = await import('@rldf/torch/errors');
      const { didYouMean } = await import('@rldf/common/base/suggest');
      const path = recipePath(name as string);
      if (!existsSync(path)) {
        throw new UserError(
          `recipe ${name}: there is none of this name — \`rldf recipes\` lists all${didYouMean(name as string, all)}`,
        );
      }
      if (options.copy === undefined) {
        print(readFileSync(path, 'utf8'));
        return;
      }
      const { makeFolder, replaceFile } = await import('@rldf/common/base/files');
      const copies = [{ from: path, to: options.copy }, ...(await filesOf(path, options.copy))];
      const taken = copies.find(
        ({ from, to }, i) => existsSync(to) && (i === 0 || !readFileSync(to).equals(readFileSync(from))),
      );
      if (taken !== undefined) throw new UserError(`${taken.to}: exists already — choose another name`);
      for (const { from, to } of copies) {
        makeFolder(dirname(to));
        replaceFile(to, readFileSync(from));
        print(`${to}\n`);
      }
    });
}

interface Row {
  name: string;
  group: string;
  method: string;
  path: string;
  description: string;
}

const groupOf = (name: string) => name.split('/').slice(0, -1).join('/');

/** The first comment line of a recipe says what it is. */
function describe(name: string): Row {
  const path = join(recipesFolder, `${name}.yaml`);
  const text = readFileSync(path, 'utf8');
  const first = (pattern: RegExp) => pattern.exec(text)?.[1] ?? '';
  return {
    name,
    group: groupOf(name),
    method: first(/^method: (\S+)/m),
    path,
    description: first(/^#\s*(.+)$/m),
  };
}

function listing(rows: readonly Row[]): string {
  const known = Object.keys(groups);
  const others = rows.map(({ group }) => group).filter((group) => !known.includes(group));
  const sections = [...known, ...new Set(others)].flatMap((group) => {
    const own = rows.filter((row) => row.group === group);
    if (own.length === 0) return [];
    const lines = table(own.map(({ name, description }) => [`  ${name}`, description]));
    return [`${groups[group] ?? group}\n${lines}\n`];
  });
  return `${sections.join('\n')}
rldf recipes NAME shows one, --copy mine.yaml makes it yours; rldf plan NAME says what it needs, rldf train NAME runs it.
`;
}

/** The file that a detector is given as, if it is small: weights are not copied. */
const filesOfDetector = (detector: unknown): string[] =>
  typeof detector === 'string' && /\.ya?ml$/.test(detector) ? [detector] : [];

/** Prompt files and reward modules that a recipe names by relative paths, and where they belong beside a copy of it. */
async function filesOf(path: string, copy: string): Promise<{ from: string; to: string }[]> {
  const { loadRecipe } = await import('../recipe/load.js');
  const { prompts, evaluate, report, reward } = loadRecipe(path);
  const rewards = Array.isArray(reward) ? reward.map((part) => part.reward) : [reward];
  const files = [
    ...[prompts, evaluate.prompts, report.prompts].filter((field) => typeof field === 'string'),
    ...rewards.flatMap((one) => {
      if (typeof one !== 'object') return [];
      if ('vision' in one) return isAbsolute(one.vision) ? [one.vision] : [];
      if ('score' in one) return filesOfDetector(one.detector);
      return 'module' in one ? [one.module] : 'ratings' in one ? [one.ratings] : [];
    }),
  ];
  return [...new Set(files)].map((from) => ({
    from,
    to: join(dirname(copy), relative(dirname(resolve(path)), from)),
  }));
}
