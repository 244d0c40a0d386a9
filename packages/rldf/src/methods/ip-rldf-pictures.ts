// The pictures of IP-RLDF: drawn, looked at, and kept as latents with a caption and a weight.

import { baseModelWorld } from '@rldf/common/instruments/configs';
import { sceneBatch } from '@rldf/common/instruments/scenes';
import { type CaptionedOptions, loadArt } from '@rldf/emoji-world';
import {
  AutoencoderTiny,
  type Detection,
  type Detector,
  type GroundedObject,
  generate,
  latentShape,
  type Pipeline,
  resident,
} from '@rldf/models';
import {
  free,
  keep,
  noGrad,
  noiseKey,
  Random,
  type Seed,
  type StateTree,
  scope,
  type Tensor,
  zeros,
} from '@rldf/torch';
import { UserError } from '@rldf/torch/errors';
import { loadPrompts, type Prompt, repeatPrompts } from '../prompts/prompts.js';
import type { RelabelGrammar } from '../relabel/grammar.js';
import { type Asked, askedOf, boxesFound, boxesTold, judge } from '../relabel/relabel.js';
import type { TrainingContext } from '../run/training.js';
import { type IpRldfRecipe, pictureCounts } from './ip-rldf-schema.js';

// N pictures · C, h, w latent · H, W pixels

/** What training does with a picture. */
export interface Labelled {
  caption: string;
  /** 0: dropped. */
  weight: number;
  /** Whether the picture shows what its prompt asks for; undefined if nobody looked, or nothing was found. */
  matches?: boolean;
  /** What a grounded model is told of it, where it learns from boxes. */
  objects?: GroundedObject[];
}

/** The words in which prompts are read: the detector's, where it has its own; else those of the built-in world. */
export const wordsOfPrompts = (detector: Detector | undefined): readonly string[] | undefined =>
  detector?.ownWords ? detector.labels : undefined;

/** One a picture of the first round: the self-training prompts, then those of the base pictures. */
export function promptsOf(recipe: IpRldfRecipe, given: readonly Prompt[]): Prompt[] {
  const { sample, base } = recipe;
  const self = someOf('prompts', given, sample.promptsPerEpoch, recipe);
  if (base === undefined) return self;
  const count = base.ratio * sample.promptsPerEpoch;
  return [...self, ...someOf('base.prompts', loadPrompts(base.prompts), count, recipe)];
}

/** The first `count` of them, each as often as pictures are drawn of it. */
function someOf(
  field: string,
  prompts: readonly Prompt[],
  count: number,
  { sample }: Pick<IpRldfRecipe, 'sample'>,
): Prompt[] {
  if (prompts.length >= count) return repeatPrompts(prompts, count, sample.picturesPerPrompt);
  throw new UserError(
    `ip-rldf: ${field} has ${prompts.length} prompts, ${count} are needed — sample.promptsPerEpoch is ${sample.promptsPerEpoch}. Lower it, or base.ratio, or give more prompts`,
  );
}

/**
 * The weight by the original prompt (equation 6), the caption by what was found (equation 4); a picture in which nothing
 * was found is dropped.
 */
export function labelOf(
  { relabel, rescale }: Pick<IpRldfRecipe, 'relabel' | 'rescale'>,
  grammar: RelabelGrammar,
  prompt: string,
  asked: Asked,
  detections: readonly Detection[],
): Labelled {
  const verdict = judge(grammar, asked, detections);
  if (verdict === undefined) return { caption: '', weight: 0 };
  const { matches, caption } = verdict;
  return { caption: relabel && !matches ? caption : prompt, weight: matches ? 1 : rescale, matches };
}

/** All pictures of a round: self-training ones first, then the base ones, which stay. Latents are kept in half precision. */
export class PictureStore {
  readonly latents: Tensor;
  readonly captions: string[];
  readonly weights: number[];
  /** Of a grounded training. */
  readonly objects: GroundedObject[][] | undefined;

  constructor(pipeline: Pipeline, count: number, grounded = false) {
    this.latents = keep(
      zeros([count, ...latentShape(pipeline)], { dtype: 'float16', device: pipeline.unet.device }),
    );
    this.captions = Array<string>(count).fill('');
    this.weights = Array<number>(count).fill(0);
    this.objects = grounded ? Array.from({ length: count }, () => []) : undefined;
  }

  /** Puts pictures in at `row` and following. @param latents [B, C, h, w] */
  put(row: number, latents: Tensor, labels: readonly Labelled[]): void {
    noGrad(() => scope(() => void this.latents.narrow(0, row, labels.length).copy_(latents)));
    labels.forEach(({ caption, weight, objects = [] }, i) => {
      this.captions[row + i] = caption;
      this.weights[row + i] = weight;
      if (this.objects) this.objects[row + i] = objects;
    });
  }

  /** Rows that were not dropped. */
  kept(): number[] {
    return this.weights.flatMap((weight, row) => (weight > 0 ? [row] : []));
  }

  state(): StateTree {
    const { latents, captions, weights, objects } = this;
    return { latents, captions, weights, ...(objects && { objects: objects as unknown as StateTree }) };
  }

  load(state: StateTree): void {
    const { latents, captions, weights, objects } = state as unknown as {
      latents: Tensor;
      captions: string[];
      weights: number[];
      objects?: GroundedObject[][];
    };
    this.latents.copy_(latents);
    this.captions.splice(0, captions.length, ...captions);
    this.weights.splice(0, weights.length, ...weights);
    if (objects) this.objects?.splice(0, objects.length, ...objects);
  }

