import { Command } from 'commander';
import { print } from './output.js';

interface Options {
  torch?: string;
}

export function setupCommand(): Command {
  return new Command('setup')
    .description('find or install libtorch and build the addon; needed once after npm install')
    .option('--torch <version>', 'install this version of PyTorch into .venv instead of the tested one')
    .addHelpText(
      'after',
      `
libtorch is the first of: the folder in LIBTORCH, PyTorch in ./.venv, PyTorch of the system's python3, a fresh one in
./.venv. What is there already is not done again.

Examples:
  $ rldf setup
  $ LIBTORCH=/opt/libtorch rldf setup`,
    )
    .action(async ({ torch }: Options) => {
      const { buildAddon, checkNode, findLibtorch, installTorch, testedTorch, versionOf } = await import(
        '@rldf/torch/setup'
      );
      const say = (text: string) => print(`setup: ${text}\n`);
      checkNode();
      const libtorch =
        torch === undefined ? findLibtorch(process.cwd(), say) : installTorch('.venv', torch, say);
      await buildAddon(libtorch, say);
      const version = versionOf(libtorch) ?? 'of unknown version';
      const note = testedTorch.includes(version) ? '' : ` (tested: ${testedTorch.join(', ')})`;
      say(`ready: libtorch ${version}${note} at ${libtorch}`);
    });
}
