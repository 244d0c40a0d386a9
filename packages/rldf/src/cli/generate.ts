import { Command, Option } from 'commander';
import { print } from './output.js';
import { Estimate, Progress } from './progress.js';
import { collect, interruption, numberOption, printJson } from './shared.js';

interface Options {
  promptFile?: string;
  prompts?: string;
  seed: string;
  count: string;
  negative?: string;
  adapter?: string[];
  latents?: string;
  saveLatents?: string;
  steps?: string;
  guidance?: string;
  eta?: string;
  scheduler?: string;
  width?: string;
  height?: string;
  model: string;
  output: string;
  batchSize: string;
  device: string;
  json?: boolean;
}

const schedulers = {
  ddim: 'DDIMScheduler',
  ddpm: 'DDPMScheduler',
  'dpm-solver++': 'DPMSolverMultistepScheduler',
  euler: 'EulerDiscreteScheduler',
  pndm: 'PNDMScheduler',
  lms: 'LMSDiscreteScheduler',
} as const;

export function generateCommand(): Command {
  return new Command('generate')
    .description('draw pictures: PNGs with their settings inside and a contact sheet')
    .argument('[prompt...]', 'what to draw; each argument is one prompt')
    .option('--prompt-file <file>', 'prompts from a file: one a line, .jsonl, .csv or .tsv')
    .option('--prompts <set>', 'prompts of a named set, see rldf prompts')
    .option('--seed <list>', 'seeds, such as 7, 1,2,3 or 0-15; every prompt is drawn with each', '0')
    .option('--count <n>', 'pictures of each prompt, with seeds counted up from the (single) seed', '1')
    .option('--negative <prompt>', 'what to steer away from')
    .option('--adapter <file[:strength]>', 'LoRA file, with a strength; repeatable, effects add up', collect)
    .option('--latents <file>', 'initial noise: safetensors, float32 `latents` [n, c, h, w] of unit variance')
    .option('--save-latents <file>', 'write the initial noise in that form')
    .option('--steps <n>', 'denoising steps; default: the model’s')
    .option('--guidance <scale>', 'classifier-free guidance, 1 = off; default: the model’s')
    .option('--eta <x>', 'noise of DDIM, 0 to 1', '0')
    .addOption(new Option('--scheduler <name>', 'default: the model’s').choices(Object.keys(schedulers)))
    .option('--width <pixels>', 'default: the model’s')
    .option('--height <pixels>', 'default: the model’s')
    .option('--model <name>', 'shipped model or folder in diffusers layout', 'emoji')
    .option('--output <folder>', 'where the files go', 'pictures')
    .option('--batch-size <n>', 'pictures drawn at once; changes memory and speed, not the pictures', '16')
    .option('--device <device>', 'cpu, cuda or cuda:N', 'cpu')
    .option('--json', 'print the written files as JSON')
    .addHelpText(
      'after',
      `
Examples:
  $ rldf generate "a cat" "two dogs on grass" --count 4
  $ rldf generate "a cat" --seed 0-15 --adapter runs/quickstart/adapters/pytorch_lora_weights.safetensors:0.8
  $ rldf generate --prompt-file prompts.txt --guidance 3 --steps 20 --output out
  $ rldf generate "a cat" --save-latents noise.safetensors
  $ rldf generate "a dog" --latents noise.safetensors`,
    )
    .action(async (prompts: string[], options: Options) => {
      const { checkBase } = await import('../adapter-base.js');
      const { UserError } = await import('../errors.js');
      const { namedSet, readPromptFile } = await import('../prompts.js');
      const { findModel } = await import('../models.js');
      const { generateFiles, parseAdapter } = await import('../generate-files.js');
      const { refuseOverwriting } = await import('../outputs.js');
      const { loadPipeline } = await import('@rldf/models');
      const { deviceName } = await import('@rldf/torch');
      const texts = [
        ...prompts,
        ...(options.promptFile === undefined
          ? []
          : readPromptFile(options.promptFile).map(({ text }) => text)),
        ...(options.prompts === undefined
          ? []
          : namedSet(options.prompts).prompts.map(({ prompt }) => prompt)),
      ];
      if (texts.length === 0)
        throw new UserError(
          'generate: no prompt given — write `rldf generate "a cat"` or use --prompt-file or --prompts',
        );
      const seeds = parseSeeds(UserError, options.seed, numberOption('count', options.count, { least: 1 })!);
      const pairs = texts.flatMap((prompt) => seeds.map((seed) => ({ prompt, seed })));
      const adapters = (options.adapter ?? []).map(parseAdapter);
      if (options.saveLatents !== undefined) {
        const read = [options.promptFile, options.latents, ...adapters.map(({ path }) => path)];
        const given = read.filter((path) => path !== undefined);
        refuseOverwriting('--save-latents', options.saveLatents, given);
      }
      const settings = defined({
        steps: numberOption('steps', options.steps, { least: 1 }),
        guidanceScale: numberOption('guidance', options.guidance, { whole: false }),
        eta: numberOption('eta', options.eta, { whole: false }),
        width: numberOption('width', options.width, { least: 1 }),
        height: numberOption('height', options.height, { least: 1 }),
        scheduler:
          options.scheduler === undefined
            ? undefined
            : schedulers[options.scheduler as keyof typeof schedulers],
        negativePrompt: options.negative,
        latentsFile: options.latents,
        saveLatentsFile: options.saveLatents,
      });
      if (settings.eta !== undefined && settings.eta > 1)
        throw new UserError(`--eta ${options.eta}: expected 0 to 1`);
      const device = options.device as Parameters<typeof deviceName>[0];
      deviceName(device);
      const progress = new Progress();
      const model = findModel(options.model);
      for (const { path } of adapters) checkBase(path, model.path, model.name);
      const pipeline = loadPipeline(model.path, { device });
      const { signal, release } = interruption(() => progress.print('stopping ...'));
      const estimate = new Estimate();
      try {
        const written = await generateFiles(pipeline, {
          ...settings,
          model: model.name,
          prompts: pairs.map(({ prompt }) => prompt),
          seeds: pairs.map(({ seed }) => seed),
          adapters,
          output: options.output,
          batchSize: numberOption('batch-size', options.batchSize, { least: 1 })!,
          signal,
          onProgress: (share) =>
            progress.update(
              `drawing ${pairs.length} pictures  ${Math.round(100 * share)} %  ${estimate.left(share)}`,
            ),
        });
        progress.clear();
        if (options.json) printJson(written);
        else print(`${written.pictures.length} pictures in ${options.output}, all in ${written.sheet}\n`);
      } finally {
        progress.clear();
        release();
      }
    });
}