  free(): void {
    this.latents.free();
  }
}

export interface LabelledPictures {
  /** float32 [B, C, h, w] */
  latents: Tensor;
  /** uint8 [B, H, W, 3]; none of scenes of the world, which nobody scores. */
  images?: Tensor;
  labels: Labelled[];
}

/** Makes the pictures of some rows. The tensors belong to the caller. */
export type PictureSource = (round: number, rows: readonly number[]) => Promise<LabelledPictures>;

/**
 * @param prompts one a row
 * @param context its signal, aborted, ends a batch between two denoising steps with its reason; the first round is drawn by
 * the untrained model, so it may be recalled
 */
export function ownPictures(
  recipe: IpRldfRecipe,
  pipeline: Pipeline,
  prompts: readonly Prompt[],
  grammar: RelabelGrammar | undefined,
  detector: Detector | undefined,
  { signal, recall = (_, draw) => draw() }: Pick<TrainingContext, 'signal' | 'recall'> = {},
): PictureSource {
  const { seed, sample, negativePrompt, grounding } = recipe;
  const labels = wordsOfPrompts(detector);
  const asked = new Map(
    grammar && detector && prompts.map(({ text }) => [text, askedOf(grammar, text, labels)] as const),
  );
  return async (round, rows) => {
    const texts = rows.map((row) => (prompts[row] as Prompt).text);
    const askedIn = (text: string) => asked.get(text) as Asked;
    const layoutOf = (text: string, row: number) =>
      boxesTold(
        grammar as RelabelGrammar,
        text,
        labels,
        new Random(noiseKey(seed, 'picture layout', round, row)),
      );
    const settings = {
      prompts: texts,
      seeds: rows.map((row) => pictureSeed(seed, round, row)),
      negativePrompts: negativePrompt,
      steps: sample.steps,
      guidanceScale: sample.guidanceScale,
      eta: sample.eta,
      ...(grounding?.draw === 'prompt' && {
        objects: texts.map((text, i) => layoutOf(text, rows[i] as number)),
      }),
    };
    const draw = async () => ({ ...(await generate(pipeline, { ...settings, ...(signal && { signal }) })) });
    const drawn = round === 0 ? await recall(settings, draw) : await draw();
    const { latents, images } = drawn as { latents: Tensor; images: Tensor };
    try {
      const found = grammar && (await detector?.detect(images));
      const labels = texts.map((text, i): Labelled => {
        if (found === undefined) return { caption: text, weight: 1 };
        const seen = found[i] as Detection[];
        const label = labelOf(recipe, grammar as RelabelGrammar, text, askedIn(text), seen);
        if (grounding?.learn !== 'detected') return label;
        const [, height, width] = images.shape as [number, number, number];
        return { ...label, objects: boxesFound(grammar as RelabelGrammar, seen, [height, width]) };
      });
      return { latents, images, labels };
    } catch (error) {
      free([latents, images]);
      throw error;
    }
  };
}

/** Names the scenes of a control: the base model was trained on the series of small seeds. */
export const worldSeed = (seed: Seed) => noiseKey(seed, 'world pictures')[0] as number;

/** What the controls learn from: the base model's last scenes and captions, or pairs of objects whose captions are true. */
export const controlWorlds = {
  world: baseModelWorld,
  oracle: { ...baseModelWorld, kinds: { relation: 1 }, captionNoise: {} },
} satisfies Record<string, CaptionedOptions>;

/** Scenes of the built-in world with their captions, others for every row and round. */
export function worldPictures(
  recipe: IpRldfRecipe & { pictures: keyof typeof controlWorlds },
  pipeline: Pipeline,
): PictureSource {
  const [, height, width] = latentShape(pipeline);
  const { vae } = pipeline;
  const pixels = [height * vae.downFactor, width * vae.downFactor];
  if (pixels.some((size) => size !== 64)) {
    throw new UserError(
      `ip-rldf: pictures: ${recipe.pictures}, but the model draws ${pixels.join(' x ')} pixels — scenes of the world have 64 x 64. Set model: emoji, or pictures: own`,
    );
  }
  const { self, base } = pictureCounts(recipe);
  const art = loadArt('noto');
  return async (round, rows) => {
    const loaded = await art;
    return noGrad(() =>
      scope(() => {
        const [first = 0] = rows; // rows follow each other
        const scenes = sceneBatch(
          loaded,
          'train',
          worldSeed(recipe.seed),
          round * (self + base) + first,
          rows.length,
          controlWorlds[recipe.pictures],
        );
        const { dtype } = pipeline.parameters.vae;
        const images = scenes.images.to({ dtype, device: pipeline.unet.device });
        const encode = () => (vae instanceof AutoencoderTiny ? vae.encode(images) : vae.encode(images).mean);
        const encoded = resident(pipeline, [pipeline.parameters.vae], encode);
        return {
          latents: vae.scale(encoded.to('float32')),
          labels: scenes.captions.map((caption): Labelled => ({ caption, weight: 1 })),
        };
      }),
    );
  };
}

/** A seed of 53 bits for the picture of a row: unlike those of evaluations, and another in each round. */
export function pictureSeed(seed: Seed, round: number, row: number): number {
  const [high = 0, low = 0] = noiseKey(seed, 'own picture', round, row);
  return (high >>> 11) * 2 ** 32 + low;
}
