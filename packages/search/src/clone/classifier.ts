/** A standard ResNet-18 learns the classes of a picture set, as in table 2 of the RLDF paper. */

import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { fileOperation, makeFolder, remove, renameDurably } from '@rldf/common/base/files';
import {
  listCheckpoints,
  loadCheckpoint,
  removeLeftovers,
  saveCheckpoint,
} from '@rldf/common/storage/checkpoint';
import { learnedParameters, ResNet18 } from '@rldf/models';
import {
  AdamW,
  autocast,
  cosine,
  type Device,
  F,
  grad,
  noGrad,
  noiseKey,
  Parameters,
  Random,
  readSafetensors,
  type StateTree,
  scope,
  type Tensor,
  tensor,
  writeSafetensors,
} from '@rldf/torch';
import { UserError } from '@rldf/torch/errors';
import { imagesOf, type LabelledSet } from './labelled-set.js';

/** What decides the result, beside the pictures. */
export interface Recipe {
  epochs: number;
  batchSize: number;
  /** At the top of a cosine with a warm-up of a twentieth; AdamW. */
  learningRate: number;
  weightDecay: number;
  precision: 'float32' | 'bfloat16';
  /** Channels of the first stage; 64 is ResNet-18. */
  width: number;
}

export const defaultRecipe: Recipe = {
  epochs: 8,
  batchSize: 32,
  learningRate: 1e-3,
  weightDecay: 0.05,
  precision: 'float32',
  width: 64,
};

export interface TrainClassifierOptions {
  recipe: Recipe;
  seed: number;
  /** `classifier.safetensors` at the end; checkpoints on the way, from which a stopped training goes on. */
  folder: string;
  device?: Device;
  checkpointMinutes?: number;
  signal?: AbortSignal;
  onProgress?: (progress: ClassifierProgress) => void;
}

export interface ClassifierProgress {
  step: number;
  steps: number;
  loss: number;
  /** Pictures a second, as measured in this process. */
  picturesPerSecond: number;
}

/** As torchvision's reference training shifts and scales its inputs, by channel of [0, 1]. */
const MEAN = [0.485, 0.456, 0.406];
const DEVIATION = [0.229, 0.224, 0.225];
const WARMUP = 0.05;
/** Crops move by up to this share of the edge. */
const SHIFT = 1 / 8;
const TEST_BATCH = 128;

export class Classifier {
  readonly parameters: Parameters;
  /** All but the running statistics. */
  readonly learned: readonly Tensor[];
  readonly #network: ResNet18;

  constructor(parameters: Parameters, classes: number, width: number) {
    this.parameters = parameters;
    this.#network = new ResNet18(parameters.at(), { classes, width });
    this.learned = learnedParameters(parameters);
  }

  static load(file: string, classes: number, width: number, device: Device = 'cpu'): Classifier {
    const { tensors } = readSafetensors(file);
    const parameters = Parameters.from(tensors, { dtype: 'float32', device, where: file });
    const classifier = new Classifier(parameters, classes, width);
    parameters.assertAllUsed();
    return classifier;
  }

  /** @param images uint8 [B, H, W, 3], on any device @returns logits [B, classes], where the weights lie */
  forward(images: Tensor, training: boolean): Tensor {
    return scope(() => {
      const { device } = this.learned[0]!;
      const [mean, deviation] = [MEAN, DEVIATION].map((one) => tensor(one, { device }).mul(255));
      // [B, H, W, 3], channels last in memory too
      const normal = images.to(device).to('float32').sub(mean!).div(deviation!);
      return this.#network.forward(normal.permute([0, 3, 1, 2]), { training });
    });
  }

  /** How many pictures of a set are given their own class (top 1). */
  correct(set: LabelledSet): number {
    let right = 0;
    for (let start = 0; start < set.labels.length; start += TEST_BATCH) {
      const count = Math.min(TEST_BATCH, set.labels.length - start);
      const best = noGrad(() =>
        scope(() =>
          this.forward(imagesOf(set, start, count), false)
            .argmax(1)
            .toNumbers(),
        ),
      );
      right += best.filter((label, i) => label === set.labels[start + i]).length;
    }
    return right;
  }

  free(): void {
    this.parameters.free();
  }
}

/**
 * Trains, or goes on where a stopped training was, or loads what is finished. Weights, order and crops depend on the seed
 * alone. Pictures are mirrored and moved (edges repeated): a class is an object, which has neither side nor place.
 * @throws UserError when the loss is no number; the signal's reason when aborted, with a checkpoint written
 */
