import {
  type Conditioning,
  DDIMScheduler,
  encodePrompts,
  LoraAdapter,
  latentShape,
  type Pipeline,
  predictGuided,
  selectRows,
  tinyPipeline,
  UNET_ATTENTION,
  UNet2DConditionModel,
} from '@rldf/models';
import {
  allocatedBytes,
  free,
  grad,
  gradOrUndefined,
  keep,
  liveTensors,
  noGrad,
  noiseKey,
  normal,
  Parameters,
  peakBytes,
  resetPeakBytes,
  scope,
  setThreads,
  type Tensor,
  tensor,
  zeros,
} from '@rldf/torch';
import { afterEach, beforeEach, expect, test } from 'vitest';
import {
  DifferentiableSampler,
  type Drawing,
  type GradientPasses,
  lastSteps,
} from './differentiable-sampling.js';
import { type NetworkGradient, networkGradient } from './network-gradient.js';
import { guidedConditioning, rollout } from './rollout.js';

setThreads(1);

const prompts = ['a cat', 'a dog'];
let before = 0;
let pipeline: Pipeline;
let text: Tensor; // [2B, L, D]
let adapter: LoraAdapter;
let parameters: Tensor[];

/** The tiny pipeline with a U-Net in float64 and an adapter whose both halves are random. */
beforeEach(() => {
  before = liveTensors();
  const tiny = tinyPipeline(3);
  tiny.parameters.unet.free();
  const unet = Parameters.random(3, { dtype: 'float64' });
  pipeline = {
    ...tiny,
    unet: new UNet2DConditionModel(tiny.unet.config, unet.at()),
    parameters: { ...tiny.parameters, unet },
  };
  adapter = LoraAdapter.attach(unet, { rank: 2, targets: UNET_ATTENTION, seed: 1 });
  noGrad(() =>
    scope(() => {
      adapter.parameters().forEach((p, i) => {
        p.copy_(
          normal([noiseKey(i, 'weights')], p.shape, { dtype: 'float64' })
            .select(0, 0)
            .mul(0.3),
        );
      });
    }),
  );
  parameters = adapter.trainable();
  text = noGrad(() =>
    scope(() => {
      const [negative, positive] = [encodePrompts(pipeline, ['']), encodePrompts(pipeline, prompts)];
      return guidedConditioning(negative, positive).hiddenStates.to('float64');
    }),
  );
});

afterEach(({ task }) => {
  adapter.remove();
  for (const weights of Object.values(pipeline.parameters)) weights.free();
  text.free();
  if (task.result?.state !== 'fail') expect(liveTensors()).toBe(before);
});

async function finish<T>(generator: AsyncGenerator<unknown, T>): Promise<T> {
  for (let next = await generator.next(); ; next = await generator.next()) if (next.done) return next.value;
}

/** Rows of the text: unconditional ones first. */
const conditioning = (pictures: readonly number[]): Conditioning => {
  const rows = [...pictures, ...pictures.map((picture) => prompts.length + picture)];
  return selectRows({ hiddenStates: text }, tensor(rows, { dtype: 'int64' }));
};

const drawingOf = (steps: number, eta: number): Drawing => ({
  conditioning,
  behaviours: prompts.map((_, i) => ({ seed: 4, path: [i], guidance: Array<number>(steps).fill(2.5) })),
  steps,
  eta,
  dtype: 'float64',
});

/** A reward that is not linear in the latents, and its gradient. */
const rewardOf = (latents: Tensor) => latents.sin().add(latents.square().mul(0.1)).sum();

interface Found {
  reward: number;
  /** By the adapter, then by the text. */
  values: number[][];
}

/** Steps that are followed, one set a picture. */
type Followed = readonly ReadonlySet<number>[];

const lastOf = (steps: number, count: number): Followed => prompts.map(() => lastSteps(steps, count));

