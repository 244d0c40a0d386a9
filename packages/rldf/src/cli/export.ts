import { Command, Option } from 'commander';
import { modelOption } from './options.js';
import { print } from './output.js';
import { provideAdapters, provideModels } from './provide.js';
import { printJson } from './shared.js';

interface Options {
  format: 'kohya' | 'diffusers' | 'single-file';
  output: string;
  merge?: boolean;
  model?: string;
  precision?: 'float32' | 'float16' | 'bfloat16';
  json?: boolean;
}

export function exportCommand(): Command {
  return new Command('export')
    .description(
      'rewrite LoRA files for other tools, several into one; or write a whole model with them in its weights',
    )
    .argument(
      '[adapter...]',
      'LoRA files or ids of a hub, in diffusers’, PEFT’s or kohya’s layout; with --merge also FILE:strength',
    )
    .addOption(
      new Option(
        '--format <name>',
        'kohya: LoRA for ComfyUI, A1111 and sd-scripts; diffusers: LoRA with PEFT’s names, with --merge a folder; single-file: with --merge a checkpoint of one file',
      )
        .choices(['kohya', 'diffusers', 'single-file'])
        .makeOptionMandatory(),
    )
    .requiredOption('--output <file>', 'the .safetensors file to write, or a new folder')
    .option('--merge', 'write the whole model, with the adapters (or without any) added to its weights')
    .option(modelOption[0], `with --merge: ${modelOption[1]}`)
    .addOption(
      new Option(
        '--precision <type>',
        'with --merge: of the weights; default: as the model is stored',
      ).choices(['float32', 'float16', 'bfloat16']),
    )
    .option('--json', 'print { file, format, layers: { unet, textEncoder } } as JSON')
    .addHelpText(
      'after',
      `
Examples:
  $ rldf export runs/first/adapters/pytorch_lora_weights.safetensors --format kohya --output first.safetensors
  $ rldf export unet.safetensors text.safetensors --format kohya --output both.safetensors
  $ rldf export from-the-web.safetensors --format diffusers --output pytorch_lora_weights.safetensors
  $ rldf export lora.safetensors:0.8 --merge --model ./sd15 --format single-file --output merged.safetensors
  $ rldf export --merge --model checkpoint.safetensors --format diffusers --output my-model`,
    )
    .action(async (adapters: string[], options: Options) => {
      const { UserError } = await import('@rldf/torch/errors');
      if (options.merge) return merge(adapters, options, UserError);
      const only = (['model', 'precision'] as const).find((name) => options[name] !== undefined);
      if (only !== undefined || options.format === 'single-file')
        throw new UserError(
          `export: ${only === undefined ? '--format single-file' : `--${only}`} is of whole models — add --merge, or leave it out`,
        );
      if (adapters.length === 0)
        throw new UserError('export: no LoRA file given — name one, or add --merge to write a model');
      const { countWords, exportAdapterFiles } = await import('../adapters/export-files.js');
      const files = await provideAdapters(adapters.map((path) => ({ path })));
      const paths = files.map(({ path }) => path);
      const written = exportAdapterFiles(paths, options.output, options.format);
      if (options.json) return printJson(written);
      print(`${written.file}: ${countWords(written.layers)}\n`);
    });
}

async function merge(
  adapters: readonly string[],
  { model, format, output, precision, json }: Options,
  UserError: new (message: string) => Error,
): Promise<void> {
  if (model === undefined)
    throw new UserError('export --merge: no model given — name it with --model: whose weights are written');
  if (format === 'kohya')
    throw new UserError(
      '--format kohya: is a layout of adapters — with --merge use single-file or diffusers',
    );
  const { parseAdapter } = await import('../adapters/generate-files.js');
  const { writeMergedModel } = await import('../adapters/merge-model.js');
  await provideModels([model]);
  const provided = await provideAdapters(adapters.map(parseAdapter));
  const written = writeMergedModel({
    ...{ model, adapters: provided, output, format },
    ...(precision && { dtype: precision }),
  });
  if (json) return printJson(written);
  const what = adapters.length === 0 ? '' : ` with ${written.layers} layers adapted`;
  const dtypes = [...new Set(Object.values(written.dtypes))].join(' and ');
  print(`${output}: ${written.model}${what}, ${dtypes}\n`);
}
