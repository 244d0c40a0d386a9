import { Command, Option } from 'commander';
import { mostPictures } from '../base/counts.js';
import { batchSizeOption, deviceOption, guidanceOption, modelOption, stepsOption } from './options.js';
import { print } from './output.js';
import { Estimate, Progress } from './progress.js';
import { provideAdapters, provideModels } from './provide.js';
import { parseSeeds } from './seeds.js';
import { collect, interruption, numberOption } from './shared.js';

interface Options {
  promptFile?: string;
  prompts?: string;
  seed: string;
  count: string;
  negative?: string;
  longPrompts: 'cut' | 'chunks';
  adapter?: string[];
  latents?: string;
  saveLatents?: string;
  box?: string[];
  boxesOfPrompt?: boolean;
  groundingBeta?: string;
  steps?: string;
  guidance?: string;
  eta?: string;
  scheduler?: string;
  width?: string;
  height?: string;
  originalSize?: string;
  crop?: string;
  targetSize?: string;
  model: string;
  output: string;
  batchSize: string;
  device: string;
  precision: 'float32' | 'bfloat16' | 'float16';
  json?: boolean;
}

const schedulers = {
  ddim: 'DDIMScheduler',
  ddpm: 'DDPMScheduler',
  'dpm-solver++': 'DPMSolverMultistepScheduler',
  euler: 'EulerDiscreteScheduler',
  'euler-ancestral': 'EulerAncestralDiscreteScheduler',
  unipc: 'UniPCMultistepScheduler',
  lcm: 'LCMScheduler',
  pndm: 'PNDMScheduler',
  lms: 'LMSDiscreteScheduler',
} as const;

