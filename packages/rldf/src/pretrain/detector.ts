// The two detectors: one loss, two networks that share nothing else. `detector` gives feedback; `judge-detector` only evaluates.

import { LATENT_CHANNELS } from '@rldf/common/instruments/configs';
import type { InstrumentCard } from '@rldf/common/instruments/instruments';
import { imagesOf } from '@rldf/common/instruments/scenes';
import { type ArtSet, loadArt, nouns } from '@rldf/emoji-world';
import {
  CELL,
  CELLS_ACROSS,
  type CellPredictions,
  cellCentre,
  cellsCovered,
  type DetectorOptions,
  type LabelledBox,
  type LocalDetector,
  OneStageDetector,
  PatchVotingDetector,
} from '@rldf/models';
import { F, ops, type ParameterPath, Parameters, scope, type Tensor, tensor } from '@rldf/torch';
import { calibrate, measureDetector } from './detection-measures.js';
import { detectionBatch, roughen } from './detection-scenes.js';
import { type FitEvent, fitTrainee } from './fit.js';
import { FLATTEN } from './parts.js';
import { fitPatchBasis, type PatchBasis } from './patch-basis.js';
import { type Stage, type StageContext, type StageDefaults, writeWithCard } from './stage.js';

type DetectorNetwork = LocalDetector & { forward(images: Tensor): CellPredictions };
type DetectorClass = new (
  path: ParameterPath,
  labels: readonly string[],
  options?: DetectorOptions,
) => DetectorNetwork;

interface Kind {
  name: string;
  Network: DetectorClass;
  role: InstrumentCard['role'];
  description: string;
  /** The cells that answer for an object. */
  cellsOf(box: LabelledBox['box']): number[];
}

export const detectorStage = stageOf(
  {
    name: 'detector',
    Network: OneStageDetector,
    role: 'feedback',
    description:
      'One-stage convolutional detector of the 124 nouns. For rewards, conditioning and relabelling.',
    cellsOf: cellsAtCentre,
  },
  { steps: 1600, batchSize: 48, learningRate: 2e-3, seed: 11, sceneSeed: 1011 },
);

export const judgeDetectorStage = stageOf(
  {
    name: 'judge-detector',
    Network: PatchVotingDetector,
    role: 'judge',
    description: 'Patches at one resolution that vote for the object covering them. For evaluation only.',
    cellsOf: cellsCovered,
  },
  { steps: 2500, batchSize: 48, learningRate: 2e-3, seed: 101, sceneSeed: 1101 },
);

/** FCOS's centre sampling: the cells whose centre lies less than a cell's side from the box's, in x and in y. */
export function cellsAtCentre([x0, y0, x1, y1]: LabelledBox['box']): number[] {
  return [...Array(CELLS_ACROSS ** 2).keys()].filter((cell) => {
    const { x, y } = cellCentre(cell);
    return Math.abs(x - (x0 + x1) / 2) < CELL && Math.abs(y - (y0 + y1) / 2) < CELL;
  });
}

function stageOf(kind: Kind, defaults: StageDefaults): Stage {
  return { defaults, run: (context) => trainDetector(kind, context) };
}

async function* trainDetector(kind: Kind, context: StageContext): AsyncGenerator<FitEvent> {
  const { seed, sceneSeed, training, log } = context;
  const { name, role, description, Network } = kind;
  const art = await loadArt('noto');
  const parameters = Parameters.random(seed);
  const labels = nouns.map((noun) => noun.name);
  const network = new Network(parameters.at(), labels);
  log(`${name}: ${parameters.count} parameters`);
  // a basis of its own: that of the model was fitted to scenes of seed 0
  const basis = fitPatchBasis(art, sceneSeed, LATENT_CHANNELS, FLATTEN, 1600);
  yield* fitTrainee(
    {
      parameters: parameters.trainable(),
      loss: (step) => scope(() => stepLoss(kind, network, art, basis, step, training)),
    },
    { emaDecay: 0.998, ...training },
  );
  if (training.signal?.aborted) return;
  const threshold = await calibrate(network, sceneSeed);
  const metrics = await measureDetector(network, { seed: sceneSeed, threshold });
  const card = {
    name,
    class: Network.name,
    role,
    startedFrom: null,
    threshold,
    metrics,
    description,
  } as const;
  writeWithCard(context, card, parameters.state());
}

