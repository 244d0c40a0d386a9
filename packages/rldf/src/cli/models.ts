import { isAbsolute, relative } from 'node:path';
import { Command } from 'commander';
import { print } from './output.js';
import { byteWords, printJson, table } from './shared.js';

export function modelsCommand(): Command {
  return new Command('models')
    .description('list the models that are here and the built-in rewards; download models of a hub')
    .option('--rewards', 'list the built-in rewards instead')
    .option('--json', 'print as JSON: [{ name, path, kind, licence, bytes }]')
    .addCommand(addCommand())
    .addCommand(listCommand())
    .addCommand(removeCommand())
    .addHelpText(
      'after',
      `
Examples:
  $ rldf models
  $ rldf models --json
  $ rldf models --rewards
  $ rldf models add stable-diffusion-v1-5/stable-diffusion-v1-5:fp16
  $ rldf models list
  $ rldf models rm stable-diffusion-v1-5/stable-diffusion-v1-5

What may stand for a model: docs/models.md`,
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

function addCommand(): Command {
  return new Command('add')
    .description('download models or adapters of a hub into its cache, or bring them up to date')
    .argument('<id...>', 'owner/name, owner/name@revision, owner/name:variant or owner/name/file.safetensors')
    .option('--adapter', 'they are adapters')
    .option('--json', 'print as JSON: [{ id, path }]')
    .addHelpText(
      'after',
      `
Examples:
  $ rldf models add stabilityai/stable-diffusion-xl-base-1.0:fp16
  $ rldf models add stabilityai/stable-diffusion-xl-base-1.0/sd_xl_base_1.0.safetensors
  $ rldf models add owner/lora@v2 --adapter

HF_TOKEN, HF_ENDPOINT, HF_HUB_CACHE, HF_HUB_OFFLINE mean what they mean to Hugging Face’s own tools.`,
    )
    .action(async (ids: string[], options: { adapter?: boolean }, command: Command) => {
      const { fetchAdapter, fetchModel } = await import('@rldf/common/hub/index');
      const { shown } = await import('./provide.js');
      const fetch = options.adapter ? fetchAdapter : fetchModel;
      const added: { id: string; path: string }[] = [];
      for (const id of ids) {
        const path = await shown(id, (fetching) => fetch(id, { ...fetching, refresh: true }));
        added.push({ id, path });
        if (!json(command)) print(`${id}: ${path}\n`);
      }
      if (json(command)) printJson(added);
    });
}

function listCommand(): Command {
  return new Command('list')
    .description('the models and adapters of the hub’s cache, with sizes')
    .option('--json', 'print as JSON: [{ repo, folder, revisions, bytes, unfinished }]')
    .action(async (_: unknown, command: Command) => {
      const { hubSettings, listCached } = await import('@rldf/common/hub/index');
      const { cache } = hubSettings();
      const repos = listCached(cache);
      if (json(command)) return printJson(repos);
      const rows = repos.flatMap(({ repo, revisions, bytes, unfinished }) => [
        [repo, byteWords(bytes), unfinished === 0 ? '' : `${byteWords(unfinished)} unfinished`],
        ...revisions.map((one) => [
          `  ${[one.commit.slice(0, 12), ...one.refs].join(' = ')}`,
          byteWords(one.bytes),
          `${one.files.length} files`,
        ]),
      ]);
      const total = repos.reduce((sum, { bytes }) => sum + bytes, 0);
      print(
        rows.length === 0
          ? `nothing is in ${cache}\n`
          : `${table(rows)}\n${byteWords(total)} in ${isAbsolute(cache) ? cache : relative('.', cache)}\n`,
      );
    });
}

function removeCommand(): Command {
  return new Command('rm')
    .description('remove models or adapters from the hub’s cache: whole, or one revision')
    .argument('<id...>', 'owner/name, or owner/name@revision')
    .option('--json', 'print as JSON: [{ id, bytes }]')
    .action(async (ids: string[], _: unknown, command: Command) => {
      const { hubId, hubSettings, removeCached } = await import('@rldf/common/hub/index');
      const removed: { id: string; bytes: number }[] = [];
      for (const id of ids) {
        const bytes = removeCached(hubSettings().cache, hubId(id));
        removed.push({ id, bytes });
        if (!json(command)) print(`${id}: removed, ${byteWords(bytes)} free\n`);
      }
      if (json(command)) printJson(removed);
    });
}

/** `--json` before or behind the name of the sub-command. */
const json = (command: Command): boolean => command.optsWithGlobals().json === true;
