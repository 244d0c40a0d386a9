import { defaultLearner } from '@rldf/search/default-learner';
import { Command, Option } from 'commander';
import { mostPictures } from '../base/counts.js';
import { cloneEvaluateCommand } from './clone-evaluate.js';
import { type SourceOptionValues, sourceOptions, sourceSettings } from './options.js';
import { print } from './output.js';
import { Progress } from './progress.js';
import { provideModels } from './provide.js';
import { grammarPath, interruption, numberOption, printJson } from './shared.js';

interface Options extends SourceOptionValues {
  images?: string;
  perClass: string;
  out?: string;
  format: string;
  grammar: string;
  model: string;
  clip?: string;
  agent: string;
  reward: string;
  epsilon: string;
  steps: string;
  seed: string;
  shard: string;
  memory?: string;
  minConfidence: string;
  redraw: string;
  json?: boolean;
}

export function cloneCommand(): Command {
  const evaluate = cloneEvaluateCommand()
    .exitOverride()
    .configureOutput({ outputError: () => {} });
  return sourceOptions(
    new Command('clone')
      .enablePositionalOptions()
      .addCommand(evaluate)
      .description(
        'draw a data set anew from one picture of each class (RLDF): search along the object axis, then draw',
      )
      .option('--images <folder>', 'one folder a class; the first picture of each is looked at, no name is')
      .option('--out <folder>', 'where the clone goes')
      .option('--per-class <n>', 'pictures of each class', '100')
      .addOption(
        new Option('--format <format>', 'as folders, or a tar a class')
          .choices(['folders', 'webdataset'])
          .default('folders'),
      )
      .option('--grammar <file>', 'grammar: a file, or objects, world, ...', 'objects')
      .option('--model <model>', 'draws: shipped model, folder, or http://HOST/v1#NAME', 'emoji')
      .option('--clip <folder>', 'recognise by this CLIP alone')
      .addOption(
        new Option('--agent <name>', 'who searches')
          .choices(['q', 'sarsa', 'random', 'enumeration', 'hill-climber'])
          .default('q'),
      )
      .addOption(
        new Option('--reward <name>', 'what it is paid for')
          .choices(['multi', 'partial', 'clip'])
          .default('multi'),
      )
      .option('--epsilon <schedule>', 'share of random actions', defaultLearner.epsilon)
      .option('--steps <n>', 'most steps of a search', '20000')
      .option('--seed <n>', 'of agents and pictures', '0')
      .option(
        '--shard <i/n>',
        'do every n-th class only, from the i-th: 0/4, 1/4, ... for four processes',
        '0/1',
      )
      .option('--memory <folder>', 'pictures that searches share; default: OUT/.memory')
      .option('--min-confidence <x>', 'least confidence in a class’s picture', '0.3')
      .option(
        '--redraw <n>',
        'draw a picture in which its object is not recognised again, at most so often',
        '0',
      ),
  )
    .option('--json', 'print what was done, one class after the other')
    .addHelpText(
      'after',
      `
Examples:
  $ rldf clone --images IMAGENET/val --per-class 50 --out clone
  $ rldf clone --images photos --out clone --format webdataset --shard 1/4
  $ rldf clone evaluate clone

Calling again goes on with the classes that are missing. docs/methods/rldf.md`,
    )
    .action(async (options: Options) => {
      const { checkDrawing } = await import('../plan/drawing.js');
      const { UserError } = await import('@rldf/torch/errors');
      const { exploration, openRecogniser, openSource, readGrammar } = await import('@rldf/search');
      const { cloneDataset } = await import('@rldf/search/clone');
      const { images, out } = options;
      if (images === undefined || out === undefined)
        throw new UserError(
          `clone: --${images === undefined ? 'images' : 'out'} is missing — a clone is drawn from a folder of pictures into another. See rldf clone --help`,
        );
      const number = (name: string, text: string, least = 0, whole = true) =>
        numberOption(name, text, { least, whole })!;
      const perClass = numberOption('per-class', options.perClass, { least: 1, most: mostPictures })!;
      const [index, count] = /^(\d+)\/(\d+)$/.exec(options.shard)?.slice(1).map(Number) ?? [];
      if (index === undefined || count === undefined || index >= count)
        throw new UserError(`--shard ${options.shard}: write i/n with i from 0 to n - 1, such as 0/4`);
      exploration(options.epsilon);
      const grammar = readGrammar(grammarPath(options.grammar));
      const seed = number('seed', options.seed);
      await provideModels([options.model]);
      const { recogniser, embedder } = openRecogniser(grammar, options.clip);
      const progress = new Progress();
      const { signal, release } = await interruption(() => progress.print('stopping ...'));
      const classes = [];
      try {
        const cloning = cloneDataset({
          images,
          perClass,
          output: out,
          format: options.format as 'folders',
          grammar,
          source: openSource(options.model, {
            ...sourceSettings(options),
            checkDrawing,
            onNotice: (line) => progress.print(line),
          }),
          recogniser,
          embedder,
          reward: options.reward as 'multi',
          pictureSeed: seed,
          follow: {
            ...defaultLearner,
            agent: options.agent as 'q',
            seed,
            steps: number('steps', options.steps, 1),
            epsilon: options.epsilon,
          },
          redraws: number('redraw', options.redraw),
          shard: { index, count },
          minConfidence: number('min-confidence', options.minConfidence, 0, false),
          ...(options.memory === undefined ? {} : { memory: options.memory }),
          signal,
          onProgress: ({ name, done, classes: all }) =>
            progress.update(`class ${done + 1} of ${all}: ${name}`),
        });
        for await (const done of cloning) {
          classes.push(done);
          const { label, failed, sentence, reachedGoal, pictures, kept } = done;
          if (options.json) continue;
          progress.clear();
          const what =
            failed ??
            `"${sentence}"${reachedGoal ? '' : ' (goal not reached)'}, ${pictures} pictures${kept ? ', done before' : ''}`;
          print(`${label}: ${what}\n`);
        }
        progress.clear();
        if (options.json) printJson(classes);
        const failed = classes.filter((one) => one.failed !== null);
        if (failed.length > 0)
          throw new UserError(
            `clone: ${failed.length} of ${classes.length} classes left out: ${failed.map(({ label }) => label).join(', ')}. Give them another picture and call again`,
          );
      } finally {
        progress.clear();
        release();
      }
    });
}