/** `7`, `1,2,3`, `0-15`, or one seed and a count. */
export function parseSeeds(UserError: new (message: string) => Error, text: string, count = 1): number[] {
  const bad = () => new UserError(`--seed ${text}: expected whole numbers such as 7, 1,2,3 or 0-15`);
  const seeds = text.split(',').flatMap((part) => {
    const match = /^\s*(\d+)(?:\s*-\s*(\d+))?\s*$/.exec(part);
    if (match === null) throw bad();
    const [first, last] = [Number(match[1]), Number(match[2] ?? match[1])];
    if (!Number.isSafeInteger(last) || last < first || last - first > 100_000) throw bad();
    return Array.from({ length: last - first + 1 }, (_, index) => first + index);
  });
  if (count === 1) return seeds;
  if (seeds.length > 1)
    throw new UserError(`--count ${count} with several seeds: the seeds say how many. Leave one of them out`);
  return Array.from({ length: count }, (_, index) => seeds[0]! + index);
}

type Defined<Values> = { [Key in keyof Values]?: Exclude<Values[Key], undefined> };

/** Leaves out what is undefined. */
function defined<Values extends object>(values: Values): Defined<Values> {
  return Object.fromEntries(
    Object.entries(values).filter(([, value]) => value !== undefined),
  ) as Defined<Values>;
}
