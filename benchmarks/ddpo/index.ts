// An epoch of DDPO by the recipe emoji/compressibility beside TRL's DDPOTrainer: the same model, LoRA, steps, batches, reward and
// libtorch, float32, in turns. Before that, both evaluate one batch of trajectories, and must agree.
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { LoraTape, loadPipeline } from '@rldf/models';
import {
  free,
  noGrad,
  noiseKey,
  normal,
  readSafetensors,
  scope,
  type Tensor,
  UserError,
  writeSafetensors,
} from '@rldf/torch';
import { batchArithmetic, findModel, loadPrompts, loadRecipe, mean } from 'rldf';
import {
  createTrainables,
  type DdpoRecipe,
  elementsOf,
  importanceSamplingLoss,
  meanLogProb,
  policyMoments,
  policyScheduler,
  type Rollout,
  rolloutBatches,
  TextFeatures,
} from 'rldf/learning';
import { pythonEnvironment } from '../shared/environments.js';
import { flag, type OptionsOf, python } from '../shared/options.js';
import { type Answer, Peer } from '../shared/peer.js';
import { median, type Row, speedRatio } from '../shared/rows.js';

const file = fileURLToPath(new URL('../../recipes/emoji/compressibility.yaml', import.meta.url));
const epochs = 5;
/** How far log-probabilities and losses may be apart. */
const tolerance = 1e-4;

async function ask(peer: Peer, question: object): Promise<Answer> {
  const answer = await peer.ask({ ...question });
  if (answer.error !== undefined) throw new UserError(`bench: ${answer.error}`);
  return answer;
}

/** The recipe in TRL's words. */
function inTrlWords(recipe: DdpoRecipe, elements: number): object {
  const { sample, train } = recipe;
  const { picturesPerEpoch, picturesPerUpdate } = batchArithmetic(recipe);
  return {
    model: findModel(recipe.model).path,
    seed: recipe.seed,
    steps: sample.steps,
    eta: sample.eta,
    guidanceScale: sample.guidanceScale,
    sampleBatch: sample.batchSize,
    sampleBatches: picturesPerEpoch / sample.batchSize,
    trainBatch: train.batchSize,
    accumulation: picturesPerUpdate / train.batchSize,
    learningRate: train.learningRate,
    weightDecay: train.weightDecay,
    maxGradNorm: train.maxGradNorm,
    advantageClip: train.advantageClip,
    clipRange: train.clipMeanLogProb ?? (train.clipNats as number) / elements,
    timestepFraction: train.timestepFraction,
    innerEpochs: train.innerEpochs,
    ...train.promptStatistics,
    negativePrompt: recipe.negativePrompt,
    rank: train.rank,
    alpha: train.alpha ?? train.rank,
    targets: train.targets,
  };
}

async function drawOnce(
  pipeline: ReturnType<typeof loadPipeline>,
  recipe: DdpoRecipe,
  prompts: string[],
): Promise<Rollout> {
  const { sample, negativePrompt } = recipe;
  const guidance = Array<number>(sample.steps).fill(sample.guidanceScale);
  const behaviours = prompts.map((_, i) => ({ seed: 7, path: [i], guidance }));
  const drawing = rolloutBatches(pipeline, { ...sample, prompts, behaviours, negativePrompt });
  for (let next = await drawing.next(); ; next = await drawing.next())
    if (next.done) return next.value[0] as Rollout;
}

const worst = (ours: readonly number[], theirs: readonly number[]) =>
  Math.max(...ours.map((value, i) => Math.abs(value - (theirs[i] as number))));

