// docs: docs/methods/diffexp.md · paper: Chae et al. 2025, "DiffExp: Efficient Exploration in Reward Fine-tuning for Text-to-Image Diffusion Models", equations 7-8 · no public code
import type { Behaviour, CLIPTokenizer } from '@rldf/models';
import { noiseKey, Random, type Seed } from '@rldf/torch';
import { type Explore, type ExploredSampling, lowSteps } from '../config/explore-schema.js';
import type { EpochPrompt } from '../prompts.js';

/** What of a recipe says how pictures are drawn. */
export interface DrawingFields {
  seed: Seed;
  epochs: number;
  sample: ExploredSampling;
  /** null, as --set explore=null gives: none. */
  explore?: Explore | null | undefined;
}

/** Whether an epoch (counted from 0) explores: the first `explore.share` of all. */
export function explores({ explore, epochs }: DrawingFields, epoch: number): boolean {
  return explore != null && epoch < explore.share * epochs - 1e-9; // 0.07 · 100 > 7
}

/**
 * How each picture of an epoch is drawn: with the recipe's guidance, or as its `explore` says. A function of recipe, epoch and
 * picture, so nothing of it is state; what was drawn so is learned from so (`policyMoments`, `TextFeatures`).
 */
export function behavioursOf(
  recipe: DrawingFields,
  tokenizer: CLIPTokenizer,
  epoch: number,
  chosen: readonly EpochPrompt[],
): Behaviour[] {
  const { seed, sample } = recipe;
  const exploring = explores(recipe, epoch) ? recipe.explore : undefined;
  const guidance = guidanceOf(sample, exploring ?? undefined);
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

/** One of the prompt's words, each as likely, with a weight evenly between the bounds; nothing for an empty prompt. */
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
