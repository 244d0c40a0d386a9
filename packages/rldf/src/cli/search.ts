import { basename, join } from 'node:path';
import { defaultLearner } from '@rldf/search/default-learner';
import { Command, Option } from 'commander';
import { defined, type SourceOptionValues, sourceOptions, sourceSettings } from './options.js';
import { print } from './output.js';
import { Progress } from './progress.js';
import { provideModels } from './provide.js';
import { collect, grammarPath, interruption, numberOption, printJson } from './shared.js';

interface Options extends SourceOptionValues {
  image: string;
  agent: string;
  reward: string;
  grammar: string;
  model: string;
  drawWith?: string;
  order: string;
  steps: string;
  seed: string;
  pictureSeed?: string;
  start?: string;
  randomStarts?: boolean;
  epsilon: string;
  alpha: string;
  gamma: string;
  bonus?: string;
  objectReward: string;
  sceneReward: string;
  unrealisticPenalty: string;
  table: string;
  initialQ: string;
  rate: string;
  continueAfterGoal?: boolean;
  allSteps?: boolean;
  dynamicSeeds?: boolean;
  minConfidence: string;
  clip?: string;
  pictures: string;
  slide?: string[];
  caption?: string;
  output?: string;
  memory?: string;
  resume?: boolean;
  negative?: string;
  json?: boolean;
}

/** As in @rldf/search: repeated here, so that --help loads nothing. */
const agents = ['q', 'sarsa', 'random', 'enumeration', 'hill-climber', 'gradient', 'gradient-spsa'];
const rewards = ['multi', 'partial', 'clip'];
const tableKinds = ['actions', 'afterstates'];
const initialQs = ['random', 'zero', 'optimistic', 'axes'];
/** What a search draws into its folder, besides slides. */
const searchPictures = ['input.png', 'world.png', 'trajectory.png', 'q-values.png', 'pictures.png'];
/** Final pictures: all of them are compared with each other. */
const mostShown = 10_000;
const orders = ['clip', 'clip-pictures', 'file', 'shuffled'];