/** As the product does it: each step again, with the adapter in the graph or merged into the weights. */
async function checkpointed(drawing: Drawing, followed: Followed, merged = false): Promise<Found> {
  if (merged) adapter.merge();
  const network = networkGradient(parameters, merged ? adapter : undefined);
  const targets = [...parameters, text];
  const sums = noGrad(() => targets.map(({ shape }) => keep(zeros(shape, { dtype: 'float64' }))));
  const sampler = new DifferentiableSampler(pipeline, drawing);
  const sample = await finish(sampler.sample(followed));
  const leaf = sample.latents.detach().requiresGrad_();
  const [gradient, reward] = scope(() => {
    const loss = rewardOf(leaf);
    return [...grad(loss, [leaf]), loss.detach()];
  }) as [Tensor, Tensor];
  await finish(
    sample.backward(
      gradient,
      passesOf(network, (own) => {
        for (const [i, found] of own.entries()) if (found) sums[i]?.add_(found);
      }),
    ),
  );
  const result = { reward: reward.item(), values: sums.map((sum) => sum.toNumbers()) };
  free([sums, leaf, gradient, reward]);
  sample.free();
  network.free();
  if (merged) adapter.unmerge();
  return result;
}

/** Hands over the gradients of each step that is followed: by the network's parameters, then by the text. */
function passesOf(
  network: NetworkGradient,
  receive: (gradients: (Tensor | undefined)[]) => void,
): GradientPasses {
  return {
    record: (fn) => network.record(fn),
    backward(outputs, { gradOutput, input }) {
      const inputs = input === undefined ? [text] : [text, input];
      const found = network.grad(outputs, inputs, { gradOutputs: [gradOutput] });
      network.clear();
      noGrad(() => receive([...found.parameters, found.inputs[0]]));
      return found.inputs[1];
    },
  };
}

/** The reference: one graph of all steps. The network's prediction is cut off where a picture is not followed. */
function plain(drawing: Drawing, followed: Followed): Found {
  const { behaviours, steps, eta } = drawing;
  const scheduler = new DDIMScheduler(pipeline.schedulerConfig);
  scheduler.setTimesteps(steps);
  const noise = (purpose: string, ...path: number[]) =>
    normal(
      behaviours.map((b) => noiseKey(b.seed, purpose, ...b.path, ...path)),
      latentShape(pipeline),
      { dtype: 'float64' },
    );
  const targets = [...parameters, text];
  return scope(() => {
    let latents = noise('rollout start');
    for (let step = 0; step < steps; step++) {
      const live = tensor(
        followed.map((set) => Number(set.has(step))),
        { shape: [prompts.length, 1, 1, 1], dtype: 'float64' },
      );
      const timestep = scheduler.timesteps[step] as number;
      const given = latents;
      const prediction = predictGuided(
        pipeline.unet,
        given.mul(live).add(given.detach().mul(live.neg().add(1))),
        timestep,
        conditioning([...prompts.keys()]),
        2.5,
      );
      const cut = prediction.mul(live).add(prediction.detach().mul(live.neg().add(1)));
      const { mean, std } = scheduler.moments(cut, step, given, eta);
      latents = std === 0 ? mean : mean.add(noise('rollout step', step).mul(std));
    }
    const reward = rewardOf(latents);
    const found = gradOrUndefined(reward, targets);
    return {
      reward: reward.item(),
      values: targets.map((t, i) => found[i]?.toNumbers() ?? Array<number>(t.numel).fill(0)),
    };
  });
}

/** Largest difference, relative to the largest value. */
function apart(a: readonly number[][], b: readonly number[][]): number {
  const [x, y] = [a.flat(), b.flat()];
  expect(x.length).toBe(y.length);
  return Math.max(...x.map((value, i) => Math.abs(value - y[i]!))) / Math.max(...y.map(Math.abs));
}

