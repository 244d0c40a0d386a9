// The loop behind every pre-training: fused AdamW, averaged weights, checkpoints, resumption. What is learnt is given by a `Trainee`.
import { join } from 'node:path';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { makeFolder } from '@rldf/common/base/files';
import {
  listCheckpoints,
  loadCheckpoint,
  removeLeftovers,
  saveCheckpoint,
} from '@rldf/common/storage/checkpoint';
import {
  AdamW,
  autocast,
  clipGradNorm,
  ExponentialMovingAverage,
  grad,
  liveTensors,
  plateau,
  type StateTree,
  scope,
  type Tensor,
  UserError,
} from '@rldf/torch';
import { LossWatch, type Rise } from '../base/rising-loss.js';
import { MetricsWriter, truncateMetrics } from '../run/metrics.js';

export interface Trainee {
  parameters: readonly Tensor[];
  /** Factors on the learning rate, one for each parameter. Default: 1 for all. */
  rates?: readonly number[];
  /** The loss of update `step`, a scalar; its random choices depend on `step` alone, so that resuming repeats them. */
  loss(step: number): Tensor;
  /** Draws something to look at into `folder`; the averaged weights are in place. */
  sample?(step: number, folder: string): Promise<void>;
}

export interface FitOptions {
  /** The run's folder: metrics.jsonl, checkpoints/, samples/. An existing one is continued. */
  folder: string;
  /** Updates in all: the schedule ends there. */
  steps: number;
  /** Stop (with a checkpoint) after this many minutes, if not done before. */
  minutes?: number;
  learningRate: number;
  warmup?: number;
  /** Share of the updates, the last ones, over which the rate falls. Default 1: it falls from the warm-up on. */
  decay?: number;
  betas?: readonly [number, number];
  weightDecay?: number;
  maxGradNorm?: number;
  emaDecay?: number;
  /** Matrix products and convolutions in bfloat16: faster where the CPU has it; parameters stay float32. */
  precision?: 'float32' | 'bfloat16';
  /** Least time between two events; 0: one for each update. Default 1. */
  eventSeconds?: number;
  checkpointMinutes?: number;
  sampleMinutes?: number;
  /** Aborting stops with a checkpoint. */
  signal?: AbortSignal;
}

export interface FitEvent {
  step: number;
  steps: number;
  loss: number;
  gradNorm: number;
  learningRate: number;
  seconds: number;
  /** What its user should know, such as a loss that rises. */
  warning?: string;
}

const risen = ({ from, to }: Rise, updates: number, rate: number) =>
  `the loss rose over the last ${updates} updates, ${from.toPrecision(3)} -> ${to.toPrecision(3)} — a training's loss falls or stays. Lower the learning rate (now ${rate.toPrecision(2)}), or stop and look at what it is shown.`;

/** Trains until `steps`, `minutes` or the signal; yields an event every `eventSeconds`. The averaged weights are in `trainee.parameters` at the end. */
export async function* fitTrainee(trainee: Trainee, options: FitOptions): AsyncGenerator<FitEvent> {
  const { folder, steps, learningRate, warmup = 200, maxGradNorm = 1, precision = 'float32' } = options;
  const checkpoints = join(folder, 'checkpoints');
  makeFolder(checkpoints);
  removeLeftovers(checkpoints);
  const optimiser = new AdamW(trainee.parameters, {
    learningRate,
    betas: options.betas ?? [0.9, 0.99],
    weightDecay: options.weightDecay ?? 1e-3,
    ...(trainee.rates === undefined ? {} : { rates: trainee.rates }),
  });
  const average = new ExponentialMovingAverage(trainee.parameters, options.emaDecay ?? 0.999);
  const schedule = plateau(steps, { warmup, decay: options.decay ?? 1, floor: 0.02 });
  const state = (): StateTree => ({
    parameters: [...trainee.parameters],
    optimiser: optimiser.state(),
    average: average.state(),
  });

  let step = 0;
  if (listCheckpoints(checkpoints).length > 0) {
    const loaded = loadCheckpoint(checkpoints, { like: state() });
    const tree = loaded.state as { parameters: Tensor[]; optimiser: StateTree; average: StateTree };
    scope(() => {
      trainee.parameters.forEach((parameter, i) => {
        parameter.detach().copy_(tree.parameters[i] as Tensor);
      });
      optimiser.load(tree.optimiser);
      average.load(tree.average);
    });
    step = loaded.step;
  }

  const metricsFile = join(folder, 'metrics.jsonl');
  truncateMetrics(metricsFile, step); // what a crash had written behind the checkpoint comes again
  const metrics = new MetricsWriter(metricsFile);
  const started = Date.now();
  const minutesSince = (time: number) => (Date.now() - time) / 60_000;
  let lastCheckpoint = Date.now();
  let lastSample = Date.now();
  let lastEvent = 0;
  let savedStep = step;
  const watch = new LossWatch();
  const checkpoint = () => {
    saveCheckpoint(checkpoints, step, state(), { keep: 1 });
    lastCheckpoint = Date.now();
    savedStep = step;
  };
  const finish = () =>
    step >= steps ||
    options.signal?.aborted ||
    minutesSince(started) > (options.minutes ?? Number.POSITIVE_INFINITY);

  while (!finish()) {
    const rate = learningRate * schedule(step);
    const [loss, gradNorm] = scope(() => {
      const objective = autocast(precision, () => trainee.loss(step));
      const gradients = grad(objective, trainee.parameters);
      const norm = clipGradNorm(gradients, maxGradNorm);
      if (Number.isFinite(norm)) optimiser.step(gradients, rate);
      return [objective.item(), norm] as const;
    });
    if (!Number.isFinite(loss)) {
      throw new UserError(
        `pretrain ${folder}: the loss of update ${step} is ${loss} — lower the learning rate (${learningRate}) and start again from the last checkpoint.`,
      );
    }
    average.update();
    step++;
    const seconds = (Date.now() - started) / 1000;
    const rise = watch.seen(loss);
    const due = Date.now() - lastEvent >= 1000 * (options.eventSeconds ?? 1) || step === steps;
    if (due || rise !== undefined) {
      lastEvent = Date.now();
      const event = {
        ...{ step, steps, loss, gradNorm, learningRate: rate, seconds },
        ...(rise && { warning: risen(rise, watch.window, rate) }),
      };
      metrics.write({ ...event, liveTensors: liveTensors() });
      yield event;
    }
    if (minutesSince(lastCheckpoint) > (options.checkpointMinutes ?? 4) || finish()) checkpoint();
    if (trainee.sample && (minutesSince(lastSample) > (options.sampleMinutes ?? 5) || finish())) {
      const sample = trainee.sample;
      await average.withAveraged(() => sample(step, join(folder, 'samples')));
      lastSample = Date.now();
    }
    await nextTurn(); // where Ctrl-C is served
  }
  if (step > savedStep) checkpoint();
  metrics.close();
  scope(() => {
    trainee.parameters.forEach((parameter, i) => {
      parameter.detach().copy_(average.averaged[i] as Tensor);
    });
  });
  optimiser.free();
  average.free();
}
