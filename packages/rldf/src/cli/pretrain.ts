import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { Argument, Command, Option } from 'commander';
import { duration, Estimate, Progress } from './progress.js';
import { interruption } from './shared.js';

interface Options {
  folder: string;
  steps?: string;
  minutes?: string;
  batchSize: string;
  learningRate?: string;
  seed: string;
  scenes?: string;
  precision: 'float32' | 'bfloat16';
  threads?: string;
  output?: string;
}

/** What each network is made of, in order, with the settings the shipped model was trained by. */
const networks = {
  clip: [{ stage: 'clip', steps: 6000, learningRate: 1e-3 }],
  vae: [
    { stage: 'decoder', steps: 20_000, learningRate: 1e-3 },
    { stage: 'encoder', steps: 4000, learningRate: 1e-3 },
  ],
  unet: [{ stage: 'unet', steps: 100_000, learningRate: 1e-3 }],
  judge: [{ stage: 'judge', steps: 6000, learningRate: 1e-3 }],
} as const;

export function pretrainCommand(): Command {
  return new Command('pretrain')
    .description('train the built-in models from nothing, stage by stage, and pack them into a model folder')
    .addArgument(
      new Argument(
        '<network>',
        'clip and vae first, then unet; judge is the classifier that measures; pack writes the model',
      ).choices([...Object.keys(networks), 'pack']),
    )
    .option(
      '--folder <folder>',
      'holds one folder a stage; an interrupted stage continues there',
      'runs/pretrain',
    )
    .option('--steps <n>', 'optimiser steps in all')
    .option('--minutes <n>', 'stop and save after this long; the next call continues')
    .option('--batch-size <n>', 'scenes a step', '64')
    .option('--learning-rate <x>', 'highest learning rate')
    .option('--seed <n>', 'seed of weights and scenes', '0')
    .option('--scenes <n>', 'scenes encoded and cached for the U-Net')
    .addOption(
      new Option('--precision <dtype>', 'of forward and backward')
        .choices(['float32', 'bfloat16'])
        .default('float32'),
    )
    .option('--threads <n>', 'CPU threads')
    .option('--output <folder>', 'pack: the model folder to write')
    .addHelpText(
      'after',
      `
Examples:
  $ rldf pretrain clip --minutes 20
  $ rldf pretrain vae --minutes 60
  $ rldf pretrain unet --minutes 120 --precision bfloat16
  $ rldf pretrain pack --output my-model`,
    )
    .action(async (network: keyof typeof networks | 'pack', options: Options) => {
      const { UserError } = await import('../errors.js');
      const { packModel, pretrain } = await import('../pretrain/index.js');
      const tokenizerFolder = worldTokenizer();
      if (network === 'pack') {
        if (options.output === undefined)
          throw new UserError('pretrain pack: where to? Give --output FOLDER');
        await packModel(options.folder, tokenizerFolder, options.output);
        process.stdout.write(`${options.output}\n`);
        return;
      }
      const number = (name: string, text: string, whole = true) => {
        const value = Number(text);
        if (
          text.trim() === '' ||
          !(value > 0 || (name === 'seed' && value === 0)) ||
          (whole && !Number.isSafeInteger(value))
        ) {
          throw new UserError(`--${name} ${text}: expected a ${whole ? 'whole ' : ''}number above 0`);
        }
        return value;
      };
      const progress = new Progress();
      const { signal, release } = interruption(() =>
        progress.print('stopping: saving first; Ctrl-C again ends at once'),
      );
      try {
        for (const { stage, steps, learningRate } of networks[network]) {
          const estimate = new Estimate();
          const events = pretrain({
            stage,
            folder: options.folder,
            tokenizerFolder,
            steps: options.steps === undefined ? steps : number('steps', options.steps),
            batchSize: number('batch-size', options.batchSize),
            learningRate:
              options.learningRate === undefined
                ? learningRate
                : number('learning-rate', options.learningRate, false),
            seed: number('seed', options.seed),
            precision: options.precision,
            ...(options.minutes === undefined ? {} : { minutes: number('minutes', options.minutes, false) }),
            ...(options.scenes === undefined ? {} : { cachedScenes: number('scenes', options.scenes) }),
            ...(options.threads === undefined ? {} : { threads: number('threads', options.threads) }),
            signal,
            log: (line) => progress.print(line),
          });
          for await (const { step, steps: all, loss, seconds } of events) {
            progress.update(
              `${stage} step ${step}/${all}  loss ${loss.toFixed(4)}  ${duration(seconds)}  ${estimate.left(step / all)}`,
            );
          }
          progress.clear();
          if (signal.aborted)
            throw new UserError(
              `interrupted — ${join(options.folder, stage)} is saved. The same command continues it`,
            );
          progress.print(`${stage}: saved in ${join(options.folder, stage)}`);
        }
      } finally {
        progress.clear();
        release();
      }
    });
}

function worldTokenizer(): string {
  return fileURLToPath(new URL('../model/tokenizer', import.meta.resolve('@rldf/emoji-world')));
}