test.each([
  ['K 1 of 4', 4, 0, lastOf(4, 1)],
  ['K 3 of 4, noise', 4, 1, lastOf(4, 3)],
  ['K = T', 4, 0.5, lastOf(4, 4)],
  ['another K for each picture', 4, 1, [lastSteps(4, 1), lastSteps(4, 3)]],
  ['steps here and there', 4, 1, [new Set([0, 2]), new Set([1])]],
  ['one picture not at all', 3, 0, [new Set<number>(), lastSteps(3, 2)]],
] as const)('%s: checkpointed equals plain back-propagation', async (_, steps, eta, followed) => {
  text.requiresGrad_();
  const drawing = drawingOf(steps, eta);
  const expected = plain(drawing, followed);
  expect(Math.max(...expected.values.flat().map(Math.abs))).toBeGreaterThan(1e-3);
  for (const merged of [false, true]) {
    const found = await checkpointed(drawing, followed, merged);
    expect(found.reward).toBeCloseTo(expected.reward, 10);
    expect(apart(found.values, expected.values)).toBeLessThan(1e-11);
  }
});

test('fewer steps give another gradient: the window is not ignored', async () => {
  text.requiresGrad_();
  const drawing = drawingOf(4, 0);
  const [one, all] = [await checkpointed(drawing, lastOf(4, 1)), await checkpointed(drawing, lastOf(4, 4))];
  expect(one.reward).toBe(all.reward);
  expect(apart(one.values, all.values)).toBeGreaterThan(0.01);
});

/**
 * dr/dh along random directions of the parameters, by Richardson's differences, beside what was found.
 *
 * The bound of 1e-6 follows from the step h and float64. Cut-off: the differences' error is of fourth order in h, and at
 * this h below 2.1e-7 of the most curved derivative here, on every processor. Rounding: a reward R carries a few eps |R|,
 * of which the differences make 1.5 / h. The flattest derivative, 4.1e-4 at R = 406, gets 1.7e-7 of itself per eps |R|:
 * the bound has room for five, and the sums need about one. A step of 1e-4 would have room for a third of one.
 */
async function directions(values: readonly number[][], reward: () => Promise<number>): Promise<void> {
  const targets = [...parameters, text];
  const step = 2e-3;
  // one random direction in each of a few tensors, and in all together
  for (const [which, chosen] of [[0], [1], [targets.length - 1], [...targets.keys()]].entries()) {
    const along = noGrad(() =>
      targets.map((p, i) =>
        chosen.includes(i)
          ? scope(() => normal([noiseKey(which, 'direction', i)], p.shape, { dtype: 'float64' }).squeeze(0))
          : undefined,
      ),
    );
    const move = (by: number) =>
      noGrad(() => {
        for (const [i, d] of along.entries()) if (d) targets[i]?.add_(d, by);
      });
    const rewardAt = async (by: number) => {
      move(by);
      const found = await reward();
      move(-by);
      return found;
    };
    // the error of central differences is of second order; of this, of fourth
    const central = async (h: number) => ((await rewardAt(h)) - (await rewardAt(-h))) / (2 * h);
    const numeric = (4 * (await central(step)) - (await central(2 * step))) / 3;
    const analytic = along.reduce(
      (sum, d, i) => sum + (d ? d.toNumbers().reduce((s, x, j) => s + x * values[i]![j]!, 0) : 0),
      0,
    );
    expect(Math.abs(analytic - numeric) / Math.abs(analytic)).toBeLessThan(1e-6);
    free(along);
  }
}

test('K = T is the derivative of the whole sampler: finite differences agree to 1e-6', async () => {
  text.requiresGrad_();
  const drawing = drawingOf(3, 1);
  const { values } = await checkpointed(drawing, lastOf(3, 3));
  await directions(values, async () => {
    const latents = await finish(new DifferentiableSampler(pipeline, drawing).draw());
    const reward = noGrad(() => scope(() => rewardOf(latents).item()));
    latents.free();
    return reward;
  });
});

