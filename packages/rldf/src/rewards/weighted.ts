/** Weighted sums of rewards. Rewards differ in unit and spread, so each may be normalised first. */

import { type StateTree, stack, type Tensor } from '@rldf/torch';
import { UserError } from '@rldf/torch/errors';
import {
  askReward,
  type CompositeReward,
  type PromptReader,
  type Purpose,
  type Reward,
  type RewardBatch,
  type Scores,
  type SharedBatch,
  wholeScores,
} from './reward.js';

/**
 * - `none`: the score as it is
 * - `batch`: to mean 0 and standard deviation 1 within the scored pictures
 * - `running`: the same with mean and deviation of all training pictures so far
 * - `prompt`: to mean 0 and standard deviation 1 within the scored pictures of the same prompt; the sum is then brought to mean
 *   0 and deviation 1 within the batch, as in GDPO (Liu et al. 2026, arXiv 2601.05242)
 *
 * Evaluation normalises by the first pictures ever scored, whatever the setting but `none`, so that its numbers can be
 * compared between epochs.
 */
export type Normalisation = 'none' | 'batch' | 'running' | 'prompt';

export interface WeightedPart {
  reward: Reward;
  /** Factor in the sum; negative to punish. 1 by default, 0 with a floor. */
  weight?: number | undefined;
  normalise: Normalisation;
  /** A score counts as min(score, cap). */
  cap?: number | undefined;
  /** The mean that the scores are to keep; `base`: that of the pictures scored as base, or of the first training pictures. */
  floor?: number | 'base' | undefined;
  /** What the multiplier rises by for a shortfall of one standard deviation; 0.5 by default. */
  floorRate?: number | undefined;
}

/** A floor's Lagrange multiplier, and the mean that it follows. */
interface Multiplier {
  value: number;
  /** Exponential mean of the training batches' means. */
  mean: number | null;
  /** The floor itself, as soon as it is known. */
  floor: number | null;
}

/** Share of the newest batch in the mean that a multiplier follows. */
const newest = 0.3;

interface Moments {
  count: number;
  mean: number;
  /** Sum of squared deviations (Welford 1962). */
  squares: number;
}

/**
 * total = sum of weight x normalised min(score, cap). Its normalisation statistics are part of the run's state.
 *
 * A reward with a floor f is a constraint on its mean m: its weight is a Lagrange multiplier, raised while m is short of f and
 * lowered, never below 0, while it is not (dual ascent): after each training batch
 *
 *     m <- m + 0.3 (batch mean - m);   multiplier <- max(0, multiplier + floorRate (f - m) / spread of the first pictures)
 *
 * In evaluation, whose numbers must compare, such a reward counts only below its floor: -max(0, f - score) / spread.
 */
export class WeightedReward implements CompositeReward {
  readonly name: string;
  readonly unit = '';
  readonly readers: readonly PromptReader[];
  readonly #parts: WeightedPart[];
  #running: Moments[];
  #first: Moments[];
  #multipliers: Multiplier[];
  differentiable?: (images01: Tensor, prompts: readonly string[]) => Tensor;

  constructor(parts: WeightedPart[]) {
    this.#parts = parts;
    this.name = parts.map(nameOf).join(' + ');
    this.readers = parts.flatMap(({ reward }) => reward.readers ?? []);
    const names = parts.map(({ reward }) => reward.name);
    const twice = names.find((name, index) => names.indexOf(name) !== index);
    if (twice !== undefined) {
      throw new UserError(
        `reward: ${twice} is listed twice — each reward may appear once. Add up its weights`,
      );
    }
    this.#running = parts.map(() => ({ count: 0, mean: 0, squares: 0 }));
    this.#first = parts.map(() => ({ count: 0, mean: 0, squares: 0 }));
    this.#multipliers = parts.map(() => ({ value: 0, mean: null, floor: null }));
    if (parts.every(({ reward }) => reward.differentiable !== undefined)) {
      this.differentiable = (images01, prompts) => this.#differentiable(images01, prompts);
    }
  }

  async score(batch: RewardBatch): Promise<number[]> {
    return (await this.scoreParts(batch, 'training')).total;
  }

  get wantsBase(): boolean {
    return this.#parts.some(({ floor }) => floor === 'base');
  }

