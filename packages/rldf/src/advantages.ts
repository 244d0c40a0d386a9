// Advantages: how much better a picture is than what the model usually draws for its prompt.
import type { StateTree } from '@rldf/torch';
import { UserError } from './errors.js';

export interface Moments {
  mean: number;
  /** Population standard deviation, as numpy's default. */
  std: number;
}

export function momentsOf(values: readonly number[]): Moments {
  const mean = values.reduce((sum, value) => sum + value, 0) / values.length;
  const variance = values.reduce((sum, value) => sum + (value - mean) ** 2, 0) / values.length;
  return { mean, std: Math.sqrt(variance) };
}

/**
 * Per-prompt statistics (Black et al. 2023, section 4.3): each prompt's last rewards in a ring buffer. A prompt with too
 * few of them is judged by the whole batch. Rewards are recorded before they are normalised, as in the public code.
 */
export class PromptStatistics {
  readonly #buffers = new Map<string, number[]>();

  /**
   * @param bufferSize rewards remembered for each prompt
   * @param minimumCount rewards needed before a prompt is judged by its own buffer
   */
  constructor(
    readonly bufferSize: number,
    readonly minimumCount: number,
  ) {}

  /** One advantage a picture, clipped to ±clip standard deviations; 0 where all rewards are equal. */
  advantages(prompts: readonly string[], rewards: readonly number[], clip: number): number[] {
    if (prompts.length !== rewards.length) {
      throw new UserError(
        `advantages: ${rewards.length} rewards for ${prompts.length} prompts — one a picture.`,
      );
    }
    const batch = momentsOf(rewards);
    prompts.forEach((prompt, i) => {
      const buffer = this.#buffers.get(prompt) ?? [];
      buffer.push(rewards[i] as number);
      this.#buffers.set(prompt, buffer.slice(-this.bufferSize));
    });
    return prompts.map((prompt, i) => {
      const buffer = this.#buffers.get(prompt) as number[];
      const { mean, std } = buffer.length < this.minimumCount ? batch : momentsOf(buffer);
      return Math.min(clip, Math.max(-clip, ((rewards[i] as number) - mean) / (std + 1e-6)));
    });
  }

  state(): StateTree {
    return Object.fromEntries(this.#buffers);
  }

  load(state: StateTree): void {
    this.#buffers.clear();
    for (const [prompt, buffer] of Object.entries(state as Record<string, number[]>))
      this.#buffers.set(prompt, [...buffer]);
  }
}
