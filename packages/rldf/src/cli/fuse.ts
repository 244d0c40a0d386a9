import { seedOf } from '@rldf/torch/seeds';
import { Command } from 'commander';
import type { FusedAdapters } from '../adapters/fuse.js';
import type { AdapterFile } from '../adapters/generate-files.js';
import { deviceOption } from './options.js';
import { print } from './output.js';
import { Progress } from './progress.js';
import { provideAdapters, provideModels, provideRewards } from './provide.js';
import { numberOption, printJson, table } from './shared.js';

interface Options {
  output: string;
  grid?: string;
  model: string;
  reward: string;
  prompts?: string;
  promptFile?: string;
  count: string;
  strengths: string;
  seed: string;
  steps?: string;
  guidance?: string;
  batchSize: string;
  device: string;
  json?: boolean;
}

export function fuseCommand(): Command {
  return new Command('fuse')
    .description('add up LoRA files without training: of the text encoder and the U-Net, of several tasks')
    .argument('<adapter...>', 'FILE or FILE:strength, in diffusers’, PEFT’s or kohya’s layout')
    .requiredOption('--output <file>', 'the .safetensors file to write')
    .option(
      '--grid <folder>',
      'draw neither, each and both, and the reward over the strengths of the two networks',
    )
    .option(
      '--model <name>',
      'for the grid: shipped model or folder that the adapters were trained on',
      'emoji',
    )
    .option('--reward <name>', 'for the grid: built-in reward, see rldf rewards', 'clip-score')
    .option('--prompts <set>', 'for the grid: a named set; default: validation prompts of the built-in world')
    .option('--prompt-file <file>', 'for the grid: prompts from a file')
    .option('--count <n>', 'for the grid: how many of the prompts', '16')
    .option('--strengths <list>', 'for the grid: of each network, each with each', '0,0.5,1')
    .option('--seed <n>', 'for the grid: of the first picture; the others count up', '0')
    .option('--steps <n>', 'for the grid: denoising steps; default: the model’s')
    .option('--guidance <scale>', 'for the grid: default: the model’s')
    .option('--batch-size <n>', 'pictures drawn at once', '32')
    .option(...deviceOption)
    .option('--json', 'print what was written, and the rewards of the grid, as JSON')
    .addHelpText(
      'after',
      `
Examples:
  $ rldf fuse runs/text/adapters runs/unet/adapters --output both.safetensors
  $ rldf fuse runs/text/adapters runs/unet/adapters --output both.safetensors --grid fused --reward preference
  $ rldf fuse colour.safetensors:0.7 count.safetensors:0.5 --output tasks.safetensors`,
    )
    .action(async (adapters: string[], options: Options) => {
      const { fuseAdapters } = await import('../adapters/fuse.js');
      const { countWords } = await import('../adapters/export-files.js');
      const { parseAdapter } = await import('../adapters/generate-files.js');
      const strengths = strengthsOf(options.strengths);
      if (options.grid !== undefined) {
        await provideModels([options.model]);
        await provideRewards(options.reward);
      }
      const parsed = await provideAdapters(adapters.map(parseAdapter));
      const words = ({ file, layers, rank }: FusedAdapters) =>
        `${file}: ${countWords(layers)}, rank up to ${rank}`;
      if (options.grid === undefined) {
        const fused = fuseAdapters(parsed, options.output);
        if (options.json) printJson(fused);
        else print(`${words(fused)}\n`);
        return;
      }
      const { fused, files, points } = await grid(parsed, options.grid, strengths, options);
      if (options.json) {
        const rewards = points.map(({ textEncoder, unet, reward }) => ({ textEncoder, unet, ...reward }));
        return printJson({ ...fused, files, points: rewards });
      }
      const rows = points.map(({ textEncoder, unet, reward }) => [
        String(textEncoder),
        String(unet),
        reward.mean.toFixed(4),
        reward.interval.map((end) => end.toFixed(4)).join(' to '),
      ]);
      const head = ['text encoder', 'U-Net', options.reward, '95 % interval over pictures'];
      print(`${[words(fused), table([head, ...rows]), ...files].join('\n')}\n`);
    });
}

/** Fuses and draws; nothing is written before all is known to fit. */
async function grid(adapters: readonly AdapterFile[], folder: string, strengths: number[], options: Options) {
  const { loadPipeline } = await import('@rldf/models');
  const { checkGrid, fuseAdapters, strengthSurface } = await import('../adapters/fuse.js');
  const { findModel } = await import('@rldf/common/instruments/models');
  const { loadPrompts } = await import('../prompts/prompts.js');
  const { readPromptFile } = await import('../prompts/prompt-files.js');
  const { loadReward } = await import('../rewards/index.js');
  const { writeFusion } = await import('../report/fusion.js');
  const count = numberOption('count', options.count, { least: 1 }) as number;
  const seed = seedOf(options.seed);
  const batchSize = numberOption('batch-size', options.batchSize, { least: 1 }) as number;
  const steps = numberOption('steps', options.steps, { least: 1 });
  const guidance = numberOption('guidance', options.guidance, { whole: false });
  const all =
    options.promptFile !== undefined
      ? readPromptFile(options.promptFile)
      : loadPrompts(
          options.prompts === undefined ? { split: 'validation', kind: 'single' } : { set: options.prompts },
        );
  const prompts = all.slice(0, count);
  const model = findModel(options.model);
  checkGrid(adapters, model);
  const reward = await loadReward(options.reward, options.device as 'cpu');
  const pipeline = loadPipeline(model.path, { device: options.device as 'cpu' });
  const progress = new Progress();
  try {
    const fused = fuseAdapters(adapters, options.output);
    const points = await strengthSurface(pipeline, {
      model: model.name,
      adapter: fused.file,
      prompts,
      strengths,
      reward,
      steps: steps ?? pipeline.defaults.steps ?? 30,
      guidanceScale: guidance ?? pipeline.defaults.guidanceScale ?? 7.5,
      seed,
      batchSize,
      onProgress: (share) => progress.update(`drawing ${Math.round(100 * share)} %`),
    });
    const texts = prompts.map(({ text }) => text);
    const report = { model: model.name, reward: reward.name, unit: reward.unit, prompts: texts, points };
    return { fused, files: await writeFusion(folder, report), points };
  } finally {
    progress.clear();
    for (const parameters of Object.values(pipeline.parameters)) parameters.free();
  }
}

function strengthsOf(list: string): number[] {
  return list
    .split(',')
    .map(
      (text) => numberOption('strengths', text, { whole: false, least: Number.NEGATIVE_INFINITY }) as number,
    );
}