  async scoreParts(batch: SharedBatch, purpose: Purpose): Promise<Scores> {
    const total = batch.prompts.map(() => 0);
    const parts: Record<string, number[]> = {};
    // all of them first: if one fails, the statistics of none have moved
    const answers = await Promise.all(this.#parts.map(async ({ reward }) => askReward(reward, batch)));
    const checked: number[][] = [];
    for (const [i, { reward }] of this.#parts.entries())
      checked.push(await wholeScores(reward, batch, answers[i]));
    for (const [index, part] of this.#parts.entries()) {
      const { reward, normalise, cap = Number.POSITIVE_INFINITY } = part;
      const raw = checked[index]!;
      parts[reward.name] = raw;
      const scores = raw.map((score) => Math.min(score, cap));
      const here = summed(scores);
      if (purpose === 'base') {
        if (part.floor === 'base') this.#multipliers[index]!.floor = here.mean;
        continue;
      }
      const first = this.#first[index]!.count === 0 ? here : this.#first[index]!;
      this.#first[index] = first;
      if (purpose === 'training') {
        this.#running[index] = merge(this.#running[index]!, here);
        if (part.floor !== undefined) {
          const multiplier = this.#follow(index, here.mean);
          parts[`${reward.name}/multiplier`] = raw.map(() => multiplier);
        }
      }
      const byPrompt =
        purpose !== 'evaluation' && normalise === 'prompt' && momentsByPrompt(batch.prompts, scores);
      const by = purpose === 'evaluation' ? first : normalise === 'batch' ? here : this.#running[index]!;
      const weight = this.#weight(index, purpose);
      const floor = typeof part.floor === 'number' ? part.floor : first.mean;
      for (const [picture, score] of scores.entries()) {
        const own = byPrompt ? byPrompt.get(batch.prompts[picture]!)! : by;
        total[picture]! += weight * (normalise === 'none' ? score : (score - own.mean) / spread(own));
        if (part.floor !== undefined && purpose === 'evaluation')
          total[picture]! -= Math.max(0, floor - score) / (normalise === 'none' ? 1 : spread(first));
      }
    }
    if (purpose !== 'training' || this.#parts.every(({ normalise }) => normalise !== 'prompt'))
      return { total, parts };
    const of = summed(total);
    return { total: total.map((sum) => (sum - of.mean) / spread(of)), parts };
  }

  begin(batch: RewardBatch): void {
    for (const { reward } of this.#parts) reward.begin?.(batch);
  }

  async ready(): Promise<void> {
    await Promise.all(this.#parts.map(({ reward }) => reward.ready?.()));
  }

  cost(pictures: number): string[] {
    return this.#parts.flatMap(({ reward }) => reward.cost?.(pictures) ?? []);
  }

  state(): StateTree {
    const multipliers = this.#multipliers.map(({ value, mean, floor }) => ({ value, mean, floor }));
    return { running: this.#running.map(asTree), first: this.#first.map(asTree), multipliers };
  }

  load(state: StateTree): void {
    const { running, first, multipliers } = state as unknown as {
      running: Moments[];
      first: Moments[];
      multipliers?: Multiplier[];
    };
    if (running?.length !== this.#parts.length || first?.length !== this.#parts.length) {
      throw new UserError(
        `reward: the checkpoint holds statistics of ${running?.length} rewards, the recipe lists ${this.#parts.length} — resume with the recipe it was made with`,
      );
    }
    this.#running = running.map((moments) => ({ ...moments }));
    this.#first = first.map((moments) => ({ ...moments }));
    if (multipliers !== undefined) this.#multipliers = multipliers.map((one) => ({ ...one }));
  }

  /** Moves a multiplier by the mean of a training batch, and returns it. */
  #follow(index: number, mean: number): number {
    const { floor, floorRate = 0.5 } = this.#parts[index]!;
    const known = this.#multipliers[index]!;
    const smooth = known.mean === null ? mean : known.mean + newest * (mean - known.mean);
    const wanted = typeof floor === 'number' ? floor : (known.floor ?? mean);
    const value = Math.max(0, known.value + (floorRate * (wanted - smooth)) / spread(this.#first[index]!));
    this.#multipliers[index] = { value, mean: smooth, floor: wanted };
    return value;
  }

  /** Factor of a part's normalised score. */
  #weight(index: number, purpose: Purpose): number {
    const { floor, weight = floor === undefined ? 1 : 0 } = this.#parts[index]!;
    return weight + (purpose === 'training' ? this.#multipliers[index]!.value : 0);
  }

  #differentiable(images01: Tensor, prompts: readonly string[]): Tensor {
    const terms = this.#parts.map(({ reward, normalise, cap }, index) => {
      const by = this.#first[index]!;
      const scale = normalise === 'none' || by.count === 0 ? 1 : spread(by);
      const scores = reward.differentiable!(images01, prompts); // [B]
      const capped = cap === undefined ? scores : scores.clamp(undefined, cap);
      return capped.mul(this.#weight(index, 'training') / scale);
    });
    return stack(terms).sum(0); // [B]
  }
}

function nameOf({ reward, weight, cap, floor }: WeightedPart): string {
  const capped = cap === undefined ? reward.name : `min(${reward.name}, ${cap})`;
  if (floor === undefined) return `${weight ?? 1} ${capped}`;
  return `${weight === undefined ? '' : `${weight} ${capped}, `}${reward.name} >= ${floor}`;
}

function summed(values: readonly number[]): Moments {
  const mean = values.reduce((sum, value) => sum + value, 0) / values.length;
  return { count: values.length, mean, squares: values.reduce((sum, value) => sum + (value - mean) ** 2, 0) };
}

function momentsByPrompt(prompts: readonly string[], scores: readonly number[]): Map<string, Moments> {
  const groups = new Map<string, number[]>();
  scores.forEach((score, i) => {
    const own = groups.get(prompts[i]!) ?? [];
    own.push(score);
    groups.set(prompts[i]!, own);
  });
  return new Map([...groups].map(([prompt, own]) => [prompt, summed(own)]));
}

/** Moments of two samples together (Chan, Golub & LeVeque 1979). */
function merge(a: Moments, b: Moments): Moments {
  const count = a.count + b.count;
  const delta = b.mean - a.mean;
  return {
    count,
    mean: a.mean + (delta * b.count) / count,
    squares: a.squares + b.squares + (delta * delta * a.count * b.count) / count,
  };
}

/** Standard deviation; 1 where all scores are equal, since there is nothing to scale then. */
function spread({ count, squares }: Moments): number {
  const deviation = Math.sqrt(squares / Math.max(1, count));
  return deviation > 1e-12 ? deviation : 1;
}

function asTree({ count, mean, squares }: Moments): StateTree {
  return { count, mean, squares };
}
