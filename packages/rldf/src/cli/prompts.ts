import { Command } from 'commander';
import { print } from './output.js';
import { printJson, table } from './shared.js';

export function promptsCommand(): Command {
  return new Command('prompts')
    .description('list the frozen prompt sets of the built-in world, or print one')
    .argument('[set]', 'print the prompts of this set, one a line')
    .option(
      '--json',
      'print as JSON: [{ name, count, hash, purpose, example, description }], or the prompts with groups',
    )
    .addHelpText(
      'after',
      `
Examples:
  $ rldf prompts
  $ rldf prompts ip-rldf-test > test.txt
  $ rldf prompts texforce-seen --json

In a recipe: prompts: { set: texforce-seen, group: colour }`,
    )
    .action(async (name: string | undefined, options: { json?: boolean }) => {
      const { promptSet, promptSetNames } = await import('@rldf/emoji-world');
      const { namedSet } = await import('../prompts/prompts.js');
      if (name !== undefined) {
        const { prompts } = namedSet(name);
        if (options.json) printJson(prompts.map(({ prompt, group }) => ({ prompt, group })));
        else print(`${prompts.map(({ prompt }) => prompt).join('\n')}\n`);
        return;
      }
      const rows = promptSetNames.map(promptSet).map(({ hash, purpose, description, prompts, ...set }) => ({
        name: set.name,
        count: prompts.length,
        hash,
        purpose,
        example: prompts[0]!.prompt,
        description,
      }));
      if (options.json) return printJson(rows);
      const lines = rows.map((row) => [
        row.name,
        String(row.count),
        row.hash.slice(0, 12),
        row.purpose,
        row.example,
        row.description,
      ]);
      print(`${table([['set', 'prompts', 'hash', 'purpose', 'such as', ''], ...lines])}\n`);
    });
}