/** Both sides' log-probabilities, losses and LoRA gradient of trajectories that the base model drew, with LoRA not zero. */
async function agreement(
  peer: Peer,
  peerName: string,
  threads: number,
  recipe: DdpoRecipe,
  folder: string,
): Promise<{ rows: Row[]; words: object }> {
  const pipeline = loadPipeline(findModel(recipe.model).path);
  const prompts = loadPrompts(recipe.prompts).map(({ text }) => text);
  const { trajectory, images } = await drawOnce(pipeline, recipe, prompts);
  images.free();
  const { sample, train } = recipe;
  const elements = elementsOf(trajectory.latents);
  const words = inTrlWords(recipe, elements) as { clipRange: number };
  const { adapters } = createTrainables(pipeline, { ...train, seed: 1 });
  const adapter = adapters.unet as NonNullable<typeof adapters.unet>;
  for (const [i, { branch }] of adapter.modules.entries())
    noGrad(() =>
      scope(() =>
        branch.up.copy_(
          normal([noiseKey(i, 'up')], branch.up.shape)
            .squeeze(0)
            .mul(3e-3),
        ),
      ),
    );
  const advantages = normal([noiseKey(0, 'advantages')], [prompts.length]).squeeze(0);
  const lora = join(folder, 'lora.safetensors');
  const batch = join(folder, 'batch.safetensors');
  writeSafetensors(lora, adapter.state());
  writeSafetensors(
    batch,
    new Map([
      ['latents', trajectory.latents],
      ['logProbs', trajectory.logProbs.to('float32')],
      ['advantages', advantages],
    ]),
  );
  await ask(peer, { ask: 'prepare', threads, ...words });
  const { timesteps } = trajectory;
  const answer = await ask(peer, { ask: 'evaluate', lora, batch, prompts, timesteps });

  adapter.merge();
  const scheduler = policyScheduler(pipeline, sample.steps, sample.eta);
  const [network, behind] = [new LoraTape(adapter), new LoraTape(adapter)];
  const text = new TextFeatures(pipeline, [recipe.negativePrompt, ...prompts], { network: behind });
  const logProbs: number[] = [];
  const losses: number[] = [];
  const sums = adapter.parameters().map(() => undefined as Tensor | undefined);
  const add = (gradients: readonly (Tensor | undefined)[]) => {
    for (const [i, gradient] of gradients.entries())
      if (gradient !== undefined) sums[i] = sums[i]?.add(gradient) ?? gradient;
  };
  for (let step = 0; step < sample.steps; step++) {
    const logProb = network.record(() => {
      const current = trajectory.latents.select(0, step);
      const { mean: centre, std } = policyMoments(
        pipeline,
        scheduler,
        current,
        step,
        text.guided(recipe.negativePrompt, prompts),
        trajectory.behaviours,
        sample.eta,
      );
      return meanLogProb(trajectory.latents.select(0, step + 1), centre, std);
    });
    const before = trajectory.logProbs.select(0, step);
    const loss = importanceSamplingLoss(logProb, before, advantages.to('float64'), words.clipRange).mean();
    const { parameters, inputs } = network.grad(loss, text.leaves);
    network.clear();
    add(parameters);
    text.gather(inputs);
    logProbs.push(...logProb.detach().toNumbers());
    losses.push(loss.item());
  }
  add(text.backward().network);
  const theirs = readSafetensors(answer.gradient as string).tensors;
  const names = [...adapter.state().keys()];
  const total = (tensors: readonly Tensor[]) => Math.hypot(...tensors.map((tensor) => tensor.norm().item()));
  const mine = sums as Tensor[];
  const other = names.map((name) => theirs.get(name) as Tensor);
  const norms = [total(mine), total(other)] as const;
  const apart = total(mine.map((sum, i) => sum.sub(other[i] as Tensor))) / norms[0];
  text.free();
  network.free();
  adapter.remove();
  free([trajectory.latents, trajectory.logProbs]);
  for (const parameters of Object.values(pipeline.parameters)) parameters.free();

  const theirLogProbs = (answer.logProbs as number[][]).flat();
  const theirLosses = answer.losses as number[];
  const row = (name: string, unit: string, ours: number, theirOwn: number, difference: number): Row => ({
    case: name,
    ours,
    peer: theirOwn,
    peerName,
    unit,
    ratio: null,
    difference,
  });
  const rows = [
    row(
      'agreement: log-probability',
      'nats/element',
      mean(logProbs),
      mean(theirLogProbs),
      worst(logProbs, theirLogProbs),
    ),
    row('agreement: loss', '', mean(losses), mean(theirLosses), worst(losses, theirLosses)),
  ];
  for (const { case: name, difference } of rows) {
    if ((difference as number) <= tolerance) continue;
    throw new Error(`bench: ${name} differs by ${difference} — the two sides compute different things.`);
  }
  rows.push(row('agreement: norm of the gradient', '', ...norms, apart));
  return { rows, words };
}