function stepLoss(
  { cellsOf }: Kind,
  network: DetectorNetwork,
  art: ArtSet,
  basis: PatchBasis,
  step: number,
  { batchSize, seed }: StageContext['training'],
): Tensor {
  const { pictures, truths } = detectionBatch(art, 'train', seed, step * batchSize, batchSize, {
    unsettle: true,
  });
  const images = roughen(imagesOf(pictures), basis, seed, step);
  return detectionLoss(network.forward(images), cellTargets(truths, network.labels, cellsOf));
}

/** What the cells of a batch should say. P cells answer for an object. */
export interface CellTargets {
  /** 1 where a cell answers for an object, [B * N] */
  objectness: Float32Array;
  /** Those cells, counted over the batch, [P] */
  cells: number[];
  /** [P] */
  labels: number[];
  /** Pixels from the cell's centre to the object's edges, [P][4] */
  distances: number[][];
}

/** A cell that two objects want answers for the nearer one. */
export function cellTargets(
  truths: readonly (readonly LabelledBox[])[],
  labels: readonly string[],
  cellsOf: Kind['cellsOf'],
): CellTargets {
  const count = CELLS_ACROSS ** 2;
  const targets: CellTargets = {
    objectness: new Float32Array(truths.length * count),
    cells: [],
    labels: [],
    distances: [],
  };
  for (const [picture, objects] of truths.entries()) {
    const owners = new Map<number, { truth: LabelledBox; away: number }>();
    for (const truth of objects) {
      const [x0, y0, x1, y1] = truth.box;
      for (const cell of cellsOf(truth.box)) {
        const { x, y } = cellCentre(cell);
        const away = (x - (x0 + x1) / 2) ** 2 + (y - (y0 + y1) / 2) ** 2;
        if (away < (owners.get(cell)?.away ?? Number.POSITIVE_INFINITY)) owners.set(cell, { truth, away });
      }
    }
    for (const [cell, { truth }] of owners) {
      const { x, y } = cellCentre(cell);
      const [x0, y0, x1, y1] = truth.box;
      targets.objectness[picture * count + cell] = 1;
      targets.cells.push(picture * count + cell);
      targets.labels.push(labels.indexOf(truth.label));
      targets.distances.push([x - x0, y - y0, x1 - x, y1 - y]);
    }
  }
  return targets;
}

/**
 * Binary cross-entropy of objectness over all cells; over the P cells that answer for an object, cross-entropy of the
 * label, absolute error of the edges in cells, and 1 - IoU. Each is divided by P.
 */
export function detectionLoss(
  { objectness, classes, distances }: CellPredictions,
  targets: CellTargets,
): Tensor {
  return scope(() => {
    const positives = Math.max(1, targets.cells.length);
    const there = ops.aten('binary_cross_entropy_with_logits')(
      objectness.to('float32').flatten(),
      tensor(targets.objectness),
      undefined,
      undefined,
      2, // sum
    ) as Tensor;
    if (targets.cells.length === 0) return there.div(positives);
    const cells = tensor(targets.cells, { dtype: 'int64' });
    const at = (all: Tensor) => all.to('float32').flatten(0, 1).indexSelect(0, cells); // [P, ...]
    const label = F.crossEntropy(at(classes), tensor(targets.labels, { dtype: 'int64' }));
    const found = at(distances); // [P, 4]
    const wanted = tensor(targets.distances);
    const edges = found.sub(wanted).abs().mean().div(CELL);
    return there
      .div(positives)
      .add(label)
      .add(edges)
      .add(overlap(found.clamp(0), wanted).mul(-1).add(1).mean());
  });
}

/** Intersection over union of boxes seen from the same point inside both; edge distances [P, 4] -> [P] */
function overlap(a: Tensor, b: Tensor): Tensor {
  const area = (distances: Tensor) => {
    const [left, top, right, bottom] = distances.split([1, 1, 1, 1], 1) as [Tensor, Tensor, Tensor, Tensor];
    return left.add(right).clamp(0).mul(top.add(bottom).clamp(0)).squeeze(1);
  };
  const common = area(a.minimum(b));
  return common.div(area(a).add(area(b)).sub(common).add(1e-6));
}