test('the prediction of one late step, and its derivative', async () => {
  text.requiresGrad_();
  const drawing = drawingOf(4, 1);
  const sampler = new DifferentiableSampler(pipeline, drawing);
  const start = await finish(sampler.draw(3));
  const targets = [...parameters, text];
  const predicted = sampler.prediction(
    noGrad(() => start.clone()),
    3,
  );
  const leaf = predicted.latents.detach().requiresGrad_();
  const [gradient] = scope(() => grad(rewardOf(leaf), [leaf])) as [Tensor];
  const values: number[][] = [];
  await finish(
    predicted.backward(
      gradient,
      passesOf(networkGradient(parameters), (own) => {
        values.push(...own.map((t, i) => t?.toNumbers() ?? Array(targets[i]?.numel).fill(0)));
      }),
    ),
  );
  predicted.free();
  free([leaf, gradient]);
  await directions(values, async () => {
    const again = sampler.prediction(
      noGrad(() => start.clone()),
      3,
    );
    const reward = noGrad(() => scope(() => rewardOf(again.latents).item()));
    again.free();
    return reward;
  });
  start.free();
});

test('memory is that of one step, however many there are', async () => {
  text.requiresGrad_();
  const peak = async (steps: number) => {
    const start = allocatedBytes();
    resetPeakBytes();
    await checkpointed(drawingOf(steps, 1), lastOf(steps, steps));
    return peakBytes() - start;
  };
  const plainPeak = (steps: number) => {
    const start = allocatedBytes();
    resetPeakBytes();
    plain(drawingOf(steps, 1), lastOf(steps, steps));
    return peakBytes() - start;
  };
  const [few, many] = [await peak(4), await peak(16)];
  expect(many / few).toBeLessThan(1.1);
  expect(plainPeak(16)).toBeGreaterThan(3 * plainPeak(4));
  expect(plainPeak(16)).toBeGreaterThan(5 * many);
});

test('pictures are those of the rollout with the same noise, whatever the window', async () => {
  const pictures = await Promise.all(
    [1, 3].map(async (count) => {
      const sample = await finish(
        new DifferentiableSampler(pipeline, drawingOf(3, 1)).sample(lastOf(3, count)),
      );
      const values = sample.latents.toNumbers();
      sample.free();
      return values;
    }),
  );
  expect(pictures[0]).toEqual(pictures[1]);
  const tiny = tinyPipeline(3);
  const plainText = noGrad(() =>
    keep(scope(() => guidedConditioning(encodePrompts(tiny, ['']), encodePrompts(tiny, prompts)))),
  );
  const drawing: Drawing = {
    ...drawingOf(3, 1),
    dtype: 'float32',
    conditioning: () => plainText,
  };
  const drawn = await finish(
    rollout(tiny, { conditioning: plainText, behaviours: drawing.behaviours, steps: 3, eta: 1 }),
  );
  const again = await finish(new DifferentiableSampler(tiny, drawing).draw());
  const last = noGrad(() => scope(() => drawn.trajectory.latents.select(0, 3).toNumbers()));
  expect(again.toNumbers()).toEqual(last);
  free([plainText, drawn, again]);
  for (const weights of Object.values(tiny.parameters)) weights.free();
});

test('leaving in the middle frees everything', async () => {
  const tensors = liveTensors();
  for (let turns = 1; turns <= 6; turns++) {
    const sampling = new DifferentiableSampler(pipeline, drawingOf(4, 1)).sample(lastOf(4, 2));
    let next = await sampling.next();
    for (let turn = 1; turn < turns && !next.done; turn++) next = await sampling.next();
    if (next.done) next.value.free();
    else await sampling.return(undefined as never);
  }
  expect(liveTensors()).toBe(tensors);
});

test('a prediction that fails frees the latents that were given away', async () => {
  const tensors = liveTensors();
  const sampler = new DifferentiableSampler(pipeline, drawingOf(4, 1));
  const latents = await finish(sampler.draw(3));
  const broken = new DifferentiableSampler(pipeline, {
    ...drawingOf(4, 1),
    conditioning() {
      throw new Error('no text');
    },
  });
  expect(() => broken.prediction(latents, 3)).toThrow('no text');
  expect(liveTensors()).toBe(tensors);
});