const parts = [
  ['sampling', 'sampling: text, denoising, decoding'],
  ['update', 'update: scoring, log-probabilities, gradients, optimiser'],
  ['epoch', 'whole epoch'],
] as const;

export const options = { python, page: flag('writes the section of docs/performance.md') };

export async function run({ python: given, say }: OptionsOf<typeof options>): Promise<Row[]> {
  const python = pythonEnvironment('trl', { python: given, say });
  const recipe = loadRecipe(file) as DdpoRecipe;
  const folder = mkdtempSync(join(tmpdir(), 'rldf-bench-'));
  const ours = new Peer(process.execPath, '../ddpo/ours.ts', process.execArgv);
  const theirs = new Peer(python, 'ddpo_peer.py');
  const judge = new Peer(python, 'ddpo_peer.py'); // of its own: what it needs is not TRL's memory of training
  try {
    const { threads, trl } = await ask(theirs, { ask: 'hello' });
    const peerName = `TRL ${trl}`;
    say('bench: both sides on one batch of trajectories');
    const { rows, words } = await agreement(judge, peerName, threads as number, recipe, folder);
    judge.end();
    await ask(ours, { ask: 'prepare', recipe: file, threads });
    await ask(theirs, { ask: 'prepare', threads, ...words });
    const { picturesPerPrompt } = recipe.sample;
    const prompts = loadPrompts(recipe.prompts).flatMap(({ text }) =>
      Array<string>(picturesPerPrompt).fill(text),
    );
    const seconds: Record<string, [ours: number[], theirs: number[]]> = {};
    for (let i = -1; i < epochs; i++) {
      const both = [await ask(ours, { ask: 'epoch' }), await ask(theirs, { ask: 'epoch', prompts })];
      const said = both.map(
        (answer) => `${(answer.sampling as number).toFixed(2)} + ${(answer.update as number).toFixed(2)}`,
      );
      say(`bench: epoch ${i + 2} of ${epochs + 1}: ours ${said[0]} s, ${peerName} ${said[1]} s`);
      if (i < 0) continue; // both warm
      for (const [part] of parts) {
        seconds[part] ??= [[], []];
        for (const side of [0, 1] as const) seconds[part][side].push(both[side]?.[part] as number);
      }
    }
    for (const [part, title] of parts) {
      const [mine, other] = seconds[part] as [number[], number[]];
      const perSecond = (list: readonly number[]) => prompts.length / median(list);
      rows.push({
        case: title,
        ours: perSecond(mine),
        peer: perSecond(other),
        peerName,
        unit: 'pictures/s',
        ...speedRatio(mine, other),
      });
    }
    const [mine, other] = [await ask(ours, { ask: 'memory' }), await ask(theirs, { ask: 'memory' })].map(
      ({ peak }) => (peak as number) / 2 ** 20,
    ) as [number, number];
    rows.push({ case: 'peak memory', ours: mine, peer: other, peerName, unit: 'MiB', ratio: other / mine });
    return rows;
  } finally {
    for (const peer of [ours, theirs, judge]) peer.end();
    rmSync(folder, { recursive: true, force: true });
  }
}
