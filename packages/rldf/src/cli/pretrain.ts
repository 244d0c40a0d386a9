import { Command, Option } from 'commander';
import { Progress } from './progress.js';
import { interruption } from './shared.js';

interface Options {
  folder: string;
  steps?: string;
  minutes?: string;
  batchSize?: string;
  learningRate?: string;
  scenes?: string;
  precision?: 'float32' | 'bfloat16';
  threads?: string;
  seed?: string;
  output?: string;
  from?: string;
  textRate?: string;
  world?: string;
  layoutWeight?: string;
  relationNoise?: string;
  countNoise?: string;
  decay?: string;
}

export function pretrainCommand(): Command {
  return new Command('pretrain')
    .description(
      'train the built-in model and its instruments from nothing, stage by stage; a stage continues where it was',
    )
    .argument(
      '<stage>',
      'clip, decoder, encoder, unet; gligen for a variant that is told boxes; instruments: detector, judge-detector, judge, style, clip-2, preference, judge-preference, image-reward, aesthetic; vae for decoder and encoder; pack to write the model folder',
    )
    .option('--folder <folder>', 'holds one folder a stage', 'runs/pretrain')
    .option('--steps <n>', 'updates in all; the learning rate falls to zero there')
    .option('--minutes <n>', 'stop this leg after so long, with a checkpoint')
    .option('--batch-size <n>', 'pictures an update')
    .option('--learning-rate <x>', 'highest learning rate')
    .option('--scenes <n>', 'unet, gligen: scenes encoded before it trains')
    .option(
      '--from <folder>',
      'unet, decoder, encoder: go on from this model folder’s weights; gligen: add to this model (default emoji); pack: change what the folder’s stages trained',
    )
    .option(
      '--text-rate <x>',
      'unet: the text encoder’s share of the learning rate (default 0.5 with --from, else 0)',
    )
    .option('--world <name>', 'unet: mix of scenes: base, second, objects or everything')
    .option('--layout-weight <x>', 'unet: weight of telling places and numbers at the last noun’s token', '0')
    .option('--relation-noise <share>', 'unet: share of captions whose relation is drawn anew')
    .option('--count-noise <share>', 'unet: share of captions whose number is drawn anew')
    .option('--decay <share>', 'of the updates, the last ones: the learning rate falls over them (default 1)')
    .addOption(
      new Option('--precision <type>', 'of products and convolutions').choices(['float32', 'bfloat16']),
    )
    .option('--threads <n>', 'CPU threads')
    .option('--seed <n>', 'seed of everything random; default: the stage’s own')
    .option(
      '--output <folder>',
      'where the model folder (pack, gligen) or the instrument’s weights and card go',
    )
    .addHelpText(
      'after',
      `
Examples:
  $ rldf pretrain clip
  $ rldf pretrain vae --minutes 30
  $ rldf pretrain unet --minutes 120 --precision bfloat16
  $ rldf pretrain unet --from packages/emoji-world/model --folder runs/leg-3 --text-rate 0.5 --decay 0.3
  $ rldf pretrain gligen --precision bfloat16
  $ rldf pretrain pack --output my-model
  $ rldf pretrain detector --output my-instruments`,
    )
    .action(async (stage: string, options: Options) => {
      const { runPretraining } = await import('../pretrain/index.js');
      const progress = new Progress();
      const { signal, release } = await interruption(() =>
        progress.print('stopping with a checkpoint; Ctrl-C again ends at once'),
      );
      const number = (text: string | undefined) => (text === undefined ? undefined : Number(text));
      try {
        await runPretraining(stage, {
          folder: options.folder,
          steps: number(options.steps),
          minutes: number(options.minutes),
          batchSize: number(options.batchSize),
          learningRate: number(options.learningRate),
          cachedScenes: number(options.scenes),
          textRate: number(options.textRate),
          layoutWeight: Number(options.layoutWeight),
          world: options.world,
          captionNoise: noiseOf(options),
          decay: number(options.decay),
          precision: options.precision,
          threads: number(options.threads),
          seed: number(options.seed),
          output: options.output,
          from: options.from,
          signal,
          log: (line) => progress.print(line),
          onEvent: ({ step, steps, loss, learningRate, seconds }) =>
            progress.update(
              `${stage} ${step}/${steps}  loss ${loss.toFixed(4)}  rate ${learningRate.toExponential(1)}  ${Math.round(seconds)} s`,
            ),
        });
      } finally {
        release();
        progress.clear();
      }
    });
}

/** How careless captions are; undefined leaves it to the world. */
function noiseOf({ relationNoise, countNoise }: Options) {
  if (relationNoise === undefined && countNoise === undefined) return undefined;
  return { relation: Number(relationNoise ?? 0), count: Number(countNoise ?? 0) };
}
