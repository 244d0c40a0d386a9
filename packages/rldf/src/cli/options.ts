/** Options that several commands have: in the same words, read in one place. Nothing here loads libtorch. */

import type { Command } from 'commander';
import { numberOption } from './shared.js';

export const runsOption = ['--runs <folder>', 'folder of all runs', 'runs'] as const;
export const modelOption = [
  '--model <name>',
  'shipped model, folder, .safetensors file, or id of a hub: owner/name[@revision][:variant]',
] as const;
export const deviceOption = ['--device <device>', 'cpu, cuda or cuda:N', 'cpu'] as const;
export const stepsOption = ['--steps <n>', 'denoising steps; default: the model’s'] as const;
export const guidanceOption = [
  '--guidance <scale>',
  'classifier-free guidance, 1 = off; default: the model’s',
] as const;
export const batchSizeOption = [
  '--batch-size <n>',
  'pictures drawn at once; changes memory and speed, not the pictures',
] as const;
/** The same of a command whose steps are another thing. */
export const modelStepsOption = ['--denoising-steps <n>', 'of the model; default: its own'] as const;
export const modelGuidanceOption = ['--guidance <scale>', 'of the model; default: its own'] as const;

/** What `sourceOptions` adds to a command. */
export interface SourceOptionValues {
  denoisingSteps?: string;
  guidance?: string;
  batchSize?: string;
  size?: string;
  timeout: string;
  retries: string;
  device: string;
}

/** Options of what draws a search's states: a model of ours, or an endpoint. */
export function sourceOptions(command: Command): Command {
  return command
    .option(...modelStepsOption)
    .option(...modelGuidanceOption)
    .option('--batch-size <n>', 'pictures drawn at once; default 16')
    .option('--size <WxH>', 'pictures asked of an endpoint, such as 512x512')
    .option('--timeout <seconds>', 'for one answer of an endpoint', '120')
    .option('--retries <n>', 'further tries of an endpoint', '4')
    .option(...deviceOption);
}

/** Their values, as `openSource` takes them. @throws UserError for what is no such number */
export function sourceSettings(options: SourceOptionValues) {
  return {
    device: options.device as 'cpu',
    ...modelSettings(options),
    ...defined({
      batchSize: numberOption('batch-size', options.batchSize, { least: 1 }),
      size: options.size,
    }),
    timeoutSeconds: numberOption('timeout', options.timeout, { least: 0.001, whole: false })!,
    retries: numberOption('retries', options.retries)!,
  };
}

/** Steps and guidance of a model, where they were given. @throws UserError for what is no such number */
export function modelSettings({
  denoisingSteps,
  guidance,
}: Pick<SourceOptionValues, 'denoisingSteps' | 'guidance'>) {
  return defined({
    steps: numberOption('denoising-steps', denoisingSteps, { least: 1 }),
    guidanceScale: numberOption('guidance', guidance, { whole: false }),
  });
}

type Defined<Values> = { [Key in keyof Values]?: Exclude<Values[Key], undefined> };

/** Leaves out what is undefined. */
export function defined<Values extends object>(values: Values): Defined<Values> {
  return Object.fromEntries(
    Object.entries(values).filter(([, value]) => value !== undefined),
  ) as Defined<Values>;
}
