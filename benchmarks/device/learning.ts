// Learning on the device beside the CPU: whole runs of every method, resumption, and gradients of two losses.
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type Behaviour, encodePrompts, type Pipeline } from '@rldf/models';
import {
  type Device,
  free,
  GradientAccumulator,
  keep,
  noGrad,
  noiseKey,
  normal,
  readSafetensors,
  scope,
  type Tensor,
  tensor,
} from '@rldf/torch';
import { loadReward, openRun, readMetrics, train } from 'rldf';
import {
  createTrainables,
  DifferentiableSampler,
  guidedConditioning,
  importanceSamplingLoss,
  lastSteps,
  meanLogProb,
  networkGradient,
  policyMoments,
  policyScheduler,
  rewardGradient,
  rolloutBatches,
} from 'rldf/learning';
import { drain, minimalRecipe, saveTinyModel, verifyResume } from 'rldf/testing';
import { deviceRecipe } from '../../test/device-recipes.fixture.js';
import { animals, loadEmoji, unload } from './drawing.js';
import { type CheckOptions, differences, type Found, finish, numbersOf } from './row.js';

async function inFolder<T>(use: (folder: string) => Promise<T>): Promise<T> {
  const folder = mkdtempSync(join(tmpdir(), 'rldf-device-'));
  try {
    return await use(folder);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

/** A whole run of a method on the tiny model, on the CPU and on the device. */
export async function* method(name: string, { device }: CheckOptions): Found {
  const values = await inFolder(async (root) => {
    const model = saveTinyModel(join(root, 'model'));
    const run = async (place: Device, called: string) => {
      const started = performance.now();
      const events = await drain(train(deviceRecipe(name, model, place), { name: called, root }));
      const last = events.at(-1);
      if (last?.kind !== 'finished') throw new Error(`ended with ${last?.kind}`);
      const seconds = (performance.now() - started) / 1000;
      const file = last.adapters.find((path) => path.endsWith('.safetensors'));
      if (file === undefined) throw new Error(`exported ${last.adapters.join(', ') || 'nothing'}`);
      const adapter = scope(() => numbersOf([...readSafetensors(file).tensors.values()]));
      const ratio = readMetrics(openRun(called, root).metricsPath).at(-1)?.['policy/firstRatioError'];
      return { seconds, adapter, ratio };
    };
    const [here, there] = [await run('cpu', 'here'), await run(device, 'there')];
    const { relative, largest } = differences(there.adapter, here.adapter);
    return {
      'ratio − 1 at the first update': typeof there.ratio === 'number' ? there.ratio : '',
      'adapter, relative': relative,
      'adapter, largest': largest,
      seconds: there.seconds,
      'seconds on the CPU': here.seconds,
    };
  });
  yield { what: name, values };
}

/** Killed and resumed, against straight. */
export async function* resumed({ device, smoke }: CheckOptions): Found {
  for (const name of smoke ? ['ddpo'] : ['ddpo', 'alignprop', 'raft']) {
    try {
      const { equal, comparisons } = await inFolder((folder) => {
        const model = saveTinyModel(join(folder, 'model'));
        return verifyResume(minimalRecipe(name, { model, device }), {
          steps: smoke ? 2 : 4,
          at: smoke ? 1 : 2,
          quiet: true,
        });
      });
      const parted = comparisons.filter((one) => !one.equal);
      yield {
        what: name,
        values: {
          'equal files': `${comparisons.length - parted.length} of ${comparisons.length}`,
          'first difference': equal ? 'none' : (parted[0]?.difference ?? 'unknown'),
        },
      };
    } catch (error) {
      yield { what: name, values: {}, problem: (error as Error).stack ?? String(error) };
    }
  }
}

interface Adapted {
  pipeline: Pipeline;
  parameters: Tensor[];
}

/** The shipped model with an adapter whose both halves have gradients. */
function adapted(device: Device): Adapted {
  const pipeline = loadEmoji(device);
  const { unet: parameters } = createTrainables(pipeline, {
    unet: 'lora',
    textEncoder: 'none',
    rank: 4,
    seed: 0,
  });
  noGrad(() =>
    scope(() => {
      for (const [i, parameter] of parameters.entries()) {
        const noise = normal([noiseKey(0, 'adapter', i)], parameter.shape, { device }).squeeze(0);
        parameter.detach().add_(noise, 0.02);
      }
    }),
  );
  return { pipeline, parameters };
}

/** Gradients of the shipped model's adapter: DDPO's of pictures drawn on the CPU, AlignProp's of pictures drawn where it is. */
export async function* gradients({ device, smoke }: CheckOptions): Found {
  const count = smoke ? 2 : 8;
  const steps = smoke ? 2 : 6;
  const prompts = animals(count);
  const behaviours: Behaviour[] = prompts.map((_, i) => ({
    seed: 0,
    path: [i],
    guidance: Array<number>(steps).fill(3),
  }));
  const [here, there] = [adapted('cpu'), adapted(device)];
  const options = { prompts, behaviours, negativePrompt: '', batchSize: count, steps, eta: 1 };
  const [drawn] = await finish(rolloutBatches(here.pipeline, options));
  const { latents, logProbs } = (drawn as NonNullable<typeof drawn>).trajectory;

  const ddpo = (on: Adapted, place: Device) =>
    scope(() => {
      const { pipeline, parameters } = on;
      const scheduler = policyScheduler(pipeline, steps, 1);
      const [path, old] = [latents.to(place), logProbs.to(place)];
      const advantage = tensor(
        prompts.map((_, i) => (i % 2 === 0 ? 1 : -0.7)),
        { dtype: 'float64', device: place },
      );
      const text = guidedConditioning(encodePrompts(pipeline, ['']), encodePrompts(pipeline, prompts));
      const sums = parameters.map((parameter) => parameter.detach().mul(0));
      let ratio = 0;
      for (let step = 0; step < steps; step++) {
        const found = scope(() => {
          const { mean, std } = policyMoments(
            pipeline,
            scheduler,
            path.select(0, step),
            step,
            text,
            behaviours,
            1,
          );
          const logProb = meanLogProb(path.select(0, step + 1), mean, std);
          const loss = importanceSamplingLoss(logProb, old.select(0, step), advantage, 1).sum();
          ratio = Math.max(ratio, ...logProb.detach().sub(old.select(0, step)).toNumbers().map(Math.abs));
          return networkGradient(parameters).grad(loss, []).parameters as Tensor[];
        });
        for (const [i, gradient] of found.entries()) sums[i]?.add_(gradient);
      }
      return { gradient: numbersOf(sums), ratio };
    });
  const [wanted, found] = [ddpo(here, 'cpu'), ddpo(there, device)];
  const columns = (a: number[], b: number[]) => {
    const { relative, largest } = differences(a, b);
    return { 'gradient, relative': relative, 'gradient, largest': largest };
  };
  const far = (a: number[], b: number[]) =>
    differences(a, b).relative > 0.05 ? { problem: 'further than 5 % from the CPU' } : {};
  yield {
    what: `DDPO, ${count} pictures, ${steps} steps`,
    values: {
      ...columns(found.gradient, wanted.gradient),
      'log-ratio to the policy on the CPU, largest': found.ratio,
    },
    ...far(found.gradient, wanted.gradient),
  };
  yield {
    what: 'DDPO, again on the device',
    values: columns(ddpo(there, device).gradient, found.gradient),
  };

  const alignprop = async ({ pipeline, parameters }: Adapted, place: Device) => {
    const reward = await loadReward('aesthetic', place);
    const rewards = reward.differentiable?.bind(reward);
    if (rewards === undefined) throw new Error('aesthetic has no gradient');
    const text = noGrad(() =>
      keep(
        scope(
          () =>
            guidedConditioning(encodePrompts(pipeline, ['']), encodePrompts(pipeline, prompts)).hiddenStates,
        ),
      ),
    );
    const sampler = new DifferentiableSampler(pipeline, {
      conditioning: () => ({ hiddenStates: text }),
      behaviours,
      steps,
      eta: 1,
    });
    const followed = prompts.map(() => lastSteps(steps, Math.ceil(steps / 2)));
    const sample = await finish(sampler.sample(followed));
    const loss = (r: Tensor) => r.neg();
    const judged = rewardGradient(
      { pipeline, recipe: { method: 'alignprop' } },
      sample.latents,
      prompts,
      rewards,
      loss,
      1 / count,
    );
    const sums = new GradientAccumulator(parameters);
    const passes = {
      record: <T>(fn: () => T) => fn(),
      backward(outputs: Tensor, { gradOutput, input }: { gradOutput: Tensor; input?: Tensor }) {
        const options = { gradOutputs: [gradOutput] };
        const found = networkGradient(parameters).grad(outputs, input ? [input] : [], options);
        sums.add(found.parameters);
        return found.inputs[0];
      },
    };
    await finish(sample.backward(judged.gradient, passes));
    const gradient = sums.take(numbersOf);
    sample.free();
    sums.free();
    free([judged.gradient, judged.images, text]);
    return { gradient, rewards: judged.rewards };
  };
  const [reference, ours] = [await alignprop(here, 'cpu'), await alignprop(there, device)];
  yield {
    what: `AlignProp, aesthetic, ${count} pictures, the last ${Math.ceil(steps / 2)} of ${steps} steps`,
    values: {
      ...columns(ours.gradient, reference.gradient),
      'reward, largest difference': differences(ours.rewards, reference.rewards).largest,
    },
    ...far(ours.gradient, reference.gradient),
  };
  yield {
    what: 'AlignProp, again on the device',
    values: columns((await alignprop(there, device)).gradient, ours.gradient),
  };
  free(drawn);
  for (const { pipeline } of [here, there]) unload(pipeline);
}
