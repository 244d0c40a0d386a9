import { tinyPipeline } from '@rldf/models';
import { free, setThreads, type Tensor } from '@rldf/torch';
import { expect, test } from 'vitest';
import { importanceSamplingLoss } from './ddpo.js';
import { ddpoSchema } from './ddpo-schema.js';
import { Learner } from './learner.js';
import { drawEpoch, policyOf, policyUpdate, rolloutsOf, type UpdateReport } from './policy-gradient.js';

setThreads(1);

const prompts = ['a cat', 'a dog'].map((text) => ({ text, meta: null }));

async function last<Result>(generator: AsyncGenerator<unknown, Result>): Promise<Result> {
  for (;;) {
    const { done, value } = await generator.next();
    if (done) return value as Result;
  }
}

interface Updated {
  /** x_T, ..., x_1 of four pictures, of unit variance: [T][elements]. */
  latents: number[][];
  report: UpdateReport;
  /** Of the adapter, after the update. */
  weights: number[];
}

/** One DDPO update of steps 1 to 3 of 4, on the schedule of Stable Diffusion, by advantages that do not depend on the pictures. */
async function update(scheduler: 'ddim' | 'euler-ancestral'): Promise<Updated> {
  const pipeline = tinyPipeline(1);
  const spacing = { timestep_spacing: 'leading', steps_offset: 1, set_alpha_to_one: false } as const;
  pipeline.schedulerConfig = { ...pipeline.schedulerConfig, ...spacing, clip_sample: false };
  const recipe = ddpoSchema.parse({
    method: 'ddpo',
    prompts: ['a cat', 'a dog'],
    reward: 'jpeg-compressibility',
    seed: 3,
    sample: { steps: 4, promptsPerEpoch: 2, picturesPerPrompt: 2, batchSize: 4, guidanceScale: 3, scheduler },
    train: { rank: 2, batchSize: 4, updatesPerEpoch: 1, clipNats: 10 },
  });
  const learner = new Learner(pipeline, recipe, 1);
  const policy = policyOf(learner, recipe, importanceSamplingLoss);
  const pictures = await last(drawEpoch(learner, recipe, { prompts }, 0));
  const steps = new Set([0, 1, 2]);
  const samples = pictures.map((picture, i) => ({
    ...picture,
    advantages: Array(4).fill([1.5, -0.5, -2, 1][i]) as number[],
    steps,
  }));
  const { latents } = pictures[0]!.rollout.trajectory; // [T + 1, B, C, h, w]
  const scaleOf = (step: number) =>
    scheduler === 'ddim'
      ? 1
      : Math.hypot(policy.scheduler.schedule.sigma(policy.scheduler.timesteps[step]!), 1);
  const unit = [0, 1, 2, 3].map((step) => latents.select(0, step).div(scaleOf(step)).toNumbers());
  const report = await last(policyUpdate(learner, policy, samples, 1e-3));
  const weights = learner.unet.flatMap((tensor: Tensor) => tensor.toNumbers());
  free(rolloutsOf(pictures));
  learner.free();
  return { latents: unit, report, weights };
}

test('a DDPO update with ancestral Euler is the one with DDIM at eta 1, on the steps that both have', async () => {
  const [ddim, euler] = [await update('ddim'), await update('euler-ancestral')];
  for (const [step, latents] of ddim.latents.entries()) {
    const off = latents.map((value, i) => Math.abs(value - euler.latents[step]![i]!));
    expect(Math.max(...off)).toBeLessThan(1e-3);
  }
  expect(euler.report.maxRatioError).toBeLessThan(1e-6);
  expect(euler.report.norm).toBeGreaterThan(0);
  expect(Math.abs(euler.report.norm / ddim.report.norm - 1)).toBeLessThan(1e-3);
  // AdamW's first step is the sign of the gradient, so what differs are elements without any
  const apart = ddim.weights.filter((value, i) => Math.abs(value - euler.weights[i]!) > 1e-5);
  expect(apart.length / ddim.weights.length).toBeLessThan(0.01);
});
