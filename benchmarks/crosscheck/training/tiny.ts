// What the trainings of methods share on both sides: a tiny model, its prompts, rewards and noise, and what of it learns.
import { join } from 'node:path';
import {
  latentShape,
  type Pipeline,
  type SchedulerConfig,
  savePipeline,
  TEXT_ATTENTION,
  tinyPipeline,
  UNET_ATTENTION,
} from '@rldf/models';
import {
  keep,
  noGrad,
  noiseKey,
  normal,
  Random,
  type StateDict,
  scope,
  stack,
  type Tensor,
} from '@rldf/torch';
import type { behavioursOf, checkRecipe, promptsOfEpoch, Training, TrainingContext } from 'rldf/training';
import type { Context } from '../checks.js';
import { integers, SEED } from './fitting.js';

export const WORDS = ['a cat', 'a dog', 'two cows', 'a red hat'];

export interface Made {
  recipe: Recipe;
  pipeline: Pipeline;
  chosen: ReturnType<typeof promptsOfEpoch>;
  behaviours: ReturnType<typeof behavioursOf>;
}
export type Recipe = ReturnType<typeof checkRecipe> & { seed: number; [key: string]: unknown };

export const rewardOf = (epoch: number, picture: number) =>
  new Random(noiseKey(SEED, 'reward', epoch, picture)).uniform() * 2 + 0.3 * (picture % 3);

export const prompts = WORDS.map((text) => ({ text, meta: null }));

/** A reward with a gradient: how much a picture looks like a pattern, and how bright it is. */
export const pattern = () =>
  keep(
    noGrad(() =>
      normal([noiseKey(SEED, 'pattern')], [1, 3, 8, 8])
        .squeeze(0)
        .mul(4),
    ),
  );
const differentiable = (wanted: Tensor) => (images01: Tensor) =>
  images01
    .mul(wanted)
    .mean([1, 2, 3])
    .add(images01.square().mean([1, 2, 3]), 0.5);

export function contextOf(wanted: Tensor): TrainingContext {
  let epoch = 0;
  return {
    prompts,
    async score(images) {
      const total = Array.from({ length: images.shape[0] as number }, (_, i) => rewardOf(epoch, i));
      epoch++;
      return { total, parts: { fixed: total } };
    },
    differentiable: differentiable(wanted),
  };
}

function namesOf(
  { parameters }: Pipeline,
  network: 'unet' | 'textEncoder',
  targets: readonly string[],
): string[] {
  const prefix = network === 'unet' ? 'unet.' : 'text.';
  return [...parameters[network].layers.keys()]
    .filter((path) => targets.some((target) => path.endsWith(`.${target}`)))
    .flatMap((path) => [`${prefix}${path}.lora_A.weight`, `${prefix}${path}.lora_B.weight`]);
}

type Saved = { trainables: { unet: Tensor[]; textEncoder: Tensor[] }; value?: { parameters: Tensor[] } };

/** What learns, by name: adapters of the U-Net or all of it, and adapters of the text encoder. */
export function learned(training: Training, pipeline: Pipeline, text: boolean, full = false): StateDict {
  const { trainables, value } = training.state() as unknown as Saved;
  const names = [
    ...(full
      ? [...pipeline.parameters.unet.entries.keys()].map((path) => `unet.${path}`)
      : namesOf(pipeline, 'unet', UNET_ATTENTION)),
    ...(text ? namesOf(pipeline, 'textEncoder', TEXT_ATTENTION) : []),
  ];
  const ofValue = [0, 1, 2].flatMap((i) => [`layers.${i}.weight`, `layers.${i}.bias`, `factors.${i}.weight`]);
  return new Map([
    ...[...trainables.unet, ...trainables.textEncoder].map((one, i) => [names[i] as string, one] as const),
    ...(value?.parameters ?? []).map(
      (one, i) => [`value.${[...ofValue, 'last.weight', 'last.bias'][i]}`, one] as const,
    ),
  ]);
}

/** The second half of a branch starts at zero, as a bias does; here they do not, so that all learn at once and none is small. */
export function awaken(state: StateDict): void {
  for (const [name, one] of state) {
    if (!/lora_B\.weight$|^unet\..*\.bias$/.test(name)) continue;
    noGrad(() =>
      scope(
        () =>
          void one.detach().copy_(
            normal([noiseKey(SEED, name)], one.shape)
              .squeeze(0)
              .mul(0.1),
          ),
      ),
    );
  }
}

export const idsOf = ({ tokenizer }: Pipeline, texts: readonly string[]) =>
  integers(tokenizer.encode(texts).ids.flat()).reshape([texts.length, -1]);

/** Noise and prompts of an epoch. */
export function drawn({ recipe, pipeline, chosen, behaviours }: Made): Record<string, Tensor> {
  const shape = latentShape(pipeline);
  const noise = (purpose: string, ...path: number[]) =>
    normal(
      behaviours.map((b) => noiseKey(b.seed, purpose, ...b.path, ...path)),
      shape,
    );
  return {
    ids: idsOf(
      pipeline,
      chosen.map(({ prompt }) => prompt.text),
    ),
    prompt: integers(chosen.map(({ prompt }) => WORDS.indexOf(prompt.text))),
    group: integers(chosen.map(({ path }) => path[0])),
    start: noise('rollout start'),
    step: stack(
      Array.from({ length: (recipe.sample as { steps: number }).steps }, (_, step) =>
        noise('rollout step', step),
      ),
    ),
  };
}

export const shuffled = (seed: number, epoch: number, pass: number, count: number) =>
  integers(
    new Random(noiseKey(seed, 'shuffle', epoch, pass)).shuffle(Array.from({ length: count }, (_, i) => i)),
  );

export function tinyModel(
  context: Context,
  name: string,
  scheduler: Partial<SchedulerConfig> = {},
): { folder: string; pipeline: Pipeline } {
  const folder = join(context.folder, `tiny-${name.replaceAll(/\W+/g, '-')}`);
  const tiny = tinyPipeline(SEED);
  const pipeline = { ...tiny, schedulerConfig: { ...tiny.schedulerConfig, ...scheduler } };
  savePipeline(pipeline, folder);
  return { folder, pipeline };
}

export function put(data: StateDict, prefix: string, make: () => Record<string, Tensor>): void {
  const made = noGrad(() => scope(() => Object.fromEntries(Object.entries(make()).map(([key, one]) => [key, keep(one.contiguous())])))); // biome-ignore format: one thought
  for (const [key, one] of Object.entries(made)) data.set(`${prefix}${key}`, one);
}