export function generateCommand(): Command {
  return new Command('generate')
    .description('draw pictures: PNGs with their settings inside and a contact sheet')
    .argument('[prompt...]', 'what to draw; each argument is one prompt')
    .option('--prompt-file <file>', 'prompts from a file: one a line, .jsonl, .csv or .tsv')
    .option('--prompts <set>', 'prompts of a named set, see rldf prompts')
    .option(
      '--seed <list>',
      'seeds up to 2^64 - 1, such as 7, 1,2,3 or 0-15; every prompt is drawn with each',
      '0',
    )
    .option('--count <n>', 'pictures of each prompt, with seeds counted up from the (single) seed', '1')
    .option('--negative <prompt>', 'what to steer away from')
    .addOption(
      new Option(
        '--long-prompts <how>',
        'beyond the text encoder’s length: cut, or read in pieces of it, as AUTOMATIC1111 does',
      )
        .choices(['cut', 'chunks'])
        .default('cut'),
    )
    .option(
      '--adapter <file[:strength]>',
      'LoRA file, PEFT folder or id of a hub, with a strength; repeatable, effects add up',
      collect,
    )
    .option('--latents <file>', 'initial noise: safetensors, float32 `latents` [n, c, h, w] of unit variance')
    .option('--save-latents <file>', 'write the initial noise in that form')
    .option(
      '--box <phrase@edges>',
      'what a model of GLIGEN’s kind shows where: left, top, right, bottom from 0 to 1; repeatable',
      collect,
    )
    .option('--boxes-of-prompt', 'boxes in which the relation or the number that a prompt asks for holds')
    .option('--grounding-beta <x>', 'share of the steps in which boxes are heard (default 0.3)')
    .option(...stepsOption)
    .option(...guidanceOption)
    .option('--eta <x>', 'noise of DDIM, 0 to 1', '0')
    .addOption(new Option('--scheduler <name>', 'default: the model’s').choices(Object.keys(schedulers)))
    .option('--width <pixels>', 'default: the model’s')
    .option('--height <pixels>', 'default: the model’s')
    .option(
      '--original-size <height,width>',
      'told to a model of XL’s kind: before it was scaled (default: what is drawn)',
    )
    .option('--crop <top,left>', 'told to such a model: pixels that were cut off (default: 0,0)')
    .option('--target-size <height,width>', 'told to such a model: aimed at (default: what is drawn)')
    .option(...modelOption, 'emoji')
    .option('--output <folder>', 'where the files go', 'pictures')
    .option(...batchSizeOption, '16')
    .option(...deviceOption)
    .addOption(
      new Option('--precision <type>', 'what the model computes in (docs/memory.md)')
        .choices(['float32', 'bfloat16', 'float16'])
        .default('float32'),
    )
    .option('--json', 'print the written files as JSON')
    .addHelpText(
      'after',
      `
Examples:
  $ rldf generate "a cat" "two dogs on grass" --count 4
  $ rldf generate "a cat" --seed 0-15 --adapter runs/quickstart/adapters/pytorch_lora_weights.safetensors:0.8
  $ rldf generate --prompt-file prompts.txt --guidance 3 --steps 20 --output out
  $ rldf generate "a cat" --save-latents noise.safetensors
  $ rldf generate "a dog" --latents noise.safetensors
  $ rldf generate "a cat and a dog" --model my-gligen --box "a cat@0,0.3,0.4,0.9" --box "a dog@0.6,0.3,1,0.9"`,
    )
    .action(async (prompts: string[], options: Options) => {
      const { checkBase } = await import('@rldf/common/instruments/adapter-base');
      const { UserError } = await import('@rldf/torch/errors');
      const { namedSet, readPromptFile } = await import('../prompts/prompts.js');
      const { findModel } = await import('@rldf/common/instruments/models');
      const { generateFiles, parseAdapter, parseBox, parseSizes } = await import(
        '../adapters/generate-files.js'
      );
      const { refuseOverwriting } = await import('../base/outputs.js');
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
      const seeds = parseSeeds(options.seed, numberOption('count', options.count, { least: 1 })!);
      const pictures = {
        length: texts.length * seeds.length,
        at: (index: number) => ({
          prompt: texts[Math.floor(index / seeds.length)]!,
          seed: seeds.at(index % seeds.length),
        }),
      };
      if (pictures.length > mostPictures)
        throw new UserError(
          `generate: ${texts.length} prompts with ${seeds.length} seeds each are ${pictures.length} pictures — at most ${mostPictures} in one command. Give fewer seeds, or fewer prompts`,
        );
      await provideModels([options.model]);
      const adapters = await provideAdapters((options.adapter ?? []).map(parseAdapter));
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
        groundingBeta: numberOption('grounding-beta', options.groundingBeta, { whole: false }),
        microConditioning: parseSizes({
          originalSize: options.originalSize,
          crop: options.crop,
          targetSize: options.targetSize,
        }),
        latentsFile: options.latents,
        saveLatentsFile: options.saveLatents,
      });
      if (settings.eta !== undefined && settings.eta > 1)
        throw new UserError(`--eta ${options.eta}: expected 0 to 1`);
      const boxes = (options.box ?? []).map(parseBox);
      if (boxes.length > 0 && options.boxesOfPrompt)
        throw new UserError('--box and --boxes-of-prompt: both say where things are — give one of them');
      const { askedOf, boxesAsked } = await import('../relabel/relabel.js');
      const { loadGrammar } = await import('../relabel/grammar.js');
      const grammar = loadGrammar('spatial');
      const objectsOf = options.boxesOfPrompt
        ? (prompt: string) => boxesAsked(grammar, askedOf(grammar, prompt))
        : () => boxes;
      if (options.boxesOfPrompt) texts.forEach(objectsOf);
      const device = options.device as Parameters<typeof deviceName>[0];
      deviceName(device);
      const progress = new Progress();
      const model = findModel(options.model);
      for (const { path } of adapters) checkBase(path, model.path, model.name);
      const pipeline = loadPipeline(model.path, { device, dtype: options.precision });
      const { describePromptNotices, promptNotices } = await import('@rldf/common/base/prompt-notices');
      const { passedOverNotices } = await import('../plan/policy-check.js');
      if (options.scheduler === undefined)
        for (const line of passedOverNotices(pipeline.schedulerConfig)) progress.print(line);
      const read = [...texts, options.negative ?? ''];
      const notices = promptNotices(pipeline.tokenizer, read, options.longPrompts === 'chunks');
      for (const line of describePromptNotices(notices, pipeline.tokenizer.maxLength)) progress.print(line);
      const batchSize = numberOption('batch-size', options.batchSize, { least: 1 })!;
      const { checkDrawing } = await import('../plan/drawing.js');
      await checkDrawing(pipeline, {
        folder: model.path,
        dtype: options.precision,
        device,
        pictures: pictures.length,
        steps: settings.steps ?? pipeline.defaults.steps ?? 30,
        batchSize,
        guided: (settings.guidanceScale ?? pipeline.defaults.guidanceScale) !== 1,
        onNotice: (line) => progress.print(line),
        ...defined({ width: settings.width, height: settings.height }),
      });
      const { signal, release } = await interruption(() => progress.print('stopping ...'), {
        stoppable: true,
      });
      const estimate = new Estimate();
      try {
        const { shareModel } = await import('@rldf/common/workers/draw');
        shareModel(pipeline, { folder: model.path, device, dtype: options.precision, adapters });
        const written = await generateFiles(pipeline, {
          ...settings,
          ...((boxes.length > 0 || options.boxesOfPrompt) && { objectsOf }),
          model: model.name,
          pictures,
          longPrompts: options.longPrompts,
          adapters,
          output: options.output,
          batchSize,
          signal,
          onProgress: (share) =>
            progress.update(
              `drawing ${pictures.length} pictures  ${Math.round(100 * share)} %  ${estimate.left(share)}`,
            ),
        });
        progress.clear();
        if (options.json) printFiles(written);
        else {
          const { count, sheet, onSheet } = written;
          const shown = count === onSheet ? 'all' : `the first ${onSheet}`;
          print(`${count} pictures in ${options.output}, ${shown} in ${sheet}\n`);
        }
      } finally {
        progress.clear();
        release();
      }
    });
}

/** `{ pictures: [...], sheet }`, piece by piece. */
function printFiles({ count, fileOf, sheet }: import('../adapters/generate-files.js').GeneratedFiles): void {
  print('{\n  "pictures": [\n');
  for (let start = 0; start < count; start += 1000) {
    const names = Array.from({ length: Math.min(1000, count - start) }, (_, i) => start + i).map(
      (index) => `    ${JSON.stringify(fileOf(index))}${index === count - 1 ? '' : ','}\n`,
    );
    print(names.join(''));
  }
  print(`  ],\n  "sheet": ${JSON.stringify(sheet)}\n}\n`);
}

type Defined<Values> = { [Key in keyof Values]?: Exclude<Values[Key], undefined> };

/** Leaves out what is undefined. */
function defined<Values extends object>(values: Values): Defined<Values> {
  return Object.fromEntries(
    Object.entries(values).filter(([, value]) => value !== undefined),
  ) as Defined<Values>;
}
