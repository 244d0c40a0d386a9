// docs: docs/methods/diffexp.md · paper: Chae et al. 2025, "DiffExp: Efficient Exploration in Reward Fine-tuning for Text-to-Image Diffusion Models", arXiv 2502.14070, equations 7-8 · no public code
//
// While it trains, a model may draw otherwise than it is used:
//
//   (7)  guidance at step t: low in the first steps, then the recipe's
//   (8)  z′ = z∅ + a (z − z∅) at the tokens of one word, another word and weight a for each picture
//
// Both are a function of recipe, epoch and picture, so nothing of them is state. What was drawn so is learned from so: each
// picture carries its `Behaviour`, which the policy (sampling/rollout.ts) and the text (texforce.ts) are replayed by.
import {
  type Behaviour,
  type CLIPTokenizer,
  type Conditioning,
  encodeObjects,
  encodePrompts,
  type GroundedObject,
  groundedSteps,
  type Pipeline,
  selectRows,
} from '@rldf/models';
import { noiseKey, Random, type Seed, scope, type Tensor, tensor } from '@rldf/torch';
import { UserError } from '@rldf/torch/errors';
import { type EpochPrompt, type Prompt, promptsOfEpoch } from '../prompts/prompts.js';
import type { Explore, ExploredSampling } from './diffexp-schema.js';

// B texts · L tokens · D text width

/** What of a recipe says how pictures are drawn. */
export interface DrawingFields {
  seed: Seed;
  epochs: number;
  sample: ExploredSampling & { promptsPerEpoch: number; picturesPerPrompt: number };
  /** null, as --set explore=null gives: none. */
  explore?: Explore | null | undefined;
}

/** A picture to be drawn in an epoch: its prompt, its identity, and how. */
export interface EpochPicture extends EpochPrompt {
  behaviour: Behaviour;
  /** The prompt with the word weights of `behaviour`. */
  text: WeightedPrompt;
}

/** What an epoch draws, prompt after prompt. */
export function picturesOfEpoch(
  recipe: DrawingFields,
  { tokenizer, unet, groundingBeta }: Pick<Pipeline, 'tokenizer' | 'unet' | 'groundingBeta'>,
  prompts: readonly Prompt[],
  epoch: number,
): EpochPicture[] {
  const chosen = promptsOfEpoch(prompts, { seed: recipe.seed, epoch, ...recipe.sample });
  const behaviours = behavioursOf(recipe, tokenizer, epoch, chosen);
  const steps = groundedSteps(recipe.sample.steps, groundingBeta);
  const grounding = unet.grounded ? { grounding: { objects: [], steps } } : {}; // GLIGEN's kind, told of no boxes
  return chosen.map((picture, i) => {
    const behaviour: Behaviour = { ...(behaviours[i] as Behaviour), ...grounding };
    return { ...picture, behaviour, text: textOf(picture.prompt.text, behaviour) };
  });
}

/** The prompt as a picture is drawn from it. */
export const textOf = (prompt: string, { wordWeights, grounding }: Behaviour): WeightedPrompt => ({
  prompt,
  wordWeights,
  ...(grounding && grounding.objects.length > 0 && { objects: grounding.objects }),
});

/** Whether an epoch (counted from 0) explores: the first `explore.share` of all. */
export function explores(
  { explore, epochs }: Pick<DrawingFields, 'explore' | 'epochs'>,
  epoch: number,
): boolean {
  return explore != null && epoch < explore.share * epochs - 1e-9; // 0.07 · 100 > 7
}

/** How each picture of an epoch is drawn: with the recipe's guidance, or as its `explore` says. */
export function behavioursOf(
  recipe: Omit<DrawingFields, 'sample'> & { sample: ExploredSampling },
  tokenizer: CLIPTokenizer,
  epoch: number,
  chosen: readonly EpochPrompt[],
): Behaviour[] {
  const { seed, sample } = recipe;
  const exploring = explores(recipe, epoch) ? (recipe.explore ?? undefined) : undefined;
  const guidance = guidanceOf(sample, exploring);
  return chosen.map(({ prompt, path }) => {
    const behaviour: Behaviour = { seed, path: [epoch, ...path], guidance };
    const { words } = exploring ?? {};
    const wordWeights = words ? weightedWord(words, tokenizer, prompt.text, behaviour) : undefined;
    return wordWeights === undefined ? behaviour : { ...behaviour, wordWeights };
  });
}

/** Guidance of each denoising step (equation 7): low, then the recipe's. */
export function guidanceOf({ steps, guidanceScale }: ExploredSampling, explore?: Explore): number[] {
  const low = explore === undefined ? 0 : lowSteps(explore, steps);
  return Array.from({ length: steps }, (_, step) =>
    step < low ? (explore?.guidance?.low ?? guidanceScale) : guidanceScale,
  );
}

