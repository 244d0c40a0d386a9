import { existsSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { Command } from 'commander';
import { print } from './output.js';
import { numberOption, printJson } from './shared.js';

interface Options {
  port: string;
  open: boolean;
  json?: boolean;
  results?: string;
}

export function studioCommand(): Command {
  return new Command('studio')
    .description(
      'a local page beside trainings: curves, pictures through time, strength dial, ratings; Ctrl-C ends it',
    )
    .argument('[runs]', 'folder of all runs', 'runs')
    .option('--port <n>', 'port on 127.0.0.1; 0: a free one', '8421')
    .option('--no-open', 'print the address only, open no browser')
    .option(
      '--results <folder>',
      'folder with tables of rldf reproduce; default: docs/results, where there is one',
    )
    .option('--json', 'print { address, port, runs } as JSON')
    .addHelpText(
      'after',
      `
The address holds a token: whoever has it and is on this machine can see the runs. From another machine, forward the port:
ssh -L 8421:127.0.0.1:8421 HOST, then open the address that is printed here.

Examples:
  $ rldf studio
  $ rldf studio runs --no-open --port 0 --json
  $ rldf studio . --port 9000              runs and searches below this folder`,
    )
    .action(async (given: string, options: Options) => {
      const runs = existsSync(join(given, 'recipe.yaml')) ? join(given, '..') : given; // a run: those beside it
      const port = numberOption('port', options.port) as number;
      const { UserError } = await import('@rldf/torch/errors');
      if (port > 65535)
        throw new UserError(`--port ${port}: ports end at 65535. Choose a lower one, or 0 for a free one`);
      const { makeFolder } = await import('@rldf/common/base/files');
      makeFolder(runs);
      const { startStudio } = await import('@rldf/studio');
      const { studioServices } = await import('../studio/services.js');
      const results = options.results ?? resolve('docs', 'results');
      const studio = await startStudio({
        runs,
        port,
        services: studioServices(),
        results: existsSync(results) ? [results] : [],
      }).catch((error: NodeJS.ErrnoException) => {
        if (error.code !== 'EADDRINUSE' && error.code !== 'EACCES') throw error;
        const why = error.code === 'EADDRINUSE' ? 'is taken' : 'needs more rights';
        throw new UserError(
          `--port ${port}: ${why} — a studio may be open already. Choose another, or 0 for a free one`,
        );
      });
      if (options.json) printJson({ address: studio.address, port: studio.port, runs });
      else print(`${studio.address}\n`);
      if (options.open) openBrowser(studio.address);
      try {
        await interrupted();
      } finally {
        await studio.close();
      }
    });
}

/** Until Ctrl-C or SIGTERM, which is how it is meant to end. */
function interrupted(): Promise<void> {
  return new Promise((done) => {
    const handle = () => {
      process.off('SIGINT', handle);
      process.off('SIGTERM', handle);
      done();
    };
    process.on('SIGINT', handle);
    process.on('SIGTERM', handle);
  });
}

/** As far as there is one; the address is printed in any case. */
function openBrowser(address: string): void {
  const [command, ...words] =
    process.platform === 'darwin'
      ? ['open']
      : process.platform === 'win32'
        ? ['cmd', '/c', 'start', '']
        : ['xdg-open'];
  void import('node:child_process').then(({ spawn }) => {
    const child = spawn(command as string, [...words, address], { stdio: 'ignore', detached: true });
    child.on('error', () => {});
    child.unref();
  });
}
