// Drawing so that a reward's gradient can be followed back through denoising steps: AlignProp (Prabhudesai et al. 2023, arXiv 2310.03739), DRaFT (Clark et al. 2024, arXiv 2309.17400), ReFL (Xu et al. 2023, arXiv 2304.05977).
import { setImmediate as nextTurn } from 'node:timers/promises';
import {
  type Behaviour,
  type Conditioning,
  type DDIMScheduler,
  ddimOf,
  latentShape,
  type Pipeline,
} from '@rldf/models';
import {
  cat,
  type DType,
  enableGrad,
  free,
  keep,
  noGrad,
  noiseKey,
  normal,
  ones,
  scope,
  type Tensor,
  tensor,
  zeros,
} from '@rldf/torch';
import { mapYields } from '../base/generators.js';
import { guidedPrediction, policyMoments } from './rollout.js';

// B pictures · T denoising steps · C, h, w latent · L tokens · D text width

/** A batch to be drawn with DDIM. */
export interface Drawing {
  /** One a picture: identity of its noise, and its guidance at each step. */
  behaviours: readonly Behaviour[];
  /**
   * Of these of the pictures (0 to B - 1): unconditional rows first, [2B, L, D], or [B, L, D] without guidance. Asked for
   * at every step, so that each has a graph of its own.
   */
  conditioning(pictures: readonly number[]): Conditioning;
  /** T */
  steps: number;
  /** 0 (DRaFT) to 1 (AlignProp); the noise is keyed, so that a step that runs again draws the same. */
  eta: number;
  /** Of the latents; float32 by default. */
  dtype?: DType;
}

/** Runs a step with its graph and takes its gradient: `Passes` of a learner. Called once for each step that was followed. */
export interface GradientPasses {
  record<T>(fn: () => T): T;
  /** Takes the gradient of outputs times `gradOutput` by all that learns. @returns that by `input` */
  backward(outputs: Tensor, options: { gradOutput: Tensor; input?: Tensor }): Tensor | undefined;
}

/** What was drawn, and the way back. Its tensors live until `free`. */
export interface DifferentiableSample {
  /** x_0, drawn or predicted, [B, C, h, w], cut from the graph. */
  readonly latents: Tensor;
  /**
   * Follows the gradient of a scalar, given with respect to `latents`. Each step runs once more, its graph is followed and
   * given back: the memory of one step however many there are. The weights must not have changed. Yields the share done.
   */
  backward(gradient: Tensor, passes: GradientPasses): AsyncGenerator<number, void>;
  free(): void;
}

export class DifferentiableSampler {
  readonly #pipeline: Pipeline;
  readonly #drawing: Drawing;
  readonly #scheduler: DDIMScheduler;
  /** 0 to B - 1 */
  readonly #all: readonly number[];

  constructor(pipeline: Pipeline, drawing: Drawing) {
    this.#pipeline = pipeline;
    this.#drawing = drawing;
    this.#scheduler = ddimOf(pipeline.schedulerConfig);
    this.#scheduler.setTimesteps(drawing.steps);
    this.#all = [...drawing.behaviours.keys()];
  }

