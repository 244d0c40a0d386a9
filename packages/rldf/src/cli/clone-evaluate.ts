import type { Device } from '@rldf/torch';
import { Command, Option } from 'commander';
import { modelGuidanceOption, modelSettings, modelStepsOption } from './options.js';
import { print } from './output.js';
import { Progress } from './progress.js';
import { provideModels } from './provide.js';
import { collect, interruption, numberOption, printJson } from './shared.js';

interface Options {
  real: string;
  shift: string[];
  nouns?: string;
  pictures?: string;
  epochs: string;
  seeds: string;
  arms: string;
  runs?: string;
  model: string;
  denoisingSteps?: string;
  guidance?: string;
  size: string;
  batchSize: string;
  learningRate: string;
  precision: string;
  features: string;
  threads?: string;
  device: string;
  json?: boolean;
}

export function cloneEvaluateCommand(): Command {
  return new Command('evaluate')
    .description('train a ResNet-18 on a clone and test it on the real pictures (RLDF, tables 1 and 2)')
    .argument('<clone>', 'a folder that rldf clone wrote')
    .option(
      '--real <folder>',
      'train/ and test/ with a folder a class, or folders of classes; world: scenes of the built-in world',
      'world',
    )
    .option('--shift <name=folder>', 'another test set; repeatable (world brings its own)', collect, [])
    .option('--nouns <n>', 'the first classes only')
    .option('--pictures <n>', 'of each arm, over all classes; default: all of the clone')
    .option('--epochs <n>', 'of each training', '8')
    .option('--seeds <list>', 'one training a seed and arm', '0,1,2')
    .option('--arms <list>', 'of clone, class-name, real', 'clone,class-name,real')
    .option('--runs <folder>', 'classifiers, pictures and results; default: CLONE/.evaluation')
    .option('--model <model>', 'draws the class-name arm: the model that drew the clone', 'emoji')
    .option(...modelStepsOption)
    .option(...modelGuidanceOption)
    .option('--size <pixels>', 'edge to which all pictures are brought', '64')
    .option('--batch-size <n>', 'pictures an update', '32')
    .option('--learning-rate <x>', 'of AdamW, at the top of its cosine', '1e-3')
    .addOption(
      new Option('--precision <type>', 'of products in training')
        .choices(['float32', 'bfloat16'])
        .default('float32'),
    )
    .option('--features <name>', 'network behind FID and KID: style or clip-2', 'style')
    .option('--threads <n>', 'CPU threads')
    .option('--device <device>', 'of model and classifiers: cpu, cuda or cuda:N', 'cpu')
    .option('--json', 'print the results as JSON')
    .addHelpText(
      'after',
      `
Examples:
  $ rldf clone evaluate clone --nouns 20 --pictures 1000 --seeds 0
  $ rldf clone evaluate clone --real IMAGENET --shift sketch=IMAGENET_SKETCH --size 224

Calling again goes on where it was stopped. docs/methods/rldf.md`,
    )
    .action(async (clone: string, options: Options) => {
      const { checkDrawing } = await import('../plan/drawing.js');
      const { UserError } = await import('@rldf/torch/errors');
      const { deviceName, setThreads } = await import('@rldf/torch');
      const { featureNetworks } = await import('@rldf/common/instruments/feature-networks');
      const { openSource } = await import('@rldf/search');
      const { armNames, defaultRecipe, evaluateAndWrite } = await import('@rldf/search/clone');
      const number = (name: string, text: string | undefined, least = 1, whole = true) =>
        numberOption(name, text, { least, whole });
      const arms = options.arms.split(',');
      const unknown = arms.find((arm) => !(armNames as readonly string[]).includes(arm));
      if (unknown !== undefined)
        throw new UserError(`--arms ${options.arms}: there is no ${unknown} — of ${armNames.join(', ')}`);
      const network = Object.hasOwn(featureNetworks, options.features)
        ? featureNetworks[options.features]
        : undefined;
      if (network === undefined)
        throw new UserError(
          `--features ${options.features}: there is no feature network of this name — one of ${Object.keys(featureNetworks).join(', ')}`,
        );
      const shifts = options.shift.map((text) => {
        const [, name, folder] = /^([^=/]+)=(.+)$/.exec(text) ?? [];
        if (name === undefined || folder === undefined)
          throw new UserError(`--shift ${text}: write NAME=FOLDER, such as sketch=IMAGENET_SKETCH`);
        return [name, folder] as const;
      });
      const threads = number('threads', options.threads);
      if (threads !== undefined) setThreads(threads);
      const [nouns, pictures] = [number('nouns', options.nouns), number('pictures', options.pictures)];
      const drawing = modelSettings(options);
      if (arms.includes('class-name')) await provideModels([options.model]);
      const progress = new Progress();
      const { signal, release } = await interruption(() => progress.print('saving a checkpoint ...'));
      try {
        const { evaluation, text } = await evaluateAndWrite({
          clone,
          real: options.real,
          shifts: Object.fromEntries(shifts),
          arms: armNames.filter((arm) => arms.includes(arm)),
          ...(nouns === undefined ? {} : { classes: nouns }),
          ...(pictures === undefined ? {} : { pictures }),
          recipe: {
            ...defaultRecipe,
            epochs: number('epochs', options.epochs)!,
            batchSize: number('batch-size', options.batchSize, 2)!,
            learningRate: number('learning-rate', options.learningRate, 0, false)!,
            precision: options.precision as 'float32',
          },
          device: deviceName(options.device as Device) as Device,
          seeds: options.seeds.split(',').map((text) => number('seeds', text, 0)!),
          size: number('size', options.size, 32)!,
          runs: options.runs ?? `${clone}/.evaluation`,
          source: () =>
            openSource(options.model, {
              ...drawing,
              checkDrawing,
              onNotice: (line) => progress.print(line),
              device: options.device as Device,
            }),
          features: network(),
          featuresName: options.features,
          signal,
          onProgress: (event) => progress.update(progressWords(event)),
        });
        progress.clear();
        if (options.json) printJson(evaluation);
        else print(text);
      } finally {
        progress.clear();
        release();
      }
    });
}

type Event = import('@rldf/search/clone').EvaluationProgress;

/** One line for each kind of progress. */
export function progressWords(event: Event): string {
  if (event.kind === 'measuring') return 'measuring distances';
  if (event.kind === 'drawing') return `drawing by class name: ${event.done} of ${event.pictures}`;
  const { arm, seed, done, trainings, step, steps, loss, picturesPerSecond } = event;
  return `training ${done + 1} of ${trainings} (${arm}, seed ${seed}): update ${step} of ${steps}, loss ${loss.toFixed(2)}, ${picturesPerSecond.toFixed(0)} pictures/s`;
}
