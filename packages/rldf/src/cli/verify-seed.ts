import { Command, Option } from 'commander';
import { deviceOption } from './options.js';
import { print } from './output.js';
import { provideModels } from './provide.js';
import { printJson } from './shared.js';

interface Options {
  steps: string;
  device: string;
  precision: 'float64' | 'float32';
  json?: boolean;
}

export function verifySeedCommand(): Command {
  return new Command('verify-seed')
    .description(
      'prove on this machine that a picture depends on its seed and not on the batch it is drawn in',
    )
    .argument('[model]', 'shipped model or folder in diffusers layout', 'emoji')
    .option('--steps <n>', 'denoising steps', '10')
    .option(...deviceOption)
    .addOption(
      new Option('--precision <type>', 'of the networks').choices(['float64', 'float32']).default('float64'),
    )
    .option('--json', 'print hashes and differences as JSON')
    .addHelpText(
      'after',
      `
Four pictures are drawn at once and one at a time, with noise at every step. The noise must be equal bit for bit, the
denoised latents to 1e-4. Exit code 0: equal; 1: not equal.

The networks compute in float64: in float32, kernels for other batch sizes round differently, and where a prompt leaves
the model undecided the steps amplify that (--precision float32 shows by how much) without any dependence on the batch.

Examples:
  $ rldf verify-seed
  $ rldf verify-seed ./my-model --steps 20
  $ rldf verify-seed --precision float32
  $ rldf verify-seed --device cuda --json`,
    )
    .action(async (name: string, options: Options) => {
      const { UserError } = await import('@rldf/torch/errors');
      const { findModel } = await import('@rldf/common/instruments/models');
      const { verifySeed } = await import('../verify/seed.js');
      const { loadPipeline } = await import('@rldf/models');
      const { deviceName } = await import('@rldf/torch');
      const steps = Number(options.steps);
      if (!Number.isSafeInteger(steps) || steps < 1)
        throw new UserError(`--steps ${options.steps}: expected a whole number of at least 1`);
      const device = options.device as Parameters<typeof deviceName>[0];
      deviceName(device);
      await provideModels([name]);
      const pipeline = loadPipeline(findModel(name).path, { device, dtype: options.precision });
      const result = await verifySeed(pipeline, { steps }).finally(() => {
        for (const parameters of Object.values(pipeline.parameters)) parameters.free();
      });
      process.exitCode = result.equal ? 0 : 1;
      if (options.json) return printJson(result);
      const { noise, latents, pictures } = result;
      const other = noise.find(({ equal }) => !equal);
      const lines = [
        `noise     ${other ? `${other.what}: ${other.difference}` : `${noise.length} draws equal bit for bit (first ${noise[0]?.hashes[0].slice(0, 16)})`}`,
        `latents   largest difference ${latents.largest.toExponential(1)}, allowed ${latents.tolerance.toExponential(0)}${latents.difference ? `; ${latents.difference}` : ''}`,
        `pictures  largest difference ${pictures} of 255`,
        result.equal
          ? 'equal: a picture drawn alone is that drawn in a batch of four'
          : 'NOT equal: see the first difference above',
      ];
      print(`${lines.join('\n')}\n`);
    });
}