  /** The latents that go into step `until` (from 0; all T steps by default), without gradient. Yields the share done. */
  async *draw(until = this.#drawing.steps): AsyncGenerator<number, Tensor> {
    let latents = noGrad(() => this.#noise('rollout start', this.#all));
    let whole = false;
    try {
      for (let step = 0; step < until; step++) {
        const next = noGrad(() => this.#denoise(latents, step, this.#all));
        latents.free();
        latents = next;
        await nextTurn();
        yield (step + 1) / until;
      }
      whole = true;
      return latents;
    } finally {
      if (!whole) latents.free();
    }
  }

  /**
   * Draws x_0, keeping the way back. A step that is not `followed` counts as if the network's prediction there were constant: in
   * front of all followed steps nothing is left to do, between them the gradient passes by the sampler's linear part.
   *
   * @param followed one a picture: the steps (0 to T - 1) whose gradient is followed
   */
  async *sample(followed: readonly ReadonlySet<number>[]): AsyncGenerator<number, DifferentiableSample> {
    const { steps } = this.#drawing;
    const first = Math.min(steps, ...followed.flatMap((set) => [...set]));
    /** What went into the steps from `first` on. */
    const inputs: Tensor[] = [];
    let latents = yield* mapYields(this.draw(first), (share) => (share * first) / steps);
    let whole = false;
    try {
      for (let step = first; step < steps; step++) {
        inputs.push(latents);
        latents = noGrad(() => this.#denoise(latents, step, this.#all));
        await nextTurn();
        yield (step + 1) / steps;
      }
      whole = true;
    } finally {
      if (!whole) free([inputs, latents]);
    }
    return {
      latents,
      backward: (gradient, passes) => this.#back(gradient, passes, inputs, followed),
      free: () => free([inputs, latents]),
    };
  }

  /**
   * x_0 as the network predicts it at one step, with the way back through that one prediction.
   * @param latents x_t, [B, C, h, w]; given away
   */
  prediction(latents: Tensor, step: number): DifferentiableSample {
    const predict = (from: Tensor) => this.#predict(from, step);
    const follow = this.#follow;
    let predicted: Tensor;
    try {
      predicted = noGrad(() => predict(latents));
    } catch (error) {
      latents.free();
      throw error;
    }
    return {
      latents: predicted,
      async *backward(gradient, passes) {
        follow(predict, latents, gradient, passes, false);
        await nextTurn();
        yield 1;
      },
      free: () => free([latents, predicted]),
    };
  }

  /**
   * x_0 noised as it would go into a step.
   * @param original x_0, [B, C, h, w]
   * @param which tells several noisings of a picture apart
   */
  noised(original: Tensor, step: number, which: number): Tensor {
    const timesteps = this.#all.map(() => this.#scheduler.timesteps[step] as number);
    return noGrad(() =>
      scope(() =>
        this.#scheduler.schedule.addNoise(original, this.#noise('noised again', this.#all, which), timesteps),
      ),
    );
  }

  async *#back(
    gradient: Tensor,
    passes: GradientPasses,
    inputs: readonly Tensor[],
    followed: readonly ReadonlySet<number>[],
  ): AsyncGenerator<number, void> {
    const { steps } = this.#drawing;
    const first = steps - inputs.length;
    let arriving = noGrad(() => keep(gradient.clone())); // dL/dx of what a step put out, [B, C, h, w]
    try {
      for (let step = steps - 1; step >= first; step--) {
        const live = this.#all.filter((picture) => followed[picture]?.has(step));
        const leaving = scope(() => {
          const of = (all: Tensor) => noGrad(() => this.#rows(all, live));
          const denoise = (from: Tensor) => this.#denoise(from, step, live);
          const input = inputs[step - first] as Tensor;
          const more = step > first;
          const through =
            live.length > 0 ? this.#follow(denoise, of(input), of(arriving), passes, more) : undefined;
          return more ? noGrad(() => this.#joined(through, live, arriving, step)) : undefined;
        });
        if (leaving !== undefined) {
          arriving.free();
          arriving = leaving;
        }
        await nextTurn();
        yield (steps - step) / inputs.length;
      }
    } finally {
      arriving.free();
    }
  }

  /** Runs a step with its graph and follows the gradient through it. @returns dL/d(from) if it is wanted */
  readonly #follow = (
    run: (from: Tensor) => Tensor,
    from: Tensor,
    arriving: Tensor,
    { record, backward }: GradientPasses,
    wanted: boolean,
  ): Tensor | undefined =>
    scope(() => {
      const input = wanted ? from.detach().requiresGrad_() : from.detach();
      const output = enableGrad(() => record(() => run(input)));
      return backward(output, { gradOutput: arriving, ...(wanted && { input }) });
    });

  /** dL/dx_t of all pictures: what came through the network for those followed, the linear part for the others. */
  #joined(through: Tensor | undefined, live: readonly number[], arriving: Tensor, step: number): Tensor {
    if (through !== undefined && live.length === this.#all.length) return through;
    return scope(() => {
      const passedBy = arriving.mul(this.#linearPart(step)); // [B, C, h, w]
      if (through === undefined) return passedBy;
      const both = cat([through, passedBy]); // followed ones in the order of `live`, then all
      const rowOf = (picture: number) =>
        live.includes(picture) ? live.indexOf(picture) : live.length + picture;
      return this.#rows(both, this.#all.map(rowOf));
    });
  }

  /** ∂x_s/∂x_t of a step whose prediction counts as constant. */
  #linearPart(step: number): number {
    const options = { dtype: 'float64' } as const;
    const constant = zeros([1, 1, 1, 1], options);
    return this.#scheduler
      .moments(constant, step, ones([1, 1, 1, 1], options), this.#drawing.eta)
      .mean.item();
  }

  #rows(all: Tensor, rows: readonly number[]): Tensor {
    const same = rows.length === all.shape[0] && rows.every((row, i) => row === i);
    return same
      ? all.detach()
      : all.indexSelect(0, tensor([...rows], { dtype: 'int64', device: all.device }));
  }

  /** x_t -> x_s of some pictures. Differentiable in x_t, the conditioning and the weights. */
  #denoise(latents: Tensor, step: number, pictures: readonly number[]): Tensor {
    const { conditioning, eta } = this.#drawing;
    return scope(() => {
      const { mean, std } = policyMoments(
        this.#pipeline,
        this.#scheduler,
        latents,
        step,
        conditioning(pictures),
        this.#behavioursOf(pictures),
        eta,
      );
      return std === 0 ? mean : mean.add(this.#noise('rollout step', pictures, step).mul(std));
    });
  }

  /** x_t -> x_0 of all pictures. */
  #predict(latents: Tensor, step: number): Tensor {
    const { conditioning, behaviours } = this.#drawing;
    return scope(() => {
      const prediction = guidedPrediction(
        this.#pipeline,
        this.#scheduler,
        latents,
        step,
        conditioning(this.#all),
        behaviours,
      );
      const { alphaBar } = this.#scheduler.coefficients(step, 0);
      return this.#scheduler.schedule.split(prediction, latents, alphaBar).original;
    });
  }

  /** [B, C, h, w], keyed as in `rollout`. */
  #noise(purpose: string, pictures: readonly number[], ...path: number[]): Tensor {
    const keys = this.#behavioursOf(pictures).map((b) => noiseKey(b.seed, purpose, ...b.path, ...path));
    const { dtype = 'float32' } = this.#drawing;
    return normal(keys, latentShape(this.#pipeline), { dtype, device: this.#pipeline.unet.device });
  }

  #behavioursOf(pictures: readonly number[]): Behaviour[] {
    return pictures.map((picture) => this.#drawing.behaviours[picture] as Behaviour);
  }
}

/** The last `count` of `steps` denoising steps. */
export function lastSteps(steps: number, count: number): Set<number> {
  return new Set(Array.from({ length: count }, (_, i) => steps - count + i));
}
