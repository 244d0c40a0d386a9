import { Command, Option } from 'commander';
import { batchSizeOption, deviceOption, guidanceOption, modelOption, stepsOption } from './options.js';
import { print } from './output.js';
import { Estimate, Progress } from './progress.js';
import { provideAdapters, provideModels, provideRewards } from './provide.js';
import { parseSeeds } from './seeds.js';
import { collect, interruption, numberOption, printJson, table } from './shared.js';

interface Options {
  suite: string;
  adapter?: string[];
  against?: string;
  againstAdapter?: string[];
  features?: string;
  detector?: string;
  reward?: string;
  prompts?: string;
  adapterSeeds?: string;
  againstSeeds?: string;
  pictures?: string;
  seeds?: string;
  maxPrompts?: string;
  eta: string;
  steps?: string;
  guidance?: string;
  batchSize: string;
  output: string;
  device: string;
  json?: boolean;
}

const suiteNames = [
  'single',
  'spatial',
  'count',
  'colour',
  'clip',
  'preference',
  'unseen',
  'diversity',
  'fid',
];

export function evalCommand(): Command {
  return new Command('eval')
    .description(
      'measure a model on frozen test prompts, by judges that train nothing; or compare two on the same noise',
    )
    .argument('[model]', modelOption[1], 'emoji')
    .addOption(
      new Option(
        '--suite <names>',
        `${suiteNames.join(', ')}, geneval, reward, pairs, or several with commas`,
      ).default('all'),
    )
    .option('--adapter <file[:strength]>', 'LoRA file of the model; repeatable, effects add up', collect)
    .option(
      '--against <model>',
      'a second model, drawn on the same noise; default with --against-adapter: the same',
    )
    .option('--against-adapter <file[:strength]>', 'LoRA file of the second model; repeatable', collect)
    .option(
      '--adapter-seeds <files>',
      'LoRA files of one arm, one a training seed, with commas: differences with intervals over seeds and prompts',
    )
    .option('--against-seeds <files>', 'the other arm’s, in the same order; default: the model without any')
    .option('--pictures <n>', 'pictures of each prompt; default: each suite’s own number')
    .option('--seeds <list>', 'which pictures of each prompt instead, such as 0-7; they name the noise')
    .option('--max-prompts <n>', 'at most this many prompts of each set, for a quick look')
    .option('--eta <x>', 'noise of DDIM, 0 to 1', '0')
    .option(...stepsOption)
    .option(...guidanceOption)
    .option(...batchSizeOption, '64')
    .option('--features <name>', 'network behind diversity, fid and kid: style (default) or clip-2')
    .option(
      '--detector <name>',
      'who detects instead of the shipped judge: human, a .onnx file, or a .yaml file',
    )
    .option(
      '--reward <name>',
      'what the suite reward scores with, or the judge of the suite pairs: a reward, or a .yaml file with one',
    )
    .option(
      '--prompts <file>',
      'for the suites geneval, reward and pairs: prompts, one a line or as JSON lines',
    )
    .option('--output <folder>', 'where page, numbers and contact sheets go', 'evaluation')
    .option(...deviceOption)
    .option('--json', 'print eval.json: { metrics: { name: { value, ci95, n, prompts } }, ... }')
    .addHelpText(
      'after',
      `
Examples:
  $ rldf eval emoji --suite spatial,count --eta 1
  $ rldf eval emoji --suite all --json
  $ rldf eval emoji --adapter runs/my-run/adapters/pytorch_lora_weights.safetensors --against emoji
  $ rldf eval emoji --adapter-seeds a-1.safetensors,a-2.safetensors --against-seeds b-1.safetensors,b-2.safetensors
  $ rldf eval emoji --suite single --max-prompts 16 --pictures 2
  $ rldf eval MODEL --suite geneval --prompts evaluation_metadata.jsonl --detector human
  $ rldf eval MODEL --suite reward --reward judge.yaml --against OTHER
  $ rldf eval MODEL --suite pairs --reward judge.yaml --adapter FILE --against MODEL    whose pictures does a judge prefer?

What each suite measures, and how intervals are made: docs/evaluation.md`,
    )
    .action(async (model: string, options: Options) => {
      const { UserError } = await import('@rldf/torch/errors');
      const number = (name: string, text: string | undefined, least: number, whole = true) => {
        const value = numberOption(name, text, { least, whole });
        const key = name.replace(/-(.)/g, (_, letter: string) => letter.toUpperCase());
        return value === undefined ? {} : { [key]: value };
      };
      const eta = Number(options.eta);
      if (!(eta >= 0 && eta <= 1)) throw new UserError(`--eta ${options.eta}: expected 0 to 1`);
      if (options.pictures !== undefined && options.seeds !== undefined)
        throw new UserError('--pictures beside --seeds: the seeds say how many. Leave one of them out');
      const { parseAdapter } = await import('../adapters/generate-files.js');
      const settings = {
        ...number('pictures', options.pictures, 1),
        ...number('max-prompts', options.maxPrompts, 1),
        ...number('steps', options.steps, 1),
        ...number('batch-size', options.batchSize, 1),
        ...(options.guidance === undefined
          ? {}
          : {
              guidanceScale: (number('guidance', options.guidance, 0, false) as { guidance: number })
                .guidance,
            }),
        ...(options.features === undefined ? {} : { features: options.features }),
        ...(options.detector === undefined ? {} : { detector: options.detector }),
        ...(options.reward === undefined ? {} : { reward: await rewardIn(options.reward) }),
        ...(options.prompts === undefined ? {} : { prompts: options.prompts }),
        ...(options.seeds === undefined ? {} : { seeds: pictureNumbers(UserError, options.seeds) }),
      };
      const { deviceName } = await import('@rldf/torch');
      const device = options.device as Parameters<typeof deviceName>[0];
      deviceName(device);
      const { evaluate } = await import('../eval/evaluate.js');
      const { digits, writeEvaluation } = await import('../eval/page.js');
      const interval = (ends: readonly number[] | null) =>
        ends === null ? '-' : `[${ends.map(digits).join(', ')}]`;
      await provideModels([model, options.against]);
      await provideRewards(settings.reward);
      const arm = { model, adapters: await provideAdapters((options.adapter ?? []).map(parseAdapter)) };
      const compared = options.against !== undefined || options.againstAdapter !== undefined;
      const against = {
        model: options.against ?? model,
        adapters: await provideAdapters((options.againstAdapter ?? []).map(parseAdapter)),
      };
      const all = options.suite === 'all';
      const pairs = pairsOfSeeds(UserError, options, arm, against);
      const progress = new Progress();
      const { signal, release } = await interruption(() => progress.print('stopping ...'), {
        stoppable: true,
      });
      const estimate = new Estimate();
      try {
        const settled = {
          suites: all ? suiteNames : options.suite.split(',').map((name) => name.trim()),
          skipMissing: all,
          eta,
          device,
          ...settings,
          signal,
          onNotice: (line: string) => progress.print(line),
          onProgress: (done: number, total: number) =>
            progress.update(`drawing and judging ${done}/${total} pictures  ${estimate.left(done / total)}`),
        };
        if (pairs !== undefined) {
          const { evaluateOverSeeds } = await import('../eval/over-seeds.js');
          const numbers = await evaluateOverSeeds(options.output, pairs, settled);
          progress.clear();
          if (options.json) return printJson(numbers);
          const over = `95 % interval over ${numbers.seeds} seeds`;
          const differences = Object.entries(numbers.differences).map(([name, { difference, ci95 }]) => [
            name,
            digits(difference),
            interval(ci95),
          ]);
          const pooled = Object.entries(numbers.pairs ?? {}).map(([name, { value, ci95 }]) => [
            name,
            digits(value),
            interval(ci95),
          ]);
          const tables = [
            ...(differences.length === 0 ? [] : [table([['', 'difference', over], ...differences])]),
            ...(pooled.length === 0 ? [] : [table([['', 'value', over], ...pooled])]),
          ];
          print(`${tables.join('\n\n')}\n${options.output}\n`);
          return;
        }
        const evaluation = await evaluate({ ...settled, arms: compared ? [arm, against] : [arm] });
        const { numbers, page } = await writeEvaluation(options.output, evaluation);
        progress.clear();
        if (options.json) return printJson(numbers);
        const single: string[][] = [];
        const beside: string[][] = [];
        for (const [name, { value, ci95, n }] of Object.entries(numbers.metrics)) {
          const difference = numbers.differences?.[name];
          const other = numbers.against?.metrics[name];
          if (difference === undefined || other === undefined)
            single.push([name, digits(value), interval(ci95), String(n)]);
          else
            beside.push([
              name,
              digits(value),
              digits(other.value),
              digits(difference.difference),
              interval(difference.ci95),
              difference.winRate === undefined ? '' : digits(difference.winRate),
            ]);
        }
        const besideHead = ['', 'model', 'against', 'difference', '95 % interval', 'win rate'];
        const tables = [
          ...(beside.length === 0 ? [] : [table([besideHead, ...beside])]),
          ...(single.length === 0 ? [] : [table([['', 'value', '95 % interval', 'values'], ...single])]),
        ];
        const { remarkOnJudge } = await import('../eval/pairs.js');
        const remark = remarkOnJudge(numbers.metrics);
        const entries = Object.entries(numbers.skipped);
        const skipped = [...new Set(Object.values(numbers.skipped))].map((why) => {
          const names = entries.filter(([, reason]) => reason === why).map(([name]) => name);
          return `left out: ${names.join(', ')} (${why})\n`;
        });
        print(
          `${tables.join('\n\n')}\n${remark === undefined ? '' : `${remark}\n`}${skipped.join('')}${page}\n`,
        );
      } finally {
        progress.clear();
        release();
      }
    });
}

