// Schedulers as policies: the density of a denoising step, and drawing by it, remembering everything a policy gradient needs.
import { setImmediate as nextTurn } from 'node:timers/promises';
import {
  type Behaviour,
  type Conditioning,
  decodeImages,
  LatentsWatch,
  latentShape,
  type Pipeline,
  type PolicyName,
  type PolicyScheduler,
  policyOfConfig,
  predictGuided,
  type Scheduler,
  type SchedulerConfig,
  type Trajectory,
  withoutGrounding,
} from '@rldf/models';
import { cat, free, noGrad, noiseKey, normal, ones, scope, stack, type Tensor, zeros } from '@rldf/torch';
import { InternalError, UserError } from '@rldf/torch/errors';
import { learnableSteps } from '../config/batch-arithmetic.js';

// B pictures · T denoising steps · C, h, w latent · L tokens · D text width

export interface RolloutOptions {
  /** Of 2B rows, the B unconditional ones first, or of B without guidance (`TextFeatures.forDrawing`). */
  conditioning: Conditioning;
  /** One a picture: identity of its noise, and its guidance at each step. */
  behaviours: readonly Behaviour[];
  steps: number;
  /** Share of the DDPM noise, 0 < eta <= 1. */
  eta: number;
  /** DDIM by default. */
  scheduler?: PolicyName | undefined;
}

export interface Rollout {
  trajectory: Trajectory;
  /** uint8 [B, H, W, 3] */
  images: Tensor;
}

/** The policy for a number of steps. @throws UserError when one of `learnableSteps` has no density (eta 0, or σ 0 at its end) */
export function policyScheduler(
  { schedulerConfig }: Pick<Pipeline, 'schedulerConfig'>,
  steps: number,
  eta: number,
  name: PolicyName = 'ddim',
): PolicyScheduler {
  const scheduler = policyOfConfig(schedulerConfig, name);
  scheduler.setTimesteps(steps);
  for (let step = 0; step < learnableSteps({ steps, scheduler: name }); step++) {
    if (scheduler.std(step, eta) > 0) continue;
    throw new UserError(
      `policy: step ${step + 1} of ${steps} (timestep ${scheduler.timesteps[step]}) has standard deviation 0 at eta ${eta} — ` +
        'a deterministic step has no probability whose gradient could be followed. ' +
        (eta === 0 ? 'Set sample.eta: 1.' : schedulerFix(schedulerConfig)),
    );
  }
  return scheduler;
}

/** Which of the model's settings leaves a step without noise, and what to set instead. */
function schedulerFix({
  timestep_spacing: spacing = 'leading',
  steps_offset: offset = 0,
  set_alpha_to_one: toOne = true,
}: SchedulerConfig): string {
  const wrong = [
    ...(spacing === 'leading' ? [] : [`timestep_spacing: ${spacing} (set leading)`]),
    ...(offset >= 1 ? [] : [`steps_offset: ${offset} (set 1)`]),
    ...(toOne ? ['set_alpha_to_one: true (set false)'] : []),
  ];
  return `The model's scheduler_config.json has ${wrong.join(', ') || 'too few timesteps'}: use settings like Stable Diffusion's, or another number of sample.steps.`;
}

/**
 * One weight a step, of mean 1, under which a change of the network's answer moves every step's log-probability alike.
 *
 * Without it the last steps of a small σ have by far the largest gradients, though they hardly change the picture: the
 * derivative of the log-probability is that of the mean over σ, a hundred times larger at the end than at the beginning.
 */
export function balancedStepWeights(scheduler: PolicyScheduler, eta: number): number[] {
  const inverse = scheduler.timesteps.map((_, step) =>
    scope(() => {
      const shape = [1, 1, 1, 1];
      const options = { dtype: 'float64' } as const;
      const { mean, std } = scheduler.moments(ones(shape, options), step, zeros(shape, options), eta);
      return std / Math.abs(mean.item());
    }),
  );
  const average =
    inverse.reduce((sum, value) => sum + value, 0) / inverse.filter((value) => value > 0).length;
  return inverse.map((value) => value / average);
}

/** Unconditional rows first, then conditional ones, as `predictGuided` takes them: [2B, L, D]. */
export function guidedConditioning(unconditional: Conditioning, conditional: Conditioning): Conditioning {
  return scope(() => {
    const { hiddenStates } = conditional;
    const rows = hiddenStates.shape[0] as number;
    const negative = unconditional.hiddenStates;
    const repeated = negative.shape[0] === rows ? negative : negative.expand([rows, -1, -1]);
    return { hiddenStates: cat([repeated, hiddenStates]) };
  });
}

