// A training small enough for tests of the run machinery: three numbers, the colour of every picture, are moved by a
// policy gradient towards what the reward likes.

import { checkSameTensors } from '@rldf/common/storage/state-tree';
import { AdamW, noiseKey, normal, type StateTree, scope, type Tensor, tensor } from '@rldf/torch';
import type { Reward } from '../rewards/reward.js';
import { Run } from '../run/run.js';
import type { DrawRequest, Training, TrainingEvent } from '../run/training.js';
import { type RunEvent, type TrainRunOptions, trainRun } from './train.js';

/** Likes red. */
export const redness: Reward = {
  name: 'redness',
  unit: '',
  score: ({ images }) => {
    const pixels = images.toArray() as Uint8Array;
    const size = pixels.length / images.shape[0]!;
    return Array.from({ length: images.shape[0]! }, (_, index) => pixels[index * size]! / 255);
  },
};

export class ToyTraining implements Training {
  readonly steps: number;
  readonly #colour = tensor([0.2, 0.5, 0.5]);
  readonly #optimizer: AdamW;
  #drawn = 0;

  constructor(steps: number) {
    this.steps = steps;
    this.#optimizer = new AdamW([this.#colour], { learningRate: 0.05 });
  }

  async *run(from: number): AsyncGenerator<TrainingEvent> {
    for (let step = from + 1; step <= this.steps; step++) {
      yield { kind: 'progress', phase: 'drawing', share: 0.5, interruptible: true };
      await new Promise((resolve) => setImmediate(resolve));
      scope(() => {
        const noise = normal([noiseKey(3, 'toy', step)], [3]).reshape([3]);
        this.#optimizer.step([tensor([-1, 0, 0]).add(noise.mul(0.1))]);
      });
      this.#drawn += 4;
      yield { kind: 'progress', phase: 'learning', share: 0.9, interruptible: false };
      yield {
        kind: 'step',
        step,
        pictures: 4,
        metrics: { 'reward/mean': (this.#colour.toArray() as Float32Array)[0]! },
      };
    }
  }

  state(): StateTree {
    return { colour: this.#colour, optimizer: this.#optimizer.state(), drawn: this.#drawn };
  }

  load(state: StateTree): void {
    checkSameTensors('toy', state, this.state());
    const { colour, optimizer, drawn } = state as { colour: Tensor; optimizer: StateTree; drawn: number };
    this.#colour.copy_(colour);
    this.#optimizer.load(optimizer as ReturnType<AdamW['state']>);
    this.#drawn = drawn;
  }

  async draw(requests: readonly DrawRequest[]): Promise<Tensor> {
    const colour = Array.from(this.#colour.toArray() as Float32Array, (value) =>
      Math.min(255, Math.max(0, Math.round(255 * value))),
    );
    const pixels = requests.flatMap(() => Array.from({ length: 4 }, () => colour).flat());
    return tensor(Uint8Array.from(pixels), { shape: [requests.length, 2, 2, 3], dtype: 'uint8' });
  }

  async exportTo(): Promise<string[]> {
    return [];
  }

  free(): void {
    this.#colour.free();
    this.#optimizer.free();
  }
}

export function toyOptions(folder: string, steps = 6): TrainRunOptions {
  const prompts = ['a cat', 'a dog'].map((text) => ({ text, meta: null }));
  return {
    run: new Run(folder),
    training: new ToyTraining(steps),
    reward: redness,
    watch: { mode: 'log' },
    validation: { prompts, every: 2, picturesPerPrompt: 1, maxPrompts: 8 },
    test: { prompts, picturesPerPrompt: 1, maxPrompts: 8 },
    checkpoint: { every: 1, keep: 2 },
    batchSize: 4,
    resume: true,
  };
}

export async function drive(options: TrainRunOptions): Promise<RunEvent[]> {
  const events: RunEvent[] = [];
  for await (const event of trainRun(options)) events.push(event);
  return events;
}
