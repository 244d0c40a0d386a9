import { Command } from 'commander';
import { print } from './output.js';
import { byteWords, printJson, table } from './shared.js';

export function modelsCommand(): Command {
  return new Command('models')
    .description('list the models that are here, and the built-in rewards')
    .option('--rewards', 'list the built-in rewards instead')
    .option('--json', 'print as JSON: [{ name, path, kind, licence, bytes }]')
    .addHelpText(
      'after',
      `
Examples:
  $ rldf models
  $ rldf models --json
  $ rldf models --rewards`,
    )
    .action(async (options: { rewards?: boolean; json?: boolean }) => {
      if (options.rewards) {
        const { rewards } = await import('../rewards/index.js');
        const rows = Object.entries(rewards).map(([name, { load: _load, ...about }]) => ({ name, ...about }));
        if (options.json) return printJson(rows);
        print(`${table(rows.map((row) => [row.name, row.unit, row.description]))}\n`);
        return;
      }
      const { listModels } = await import('@rldf/common/instruments/models');
      const models = listModels();
      if (options.json) return printJson(models);
      const rows = models.map(({ name, kind, licence, bytes, path }) => [
        name,
        kind,
        byteWords(bytes),
        licence,
        path,
      ]);
      print(rows.length === 0 ? 'no models are here\n' : `${table(rows)}\n`);
    });
}
