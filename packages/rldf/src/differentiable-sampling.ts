// Drawing so that a reward's gradient can be followed back through the last denoising steps: DRaFT-K (Clark et al. 2024, arXiv 2309.17400), AlignProp (Prabhudesai et al. 2023, arXiv 2310.03739).
import { setImmediate as nextTurn } from 'node:timers/promises';
import { type Behaviour, type Conditioning, DDIMScheduler, type Pipeline } from '@rldf/models';
import {
  enableGrad,
  free,
  grad,
  keep,
  noGrad,
  noiseKey,
  normal,
  scope,
  type Tensor,
  zeros,
} from '@rldf/torch';
import { UserError } from './errors.js';
import { latentShape, policyMoments } from './rollout.js';

// B pictures · T denoising steps · K last ones that gradients flow through · C, h, w latent · L tokens · D text width

export interface DifferentiableSamplingOptions {
  /** Unconditional rows first, [2B, L, D]; or [B, L, D], without guidance. */
  conditioning: Conditioning;
  /** One a picture: identity of its noise, and its guidance at each step. */
  behaviours: readonly Behaviour[];
  steps: number;
  /** 0 (DRaFT) to 1 (AlignProp); the noise is keyed, so that a step that runs again draws the same. */
  eta: number;
  /** K, 1 to `steps`: gradients stop before the last K steps. */
  gradientSteps: number;
  /**
   * true: only the K latents are kept, and each step runs again on the way back: the memory of one step whatever K is.
   * false: the graph of all K steps is kept, as plain back-propagation does. Both give the same gradients.
   */
  checkpointed?: boolean;
}

/** What was drawn, and the way back. Its tensors live until `free`. */
export interface DifferentiableSample {
  /** x_0 [B, C, h, w], cut from the graph. */
  latents: Tensor;
  /**
   * Gradients of a scalar with respect to `inputs` (parameters that want gradients, or the conditioning's tensors),
   * given its gradient with respect to `latents`. Once only. Yields the share done after each step.
   * @param gradient [B, C, h, w]
   * @returns one an input, which belong to the caller
   */
  backward(gradient: Tensor, inputs: readonly Tensor[]): AsyncGenerator<number, Tensor[]>;
  free(): void;
}

/**
 * Draws a batch with DDIM. The weights must not change between drawing and `backward`.
 *
 * @throws UserError when `gradientSteps` is not an integer from 1 to `steps`
 */
export async function* differentiableSample(
  pipeline: Pipeline,
  options: DifferentiableSamplingOptions,
): AsyncGenerator<number, DifferentiableSample> {
  const { conditioning, behaviours, steps, eta, gradientSteps, checkpointed = true } = options;
  if (!Number.isInteger(gradientSteps) || gradientSteps < 1 || gradientSteps > steps) {
    throw new UserError(
      `differentiableSample: gradientSteps is ${gradientSteps} with ${steps} steps — must be an integer from 1 to the number of steps. Use 1 to 10.`,
    );
  }
  const scheduler = new DDIMScheduler(pipeline.schedulerConfig);
  scheduler.setTimesteps(steps);
  const first = steps - gradientSteps;
  const noise = (purpose: string, ...path: number[]) => {
    const keys = behaviours.map((b) => noiseKey(b.seed, purpose, ...b.path, ...path));
    const { dtype, device } = conditioning.hiddenStates;
    return normal(keys, latentShape(pipeline), { dtype, device }); // [B, C, h, w]
  };
  /** x_t -> x_s. Differentiable in x_t, the conditioning and the weights. */
  const denoise = (latents: Tensor, step: number): Tensor =>
    scope(() => {
      const { mean, std } = policyMoments(pipeline, scheduler, latents, step, conditioning, behaviours, eta);
      return std === 0 ? mean : mean.add(noise('rollout step', step).mul(std));
    });

  /** Inputs of the steps that gradients flow through; without checkpoints the first one only. */
  const inputs: Tensor[] = [];
  let latents = noGrad(() => noise('rollout start'));
  try {
    for (let step = 0; step < steps; step++) {
      const plain = step >= first && !checkpointed;
      const next = (plain ? enableGrad : noGrad)(() => denoise(latents, step));
      if (step < first || (plain && step > first))
        latents.free(); // a graph keeps what it needs by itself
      else inputs.push(latents);
      latents = next;
      await nextTurn();
      yield (step + 1) / steps;
    }
  } catch (error) {
    free([latents, inputs]);
    throw error;
  }
  const last = latents;

  /** One step at a time, from the last: its graph is made, followed and given back. */
  async function* throughCheckpoints(
    gradient: Tensor,
    wanted: readonly Tensor[],
  ): AsyncGenerator<number, Tensor[]> {
    const sums = noGrad(() =>
      wanted.map(({ shape, dtype, device }) => keep(zeros(shape, { dtype, device }))),
    );
    let arriving = noGrad(() => keep(gradient.clone())); // dL/dx of what the step put out
    try {
      for (let step = steps - 1; step >= first; step--) {
        const leaving = scope(() => {
          const input = (inputs[step - first] as Tensor).detach().requiresGrad_();
          const output = enableGrad(() => denoise(input, step));
          const more = step > first ? [input] : [];
          const gradients = grad(output, [...wanted, ...more], { gradOutputs: [arriving] });
          noGrad(() => sums.forEach((sum, i) => void sum.add_(gradients[i] as Tensor)));
          return gradients[wanted.length];
        });
        arriving.free();
        if (leaving !== undefined) arriving = leaving;
        await nextTurn();
        yield (steps - step) / gradientSteps;
      }
      return sums;
    } catch (error) {
      free([sums, arriving]);
      throw error;
    }
  }

  async function* throughGraph(
    gradient: Tensor,
    wanted: readonly Tensor[],
  ): AsyncGenerator<number, Tensor[]> {
    const gradients = grad(last, wanted, { gradOutputs: [gradient] });
    await nextTurn();
    yield 1;
    return gradients;
  }

  const drawn = checkpointed ? last : last.detach();
  return {
    latents: drawn,
    backward: checkpointed ? throughCheckpoints : throughGraph,
    free: () => free([drawn, last, inputs]),
  };
}