/** The first denoising steps, drawn at low guidance; 0 without a schedule. */
export function lowSteps({ guidance }: Explore, steps: number): number {
  if (guidance == null) return 0;
  return guidance.steps ?? Math.round((guidance.fraction ?? 0.1) * steps);
}

/** One of the prompt's words, each as likely, with a weight a evenly between the bounds; nothing for an empty prompt. */
function weightedWord(
  { minimum, maximum }: NonNullable<Explore['words']>,
  tokenizer: CLIPTokenizer,
  prompt: string,
  { seed, path }: Behaviour,
): Behaviour['wordWeights'] {
  const [spans = []] = tokenizer.encode([prompt]).words;
  const words = spans.flatMap(({ start, end }, word) => (end > start ? [word] : [])); // not those that were cut off
  if (words.length === 0) return undefined;
  const random = new Random(noiseKey(seed, 'word weight', ...path));
  const word = words[random.integer(words.length)] as number;
  return [{ word, weight: minimum + (maximum - minimum) * random.uniform() }];
}

/** A prompt as a picture is drawn from it: some of its words may count more, or less. */
export interface WeightedPrompt {
  /** null: no prompt, which is not the empty one everywhere */
  prompt: string | null;
  wordWeights?: Behaviour['wordWeights'] | undefined;
  /** Of GLIGEN's kind of model: what the picture is to show, and where. */
  objects?: readonly GroundedObject[];
}
export type PromptText = string | null | WeightedPrompt;

/**
 * What the network is told of prompts, each with its words weighted and with its objects, B rows. Each text is encoded once.
 * Differentiable.
 */
export function encodeWeighted(pipeline: Pipeline, prompts: readonly WeightedPrompt[]): Conditioning {
  return scope(() => {
    const text = encodeWords(pipeline, prompts);
    const grounding = encodeObjects(
      pipeline,
      prompts.map(({ objects = [] }) => objects),
    );
    return grounding === undefined ? text : { ...text, grounding };
  });
}

function encodeWords(pipeline: Pipeline, prompts: readonly WeightedPrompt[]): Conditioning {
  const weighted = prompts.some(({ wordWeights }) => wordWeights !== undefined);
  if (weighted && (pipeline.promptChunks ?? 1) > 1)
    throw new UserError(
      'explore: words cannot be weighted in prompts that are read in pieces — set longPrompts: cut, or explore without word weights',
    );
  const texts = [...new Set([...prompts.map(({ prompt }) => prompt), ...(weighted ? [''] : [])])];
  return scope(() => {
    const encoded = encodePrompts(pipeline, texts); // of the distinct texts
    if (!weighted && texts.length === prompts.length) return encoded;
    const { device } = encoded.hiddenStates;
    const rows = prompts.map(({ prompt }) => texts.indexOf(prompt));
    const own = selectRows(encoded, tensor(rows, { dtype: 'int64', device }));
    if (!weighted) return own;
    const empty = encoded.hiddenStates.narrow(0, texts.indexOf(''), 1); // [1, L, D]
    const factors = prompts.map((prompt) => tokenFactors(pipeline.tokenizer, prompt));
    return { ...own, hiddenStates: weighTokens(own.hiddenStates, empty, factors) }; // of all text encoders
  });
}

/**
 * z′ = z∅ + a (z − z∅) (equation 8), where a is not 1; elsewhere z to the bit. Differentiable.
 *
 * @param features z [B, L, D]
 * @param empty z∅, features of the empty prompt, [1, L, D]
 * @param factors a, one a token, B lists of L
 */
export function weighTokens(
  features: Tensor,
  empty: Tensor,
  factors: readonly (readonly number[])[],
): Tensor {
  return scope(() => {
    const { dtype, device } = features;
    const beyond = factors.flatMap((row) => row.map((factor) => factor - 1));
    const shape = [factors.length, factors[0]?.length ?? 0, 1];
    return features.add(features.sub(empty).mul(tensor(beyond, { shape, dtype, device })));
  });
}

/** Factor of each token, L of them: the word's weight at all of its tokens, 1 at the others and at start, end and padding. */
export function tokenFactors(
  tokenizer: CLIPTokenizer,
  { prompt, wordWeights = [] }: WeightedPrompt,
): number[] {
  const { ids, words } = tokenizer.encode([prompt ?? '']);
  const factors = (ids[0] as number[]).map(() => 1);
  for (const { word, weight } of wordWeights) {
    const span = words[0]?.[word];
    if (span !== undefined) factors.fill(weight, span.start, span.end);
  }
  return factors;
}