export function searchCommand(): Command {
  return sourceOptions(
    new Command('search')
      .description(
        'find a picture’s semantics by the pictures that a model draws of a grammar’s sentences (RLDF)',
      )
      .requiredOption('--image <file>', 'the one input: a picture; no text is given')
      .addOption(new Option('--agent <name>', 'who searches').choices(agents).default('q'))
      .addOption(
        new Option('--reward <name>', 'what the agent is paid for').choices(rewards).default('multi'),
      )
      .option('--grammar <file>', 'grammar: a file, or world, world-large, pairs, photographs', 'world')
      .option('--model <model>', 'draws the states: shipped model, folder, or http://HOST/v1#NAME', 'emoji')
      .option('--draw-with <model>', 'draws the final pictures; default: the same')
      .addOption(new Option('--order <order>', 'how axes are ordered').choices(orders).default('clip'))
      .option('--steps <n>', 'most steps; a state that was drawn costs no time again', '20000')
      .option('--seed <n>', 'of the agent, its start and the pictures', '0')
      .option('--picture-seed <n>', 'of the states’ pictures alone, so that agents can share them')
      .option('--start <sentence>', 'the state to begin at; default: drawn by the seed')
      .option('--random-starts', 'a new start in every episode')
      .option(
        '--epsilon <schedule>',
        'share of random actions: 0.1 or 0.01 as in the paper, 1/n, or from-to/steps',
        defaultLearner.epsilon,
      )
      .option('--alpha <schedule>', 'step size: 1, 0.5, or 1/n^0.7 (Robbins-Monro)', defaultLearner.alpha)
      .option('--gamma <x>', 'discount, below 1', '0.9')
      .option('--bonus <x>', 'added at the goal; default: the least with which loitering never pays')
      .option('--object-reward <x>', 'C of the multi-semantic reward', '1')
      .option('--scene-reward <x>', 'C_s of the semantic rewards', '1')
      .option('--unrealistic-penalty <x>', 'for states whose objects are not recognised', '0')
      .addOption(
        new Option('--table <kind>', 'what Q has entries for')
          .choices(tableKinds)
          .default(defaultLearner.table),
      )
      .addOption(
        new Option('--initial-q <how>', 'Q at the beginning; axes is for afterstates')
          .choices(initialQs)
          .default(defaultLearner.initialQ),
      )
      .option('--rate <x>', 'step of the noisy diffusion gradient', '1')
      .option('--continue-after-goal', 'go on seeking rewards at the goal, up to --steps')
      .option('--all-steps', 'learn up to --steps, even when the way is known')
      .option('--dynamic-seeds', 'another picture at every visit of a state')
      .option('--min-confidence <x>', 'least confidence in the input’s object and scene', '0.3')
      .option('--clip <folder>', 'recognise by this CLIP alone, for pictures of another world')
      .option('--pictures <n>', 'final pictures', '8')
      .option('--slide <axis>', 'also move along one axis and hold the rest; repeatable', collect)
      .option('--caption <text>', 'a caption of the input from elsewhere, drawn beside')
      .option('--output <folder>', 'where the files go; default: searches/IMAGE')
      .option(
        '--memory <folder>',
        'pictures and what was seen in them, shared by searches; default: in the output',
      )
      .option('--resume', 'go on where the output folder’s search ended')
      .option('--negative <prompt>', 'what the model steers away from'),
  )
    .option('--json', 'print search.json')
    .addHelpText(
      'after',
      `
Examples:
  $ rldf generate "a cat on the grass" --output inputs
  $ rldf search --image inputs/0000.png
  $ rldf search --image inputs/0000.png --agent sarsa --reward clip --seed 3 --json
  $ rldf search --image inputs/0000.png --agent enumeration --memory searches/memory
  $ rldf search --image photo.jpg --grammar photographs --clip CLIP_FOLDER --model http://localhost:8000/v1#sdxl

The paper's Algorithm 1 to the letter: --table actions --initial-q random --alpha 0.5
Grammars, agents and rewards: docs/methods/rldf.md`,
    )
    .action(async (options: Options) => {
      const {
        describeSearch,
        Encoding,
        exploration,
        openRecogniser,
        openSource,
        readGrammar,
        readPicture,
        search,
        stepSize,
        worldJudge,
      } = await import('@rldf/search');
      const { deviceName } = await import('@rldf/torch');
      const { refuseOverwriting } = await import('../base/outputs.js');
      const number = (name: string, text: string | undefined, least = 0, whole = false) =>
        numberOption(name, text, { least, whole });
      exploration(options.epsilon);
      stepSize(options.alpha);
      const gamma = number('gamma', options.gamma)!;
      if (gamma >= 1) {
        const { UserError } = await import('@rldf/torch/errors');
        throw new UserError(`--gamma ${options.gamma}: at least 0 and below 1`);
      }
      const output = options.output ?? join('searches', basename(options.image).replace(/\.[^.]*$/, ''));
      for (const name of [...searchPictures, ...(options.slide ?? []).map((axis) => `slide-${axis}.png`)])
        refuseOverwriting('--output', join(output, name), [options.image]);
      const input = await readPicture(options.image, options.image);
      const grammar = readGrammar(grammarPath(options.grammar));
      const device = options.device as Parameters<typeof deviceName>[0];
      deviceName(device);
      const progress = new Progress();
      const drawing = {
        ...sourceSettings(options),
        ...defined({ negativePrompt: options.negative }),
        onNotice: (line: string) => progress.print(line),
        checkDrawing: (await import('../plan/drawing.js')).checkDrawing,
      };
      const seed = number('seed', options.seed, 0, true)!;
      await provideModels([options.model, options.drawWith]);
      const { recogniser, embedder } = openRecogniser(grammar, options.clip);
      const { signal, release } = await interruption(() => progress.print('saving ...'));
      try {
        const result = await search({
          input,
          where: options.image,
          grammar,
          source: openSource(options.model, drawing),
          ...(options.drawWith === undefined ? {} : { drawWith: openSource(options.drawWith, drawing) }),
          recogniser,
          embedder,
          ...defined({
            judge: await worldJudge(new Encoding(grammar)),
            bonus: number('bonus', options.bonus),
          }),
          follow: {
            agent: options.agent as 'q',
            seed,
            steps: number('steps', options.steps, 1, true)!,
            sameStart: options.randomStarts !== true,
            epsilon: options.epsilon,
            alpha: options.alpha,
            table: options.table as 'actions',
            initialQ: options.initialQ as 'zero',
            rate: number('rate', options.rate)!,
            continueAfterGoal: options.continueAfterGoal === true,
            allSteps: options.allSteps === true,
          },
          reward: options.reward as 'multi',
          rewardConstants: {
            object: number('object-reward', options.objectReward)!,
            scene: number('scene-reward', options.sceneReward)!,
            unrealisticPenalty: number('unrealistic-penalty', options.unrealisticPenalty)!,
          },
          gamma,
          dynamicSeeds: options.dynamicSeeds === true,
          order: options.order as 'clip',
          pictureSeed: number('picture-seed', options.pictureSeed, 0, true) ?? seed,
          minConfidence: number('min-confidence', options.minConfidence)!,
          pictures: numberOption('pictures', options.pictures, { most: mostShown })!,
          slides: options.slide ?? [],
          ...defined({ start: options.start, caption: options.caption, memory: options.memory }),
          resume: options.resume === true,
          output,
          signal,
          onProgress: ({ step, drawn, states, found }) =>
            progress.update(
              `step ${step}, ${drawn} pictures drawn of ${states} states${found ? ', goal found' : ''}`,
            ),
        });
        progress.clear();
        if (options.json) return printJson(result);
        print(describeSearch(result));
      } finally {
        progress.clear();
        release();
      }
    });
}
