/** The three rewards of the RLDF paper (equations 2 to 6), and the bonus that makes reaching the goal optimal. */

import { UserError } from '@rldf/torch/errors';

/** What a recogniser sees in a picture. */
export interface Observation {
  /** Every object found, by its label: how often, and the best score in [0, 1]. */
  objects: Readonly<Record<string, { count: number; score: number }>>;
  /** The likeliest meaning of every axis. */
  meanings: Readonly<Record<string, string>>;
  /** Probability of each of these meanings, in [0, 1]. */
  confidence: Readonly<Record<string, number>>;
  /** CLIP's embedding of the picture; any length. */
  embedding: readonly number[];
}

export interface SemanticReward {
  readonly name: RewardName;
  /** Bounds that no picture leaves. */
  readonly least: number;
  readonly most: number;
  of(picture: Observation): number;
}

/** Whether a picture has every object of the input ("fine semantics"), and its scene ("coarse"). @param scenes names of axes */
export function semanticHits(
  input: Observation,
  scenes: readonly string[],
): (picture: Observation) => { fine: boolean; coarse: boolean } {
  const wanted = Object.keys(input.objects);
  return ({ objects, meanings }) => ({
    fine: wanted.every((label) => objects[label] !== undefined),
    coarse: scenes.every((name) => meanings[name] === input.meanings[name]),
  });
}

export const rewardNames = ['multi', 'partial', 'clip'] as const;
export type RewardName = (typeof rewardNames)[number];

export interface RewardOptions {
  /** C: for each object of the picture that the input shows too. Default 1. */
  object?: number;
  /** C_s: for the input's scene, and minus it for another. Default 1. */
  scene?: number;
  /** Names of the axes that are scenes. */
  scenes: readonly string[];
  /** Subtracted from pictures whose objects are not recognised with `realism`; the paper's design idea 8. Default 0. */
  unrealisticPenalty?: number;
  /** Least score of the best object of a picture that counts as realistic. Default 0.5. */
  realism?: number;
}

/**
 * - `multi`: C for each object of the picture that is among the input's, plus C_s or minus C_s for the scene (equations 2-4);
 * - `partial`: the scene only (equation 5);
 * - `clip`: cosine of both pictures' CLIP embeddings (equation 6).
 * @param input what is recognised in the input picture
 */
export function semanticReward(name: RewardName, input: Observation, options: RewardOptions): SemanticReward {
  const { object = 1, scenes, unrealisticPenalty = 0, realism = 0.5 } = options;
  const scene = scenes.length === 0 ? 0 : (options.scene ?? 1); // no axis names a scene: nothing to be paid for
  if (name === 'partial' && scenes.length === 0)
    throw new UserError(
      'search reward partial: the grammar names no scenes — it pays for the scene only. Choose multi or clip',
    );
  for (const [key, value] of Object.entries({ object, scene, unrealisticPenalty }))
    if (!(value >= 0))
      throw new UserError(`search reward: ${key} is ${value} — the constants are at least 0`);
  const wanted = Object.keys(input.objects);
  const objects = (picture: Observation) =>
    object * wanted.filter((label) => picture.objects[label] !== undefined).length;
  const sceneOf = (picture: Observation) =>
    scene * (scenes.every((axis) => picture.meanings[axis] === input.meanings[axis]) ? 1 : -1);
  const plain = {
    multi: {
      least: -scene,
      most: object * wanted.length + scene,
      of: (picture: Observation) => objects(picture) + sceneOf(picture),
    },
    partial: { least: -scene, most: scene, of: sceneOf },
    clip: { least: -1, most: 1, of: (picture: Observation) => cosine(picture.embedding, input.embedding) },
  }[name];
  const unrealistic = (picture: Observation) =>
    Math.max(0, ...Object.values(picture.objects).map(({ score }) => score)) < realism;
  return {
    name,
    least: plain.least - unrealisticPenalty,
    most: plain.most,
    of: (picture) =>
      plain.of(picture) - (unrealisticPenalty > 0 && unrealistic(picture) ? unrealisticPenalty : 0),
  };
}

/**
 * The least bonus, rounded up, with which walking straight to the goal is worth more than any endless stroll, from
 * everywhere. A stroll that never ends is worth at most most/(1 - γ). The straight way from the farthest state, D steps off,
 * is worth at least least (1 - γ^D)/(1 - γ) + γ^(D - 1) bonus. With less, rewards on the way can make loitering optimal.
 * @param diameter D: the largest distance of two states
 */
export function goalBonus(
  { least, most }: Pick<SemanticReward, 'least' | 'most'>,
  gamma: number,
  diameter: number,
): number {
  const steps = Math.max(1, diameter);
  const enough = (most - least * (1 - gamma ** steps)) / ((1 - gamma) * gamma ** (steps - 1));
  return Math.max(1, Math.floor(enough) + 1);
}

export function cosine(a: readonly number[], b: readonly number[]): number {
  let [dot, squareA, squareB] = [0, 0, 0];
  for (let i = 0; i < a.length; i++) {
    dot += a[i]! * b[i]!;
    squareA += a[i]! ** 2;
    squareB += b[i]! ** 2;
  }
  return Math.max(-1, Math.min(1, dot / Math.sqrt(squareA * squareB)));
}
