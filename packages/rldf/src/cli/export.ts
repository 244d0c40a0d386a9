import { Command, Option } from 'commander';
import { print } from './output.js';
import { printJson } from './shared.js';

interface Options {
  format: 'kohya' | 'diffusers';
  output: string;
  json?: boolean;
}

export function exportCommand(): Command {
  return new Command('export')
    .description('rewrite LoRA files for other tools; several files become one')
    .argument('<adapter...>', 'LoRA files, in diffusers’, PEFT’s or kohya’s layout')
    .addOption(
      new Option('--format <name>', 'kohya: for ComfyUI, A1111 and sd-scripts; diffusers: also PEFT’s names')
        .choices(['kohya', 'diffusers'])
        .makeOptionMandatory(),
    )
    .requiredOption('--output <file>', 'the .safetensors file to write')
    .option('--json', 'print { file, format, layers: { unet, textEncoder } } as JSON')
    .addHelpText(
      'after',
      `
Examples:
  $ rldf export runs/first/adapters/pytorch_lora_weights.safetensors --format kohya --output first.safetensors
  $ rldf export unet.safetensors text.safetensors --format kohya --output both.safetensors
  $ rldf export from-the-web.safetensors --format diffusers --output pytorch_lora_weights.safetensors`,
    )
    .action(async (adapters: string[], options: Options) => {
      const { exportAdapterFiles } = await import('../adapters/export-files.js');
      const written = exportAdapterFiles(adapters, options.output, options.format);
      if (options.json) return printJson(written);
      const { unet, textEncoder } = written.layers;
      print(`${written.file}: ${unet} layers of the U-Net, ${textEncoder} of the text encoder\n`);
    });
}
