/** Weighted sums of rewards. Rewards differ in unit and spread, so each may be normalised first. */

import { type StateTree, stack, type Tensor } from '@rldf/torch';
import { UserError } from '../errors.js';
import {
  type CompositeReward,
  checkScores,
  type Purpose,
  type Reward,
  type RewardBatch,
  type Scores,
} from './reward.js';

/**
 * - `none`: the score as it is
 * - `batch`: to mean 0 and standard deviation 1 within the scored pictures
 * - `running`: the same with mean and deviation of all training pictures so far
 *
 * Evaluation normalises by the first pictures ever scored, whatever the setting but `none`, so that its numbers can be
 * compared between epochs.
 */
export type Normalisation = 'none' | 'batch' | 'running';

export interface WeightedPart {
  reward: Reward;
  /** Factor in the sum; negative to punish. */
  weight: number;
  normalise: Normalisation;
}

interface Moments {
  count: number;
  mean: number;
  /** Sum of squared deviations (Welford 1962). */
  squares: number;
}

/** total = sum of weight x normalised score. Its normalisation statistics are part of the run's state. */
export class WeightedReward implements CompositeReward {
  readonly name: string;
  readonly unit = '';
  readonly #parts: WeightedPart[];
  #running: Moments[];
  #first: Moments[];
  differentiable?: (images01: Tensor, prompts: readonly string[]) => Tensor;

  constructor(parts: WeightedPart[]) {
    this.#parts = parts;
    this.name = parts.map(({ reward, weight }) => `${weight} ${reward.name}`).join(' + ');
    const names = parts.map(({ reward }) => reward.name);
    const twice = names.find((name, index) => names.indexOf(name) !== index);
    if (twice !== undefined) {
      throw new UserError(
        `reward: ${twice} is listed twice — each reward may appear once. Add up its weights`,
      );
    }
    this.#running = parts.map(() => ({ count: 0, mean: 0, squares: 0 }));
    this.#first = parts.map(() => ({ count: 0, mean: 0, squares: 0 }));
    if (parts.every(({ reward }) => reward.differentiable !== undefined)) {
      this.differentiable = (images01, prompts) => this.#differentiable(images01, prompts);
    }
  }

  async score(batch: RewardBatch): Promise<number[]> {
    return (await this.scoreParts(batch, 'training')).total;
  }

  async scoreParts(batch: RewardBatch, purpose: Purpose): Promise<Scores> {
    const total = batch.prompts.map(() => 0);
    const parts: Record<string, number[]> = {};
    for (const [index, { reward, weight, normalise }] of this.#parts.entries()) {
      const scores = checkScores(reward.name, await reward.score(batch), batch);
      parts[reward.name] = scores;
      const here = momentsOf(scores);
      if (this.#first[index]!.count === 0) this.#first[index] = here;
      if (purpose === 'training') this.#running[index] = merge(this.#running[index]!, here);
      const by =
        purpose === 'evaluation' ? this.#first[index]! : normalise === 'batch' ? here : this.#running[index]!;
      for (const [picture, score] of scores.entries()) {
        total[picture]! += weight * (normalise === 'none' ? score : (score - by.mean) / spread(by));
      }
    }
    return { total, parts };
  }

  state(): StateTree {
    return { running: this.#running.map(asTree), first: this.#first.map(asTree) };
  }

  load(state: StateTree): void {
    const { running, first } = state as unknown as { running: Moments[]; first: Moments[] };
    if (running?.length !== this.#parts.length || first?.length !== this.#parts.length) {
      throw new UserError(
        `reward: the checkpoint holds statistics of ${running?.length} rewards, the recipe lists ${this.#parts.length} — resume with the recipe it was made with`,
      );
    }
    this.#running = running.map((moments) => ({ ...moments }));
    this.#first = first.map((moments) => ({ ...moments }));
  }

  #differentiable(images01: Tensor, prompts: readonly string[]): Tensor {
    const terms = this.#parts.map(({ reward, weight, normalise }, index) => {
      const by = this.#first[index]!;
      const scale = normalise === 'none' || by.count === 0 ? 1 : spread(by);
      return reward.differentiable!(images01, prompts).mul(weight / scale); // [B]
    });
    return stack(terms).sum(0); // [B]
  }
}

function momentsOf(values: readonly number[]): Moments {
  const mean = values.reduce((sum, value) => sum + value, 0) / values.length;
  return { count: values.length, mean, squares: values.reduce((sum, value) => sum + (value - mean) ** 2, 0) };
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