/** Draws a batch with the policy, yielding the share done after each step. The result's tensors belong to the caller. */
export async function* rollout(pipeline: Pipeline, options: RolloutOptions): AsyncGenerator<number, Rollout> {
  const { conditioning, behaviours, steps, eta } = options;
  const scheduler = policyScheduler(pipeline, steps, eta, options.scheduler);
  const shape = latentShape(pipeline);
  const { device } = pipeline.unet;
  const keys = behaviours.map((b) => noiseKey(b.seed, 'rollout start', ...b.path));
  const latents: Tensor[] = [
    noGrad(() => scope(() => normal(keys, shape, { device }).mul(scheduler.initialNoiseScale))),
  ];
  const logProbs: Tensor[] = [];
  const watch = new LatentsWatch();
  try {
    for (let step = 0; step < steps; step++) {
      const [next, logProb] = noGrad(() =>
        scope((): [Tensor, Tensor] => {
          const current = latents[step] as Tensor;
          const { mean, std } = policyMoments(
            pipeline,
            scheduler,
            current,
            step,
            conditioning,
            behaviours,
            eta,
          );
          if (std === 0) return [mean, zeros([behaviours.length], { dtype: 'float64', device })];
          const noise = normal(
            behaviours.map((b) => noiseKey(b.seed, 'rollout step', ...b.path, step)),
            shape,
            { device },
          );
          const sample = mean.add(noise.mul(std)); // [B, C, h, w]
          return [sample, meanLogProb(sample, mean, std)];
        }),
      );
      latents.push(next);
      watch.see(next);
      logProbs.push(logProb);
      await nextTurn();
      yield (step + 1) / steps;
    }
    watch.check(
      'rollout',
      (i) => `picture ${i + 1} of ${behaviours.length}`,
      'The training has diverged: resume from an earlier checkpoint with a smaller learning rate, or use a smaller guidance scale.',
    );
    return noGrad(() =>
      scope(() => ({
        trajectory: {
          latents: stack(latents), // [T + 1, B, C, h, w]
          timesteps: [...scheduler.timesteps],
          logProbs: stack(logProbs), // [T, B]
          behaviours: [...behaviours],
        },
        images: decodeImages(pipeline, latents[steps] as Tensor),
      })),
    );
  } finally {
    free([latents, logProbs]);
    watch.free();
  }
}

/** Mean and standard deviation of the policy at one step for a batch of pictures. Differentiable. */
export function policyMoments(
  pipeline: Pipeline,
  scheduler: PolicyScheduler,
  latents: Tensor, // [B, C, h, w]
  step: number,
  conditioning: Conditioning, // [2B, L, D], or [B, L, D] without guidance
  behaviours: readonly Behaviour[],
  eta: number,
): { mean: Tensor; std: number } {
  const prediction = guidedPrediction(pipeline, scheduler, latents, step, conditioning, behaviours);
  return scheduler.moments(prediction, step, latents, eta);
}

/** The network's answer at one step, each picture under its own guidance; arguments as of `policyMoments`. Differentiable. */
export function guidedPrediction(
  pipeline: Pipeline,
  scheduler: Scheduler,
  latents: Tensor,
  step: number,
  conditioning: Conditioning,
  behaviours: readonly Behaviour[],
): Tensor {
  const guidance = behaviours.map((behaviour) => behaviour.guidance[step] as number);
  const same = guidance.every((scale) => scale === guidance[0]) ? (guidance[0] as number) : guidance;
  const timestep = scheduler.timesteps[step] as number;
  const input = scheduler.scaleModelInput(latents, step);
  const told = groundedAt(behaviours, step) ? conditioning : withoutGrounding(conditioning);
  return predictGuided(pipeline.unet, input, timestep, told, same); // [B, C, h, w]
}

/** Whether the gated layers of a grounded model (GLIGEN) are on at a step: for all of a batch, or for none. */
function groundedAt(behaviours: readonly Behaviour[], step: number): boolean {
  const [first, ...others] = behaviours.map(({ grounding }) => step < (grounding?.steps ?? 0));
  if (others.every((other) => other === first)) return first === true;
  throw new InternalError(
    `rollout: of ${behaviours.length} pictures, some are grounded at step ${step + 1} and some are not — batches are of one recipe.`,
  );
}

// Densities of a denoising step, N(μ, σ²) with the same σ for all elements, as means over the latent's elements. Elements
// and means are computed in float64, so that a ratio of two policies is exact to what the networks give.

/**
 * Mean over the latent's elements of log N(sample; mean, std²), as DDPO's public code defines a step's log-probability
 * (Black et al. 2023, equation 5; the joint one is this times the number of elements).
 *
 * @param sample x_{t-1} [B, C, H, W], a constant
 * @param mean μ [B, C, H, W]; gradients flow through it
 * @param std σ > 0 of this step
 * @returns [B] in nats per element, float64
 */
export function meanLogProb(sample: Tensor, mean: Tensor, std: number): Tensor {
  return scope(() => {
    const constant = -Math.log(std) - 0.5 * Math.log(2 * Math.PI);
    return meanSquare(sample, mean)
      .mul(-0.5 / std ** 2)
      .add(constant);
  });
}

/**
 * Mean over the latent's elements of KL(N(mean, std²) ‖ N(base, std²)) = (mean - base)² / (2 std²), exact.
 *
 * @param mean of the policy [B, C, H, W]; gradients flow through it
 * @param base mean of the other policy at the same latents [B, C, H, W]
 * @returns [B] in nats per element, float64
 */
export function meanKl(mean: Tensor, base: Tensor, std: number): Tensor {
  return scope(() => meanSquare(base, mean).mul(0.5 / std ** 2));
}

/** Mean over C, H, W of (a - b)²: [B], float64 */
function meanSquare(a: Tensor, b: Tensor): Tensor {
  return scope(() => a.to('float64').sub(b.to('float64')).square().mean([1, 2, 3]));
}

/** Latent elements of one picture: the factor between the mean and the joint log-probability. */
export function elementsOf(latents: Tensor): number {
  return latents.shape.slice(-3).reduce((product, size) => product * size, 1);
}