export async function trainClassifier(
  set: LabelledSet,
  options: TrainClassifierOptions,
): Promise<{ classifier: Classifier; loss: number | null }> {
  const { recipe, seed, folder, device = 'cpu', signal, onProgress, checkpointMinutes = 4 } = options;
  const { classes, labels } = set;
  const file = join(folder, 'classifier.safetensors');
  if (existsSync(file))
    return { classifier: Classifier.load(file, classes.length, recipe.width, device), loss: null };
  const checkpoints = join(folder, 'checkpoints');
  makeFolder(checkpoints);
  removeLeftovers(checkpoints);

  const parameters = Parameters.random(seed, { device });
  const classifier = new Classifier(parameters, classes.length, recipe.width);
  const { learned } = classifier;
  for (const parameter of learned) parameter.requiresGrad_();
  const optimiser = new AdamW(learned, recipe);
  const batchSize = Math.min(recipe.batchSize, labels.length);
  const perEpoch = Math.floor(labels.length / batchSize);
  const steps = recipe.epochs * perEpoch;
  const schedule = cosine(steps, { warmup: Math.ceil(WARMUP * steps), floor: 0.01 });
  const state = (): StateTree => ({
    parameters: [...parameters.entries.values()],
    optimiser: optimiser.state(),
  });

  let step = 0;
  if (listCheckpoints(checkpoints).length > 0) {
    const loaded = loadCheckpoint(checkpoints, { like: state() });
    const tree = loaded.state as { parameters: Tensor[]; optimiser: StateTree };
    scope(() => {
      for (const [i, parameter] of [...parameters.entries.values()].entries())
        parameter.detach().copy_(tree.parameters[i]!);
      optimiser.load(tree.optimiser);
    });
    step = loaded.step;
  }

  const begun = { step, at: performance.now() };
  let saved = performance.now();
  let loss = Number.NaN;
  let order: number[] = [];
  try {
    for (let epoch = -1; step < steps; step++) {
      if (signal?.aborted || performance.now() - saved > checkpointMinutes * 60_000) {
        saveCheckpoint(checkpoints, step, state(), { keep: 1 });
        saved = performance.now();
        signal?.throwIfAborted();
      }
      if (epoch !== Math.floor(step / perEpoch)) {
        epoch = Math.floor(step / perEpoch);
        order = new Random(noiseKey(seed, 'classifier-order', epoch)).shuffle(labels.map((_, i) => i));
      }
      const place = (step % perEpoch) * batchSize;
      const rows = order.slice(place, place + batchSize);
      loss = scope(() => {
        const images = crops(set, rows, new Random(noiseKey(seed, 'classifier-crops', step)));
        const target = tensor(
          rows.map((row) => labels[row]!),
          { dtype: 'int64', device },
        );
        const objective = autocast(
          recipe.precision,
          () => F.crossEntropy(classifier.forward(images, true).to('float32'), target),
          device === 'cpu' ? 'cpu' : 'cuda',
        );
        optimiser.step(grad(objective, learned), recipe.learningRate * schedule(step));
        return objective.item();
      });
      if (!Number.isFinite(loss))
        throw new UserError(
          `${folder}: the loss of update ${step} is ${loss} — the training diverged. Lower --learning-rate (${recipe.learningRate})`,
        );
      const seconds = (performance.now() - begun.at) / 1000;
      onProgress?.({
        step: step + 1,
        steps,
        loss,
        picturesPerSecond: ((step + 1 - begun.step) * batchSize) / seconds,
      });
      await nextTurn(); // where Ctrl-C is served
    }
  } catch (error) {
    classifier.free();
    throw error;
  } finally {
    optimiser.free();
  }
  for (const parameter of learned) parameter.requiresGrad_(false);
  fileOperation('write', file, () => writeSafetensors(`${file}.tmp`, parameters.state()));
  renameDurably(`${file}.tmp`, file);
  remove(checkpoints);
  return { classifier, loss };
}

/** Pictures of some rows, each moved by up to an eighth of its edge and mirrored half of the time: uint8 [B, H, W, 3]. */
export function crops({ size, pixels }: LabelledSet, rows: readonly number[], random: Random): Tensor {
  const bytes = size * size * 3;
  const batch = new Uint8Array(rows.length * bytes);
  const reach = Math.round(size * SHIFT);
  const clamp = (value: number) => Math.min(size - 1, Math.max(0, value));
  for (const [i, row] of rows.entries()) {
    const [down, across] = [random.integer(2 * reach + 1) - reach, random.integer(2 * reach + 1) - reach];
    const mirrored = random.integer(2) === 1;
    for (let y = 0, to = i * bytes; y < size; y++) {
      const line = row * bytes + clamp(y + down) * size * 3;
      for (let x = 0; x < size; x++, to += 3) {
        const from = line + clamp((mirrored ? size - 1 - x : x) + across) * 3;
        batch[to] = pixels[from]!;
        batch[to + 1] = pixels[from + 1]!;
        batch[to + 2] = pixels[from + 2]!;
      }
    }
  }
  return tensor(batch, { shape: [rows.length, size, size, 3] });
}
