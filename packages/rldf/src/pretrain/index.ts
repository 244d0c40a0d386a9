// `rldf pretrain`: the built-in model and the instruments from nothing, stage by stage. Each stage is a folder that can be continued.
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { didYouMean } from '@rldf/common/base/suggest';
import { type WorldName, worlds } from '@rldf/common/instruments/configs';
import { lockRun } from '@rldf/common/storage/lock';
import type { CaptionNoise } from '@rldf/emoji-world';
import { setThreads } from '@rldf/torch';
import { UserError } from '@rldf/torch/errors';
import type { FitEvent, FitOptions } from './fit.js';
import type { Stage, StageContext } from './stage.js';

/** A new stage: a file, and a line here. */
const table: Record<string, () => Promise<Stage>> = {
  clip: async () => (await import('./clip.js')).clipStage,
  decoder: async () => (await import('./vae.js')).decoderStage,
  encoder: async () => (await import('./vae.js')).encoderStage,
  unet: async () => (await import('./unet-stage.js')).unetStage,
  gligen: async () => (await import('./gligen.js')).gligenStage,
  judge: async () => (await import('./classifier.js')).judgeStage,
  detector: async () => (await import('./detector.js')).detectorStage,
  'judge-detector': async () => (await import('./detector.js')).judgeDetectorStage,
  style: async () => (await import('./style.js')).styleStage,
  'clip-2': async () => (await import('./clip-2.js')).secondClipStage,
  preference: async () => (await import('./preference.js')).preferenceStage,
  'judge-preference': async () => (await import('./preference.js')).judgePreferenceStage,
  'image-reward': async () => (await import('./image-reward.js')).imageRewardStage,
  aesthetic: async () => (await import('./aesthetic.js')).aestheticStage,
};

/** A further leg trains the text encoder along. */
const LEG_TEXT_RATE = 0.5;

export const stages: readonly string[] = Object.keys(table);

export interface PretrainOptions {
  /** Holds one folder a stage. */
  folder: string;
  steps?: number | undefined;
  /** Stop (with a checkpoint) after this many minutes, if not done before. */
  minutes?: number | undefined;
  batchSize?: number | undefined;
  learningRate?: number | undefined;
  /** Default: the stage's own. */
  seed?: number | undefined;
  cachedScenes?: number | undefined;
  from?: string | undefined;
  /** unet: the text encoder's learning rate as a share of the U-Net's. Default: 0.5 of a leg (`from`), else 0, which keeps it as it is. */
  textRate?: number | undefined;
  /** unet: weight of the text encoder's auxiliary task (layout.ts). Default 0. */
  layoutWeight?: number | undefined;
  /** unet: the mix of scenes, one of `worlds`. Default: base, or everything with `from`. */
  world?: string | undefined;
  /** unet: share of relations and of numbers in captions that are drawn anew. Default: the world's own. */
  captionNoise?: CaptionNoise | undefined;
  /** Share of the updates, the last ones, over which the learning rate falls. Default 1. */
  decay?: number | undefined;
  /** pack, gligen: the model folder; an instrument: where weights and card go. */
  output?: string | undefined;
  precision?: 'float32' | 'bfloat16' | undefined;
  threads?: number | undefined;
  signal?: AbortSignal | undefined;
  log?: ((line: string) => void) | undefined;
  onEvent(event: FitEvent): void;
}

/** A stage by name, `vae` for both its halves, or `pack`, which writes the model folder. What is not given is the stage's default. */
export async function runPretraining(name: string, options: PretrainOptions): Promise<void> {
  if (options.threads !== undefined) setThreads(options.threads);
  if (name === 'pack') {
    const { packLeg, packModel } = await import('./pack.js');
    const target = options.output ?? 'model';
    return options.from === undefined
      ? packModel(options.folder, target)
      : packLeg(options.folder, options.from, target);
  }
  for (const stage of name === 'vae' ? ['decoder', 'encoder'] : [name]) {
    const load = Object.hasOwn(table, stage) ? table[stage] : undefined;
    if (load === undefined) {
      const known = [...stages, 'vae', 'pack'];
      throw new UserError(
        `rldf pretrain: "${name}" is no stage — one of ${known.join(', ')}${didYouMean(name, known)}.`,
      );
    }
    const { run, defaults } = await load();
    const context = contextOf(stage, defaults, options);
    const lock = lockRun(context.training.folder);
    try {
      for await (const event of run(context)) {
        options.onEvent(event);
        if (event.warning !== undefined) options.log?.(`${stage}, update ${event.step}: ${event.warning}`);
      }
    } finally {
      lock.release();
    }
  }
}

function worldName({ world, from }: PretrainOptions): WorldName {
  if (world === undefined) return from === undefined ? 'base' : 'everything';
  if (Object.hasOwn(worlds, world)) return world as WorldName;
  const known = Object.keys(worlds);
  throw new UserError(
    `rldf pretrain: --world "${world}" — one of ${known.join(', ')}${didYouMean(world, known)}.`,
  );
}

function contextOf(stage: string, defaults: Stage['defaults'], options: PretrainOptions): StageContext {
  const { folder, minutes, signal, precision, log = () => {} } = options;
  const own = join(folder, stage);
  const seed = options.seed ?? defaults.seed;
  const sceneSeed = options.seed ?? defaults.sceneSeed ?? defaults.seed;
  const training: FitOptions & { batchSize: number; seed: number } = {
    folder: own,
    steps: options.steps ?? defaults.steps,
    batchSize: options.batchSize ?? defaults.batchSize,
    learningRate: options.learningRate ?? defaults.learningRate,
    seed: sceneSeed,
    precision: precision ?? 'float32',
    ...(minutes === undefined ? {} : { minutes }),
    ...(options.decay === undefined ? {} : { decay: options.decay }),
    ...(signal === undefined ? {} : { signal }),
  };
  mkdirSync(join(own, 'samples'), { recursive: true });
  return {
    folder,
    seed,
    sceneSeed,
    training,
    cachedScenes: options.cachedScenes ?? defaults.scenes ?? 60_000,
    from: options.from,
    textRate: options.textRate ?? (options.from === undefined ? 0 : LEG_TEXT_RATE),
    layoutWeight: options.layoutWeight ?? 0,
    world: worldName(options),
    captionNoise: options.captionNoise,
    output: options.output ?? own,
    log,
  };
}