/** A reward by its name, or by a .yaml file that holds what a recipe would have under `reward`. */
async function rewardIn(text: string) {
  if (!/\.ya?ml$/i.test(text)) return text;
  const { readRewardFile } = await import('../recipe/reward-paths.js');
  return readRewardFile(text);
}

/** Numbers of the pictures of each prompt. */
function pictureNumbers(UserError: typeof import('@rldf/torch/errors').UserError, text: string): number[] {
  const seeds = parseSeeds(text, 1, '--seeds');
  return Array.from({ length: seeds.length }, (_, index) => {
    const number = seeds.at(index);
    if (typeof number === 'number') return number;
    throw new UserError(
      `--seeds ${text}: at most ${Number.MAX_SAFE_INTEGER} (2^53 - 1) here: they number the pictures`,
    );
  });
}

type Arm = { model: string; adapters: readonly { path: string; strength: number }[] };

/** One pair of arms a training seed, or nothing where none are given. */
function pairsOfSeeds(
  UserError: typeof import('@rldf/torch/errors').UserError,
  { adapterSeeds, againstSeeds }: Options,
  arm: Arm,
  against: Arm,
): [Arm, Arm][] | undefined {
  if (adapterSeeds === undefined && againstSeeds === undefined) return undefined;
  const files = (text = '') => text.split(',').filter((file) => file !== '');
  const [first, second] = [files(adapterSeeds), files(againstSeeds)];
  if (againstSeeds !== undefined && first.length !== second.length) {
    throw new UserError(
      `--adapter-seeds: ${first.length} files beside ${second.length} of --against-seeds — seeds are compared in pairs. Give as many of each, in the same order`,
    );
  }
  const withFile = (one: Arm, path: string | undefined): Arm =>
    path === undefined ? one : { ...one, adapters: [...one.adapters, { path, strength: 1 }] };
  return first.map((path, i) => [withFile(arm, path), withFile(against, second[i])]);
}
