import { imagesOf } from '@rldf/common/instruments/scenes';
import { HashRandom, loadArt, renderScene } from '@rldf/emoji-world';
import {
  type BoxEdges,
  cellsCovered,
  type LocalDetector,
  OneStageDetector,
  PatchVotingDetector,
} from '@rldf/models';
import { AdamW, grad, Parameters, scope, setThreads, tensor } from '@rldf/torch';
import { expect, test } from 'vitest';
import {
  bootstrapAveragePrecision,
  measureDetector,
  objectsRight,
  relationRight,
  relationWorld,
} from './detection-measures.js';
import { detectionBatch, roughen, truthsOf } from './detection-scenes.js';
import { cellsAtCentre, cellTargets, detectionLoss } from './detector.js';
import { fitPatchBasis } from './patch-basis.js';

setThreads(1);

const box: BoxEdges = [8, 8, 40, 40]; // centre (24, 24): a corner of four cells

test('the four cells around a centre answer for an object, with their distances to its edges', () => {
  expect(cellsAtCentre(box)).toEqual([18, 19, 26, 27]);
  const targets = cellTargets([[], [{ label: 'dog', box }]], ['cat', 'dog'], cellsAtCentre);
  expect(targets.cells).toEqual([64 + 18, 64 + 19, 64 + 26, 64 + 27]);
  expect(targets.labels).toEqual([1, 1, 1, 1]);
  expect(targets.distances[0]).toEqual([12, 12, 20, 20]); // cell 18: centre (20, 20)
  expect(targets.objectness.reduce((sum, value) => sum + value, 0)).toBe(4);
});

test('a cell between two objects answers for the nearer one', () => {
  const far: BoxEdges = [11, 8, 43, 40];
  const targets = cellTargets(
    [
      [
        { label: 'cat', box: far },
        { label: 'dog', box },
      ],
    ],
    ['cat', 'dog'],
    cellsAtCentre,
  );
  const labelOf = (cell: number) => targets.labels[targets.cells.indexOf(cell)];
  expect(labelOf(18)).toBe(1); // centre x 20: the dog's 24 is nearer than the cat's 27
  expect(labelOf(19)).toBe(0); // centre x 28
});

test('the loss of a prediction by hand', () => {
  const labels = ['cat', 'dog'];
  const targets = cellTargets([[{ label: 'dog', box }]], labels, (at) => cellsAtCentre(at).slice(0, 1));
  const distances = new Float32Array(64 * 4);
  distances.set([12, 12, 20, 4], 18 * 4); // half of the box: the lower edge is 16 px too high
  const loss = detectionLoss(
    {
      objectness: tensor(new Float32Array(64), { shape: [1, 64] }), // ln 2 a cell
      classes: tensor(new Float32Array(128), { shape: [1, 64, 2] }), // ln 2
      distances: tensor(distances, { shape: [1, 64, 4] }),
    },
    targets,
  );
  expect(loss.item()).toBeCloseTo(64 * Math.LN2 + Math.LN2 + 16 / 4 / 8 + (1 - 0.5), 4);
});

test.each([OneStageDetector, PatchVotingDetector])('%o learns four pictures', async (Network) => {
  const art = await loadArt('noto');
  const parameters = Parameters.random(5);
  const network = new Network(parameters.at(), ['cat', 'sun']);
  const trained = parameters.trainable();
  const optimiser = new AdamW(trained, { learningRate: 3e-3 });
  const objects = [
    [{ noun: 'cat', size: 32, x: 0, y: 16 }],
    [{ noun: 'sun', size: 32, x: 32, y: 16 }],
    [{ noun: 'cat', size: 48, x: 8, y: 8 }],
    [],
  ] as const;
  const scenes = objects.map((list) => ({ objects: list, background: 'white' as const }));
  const truths = scenes.map((scene) => truthsOf(scene, art));
  const pictures = scenes.map((scene) => renderScene(scene, art));
  const targets = cellTargets(
    truths,
    network.labels,
    Network.name === 'OneStageDetector' ? cellsAtCentre : cellsCovered,
  );
  for (let step = 0; step < 40; step++) {
    scope(() =>
      optimiser.step(grad(detectionLoss(network.forward(imagesOf(pictures)), targets), trained), 3e-3),
    );
  }
  const flat = Uint8Array.from(pictures.flatMap((picture) => [...picture]));
  const found = network.detect(tensor(flat, { shape: [4, 64, 64, 3] }), { threshold: 0.3 });
  expect(found.map((list) => list.map(({ label }) => label))).toEqual([['cat'], ['sun'], ['cat'], []]);
  const centre = ({ box: [x0, , x1] }: { box: BoxEdges }) => (x0 + x1) / 2;
  expect(centre(found[0]?.[0] as { box: BoxEdges })).toBeLessThan(26);
  expect(centre(found[1]?.[0] as { box: BoxEdges })).toBeGreaterThan(38);
});

test('rough pictures stay in range, differ by step and repeat by seed; some stay sharp', async () => {
  const art = await loadArt('noto');
  const basis = fitPatchBasis(art, 3, 32, 0.5, 400);
  const images = imagesOf(detectionBatch(art, 'validation', 3, 0, 24).pictures);
  const rough = roughen(images, basis, 3, 0);
  expect(rough.abs().amax().item()).toBeLessThanOrEqual(1);
  expect(roughen(images, basis, 3, 0).sub(rough).abs().amax().item()).toBe(0);
  expect(roughen(images, basis, 3, 1).sub(rough).abs().amax().item()).toBeGreaterThan(0.1);
  const error = rough.sub(images).square().mean([1, 2, 3]).toNumbers();
  expect(Math.max(...error)).toBeGreaterThan(4 * Math.min(...error));
});

test('unsettled batches leave some pictures without objects and move others, always inside', async () => {
  const art = await loadArt('noto');
  const still = detectionBatch(art, 'train', 9, 0, 300);
  const moved = detectionBatch(art, 'train', 9, 0, 300, { unsettle: true });
  expect(still.truths.every((truths) => truths.length > 0)).toBe(true);
  const empty = moved.truths.filter((truths) => truths.length === 0).length;
  expect(empty).toBeGreaterThan(3);
  expect(empty).toBeLessThan(50);
  const edges = moved.truths.flat().flatMap((truth) => truth.box);
  expect(Math.min(...edges)).toBeGreaterThanOrEqual(0);
  expect(Math.max(...edges)).toBeLessThanOrEqual(64);
  expect(moved.truths.flat().some(({ box }, i) => box[0] !== still.truths.flat()[i]?.box[0])).toBe(true);
});

test('a detector that knows the scenes measures 1, one that names all cats does not', async () => {
  const art = await loadArt('noto');
  const known = new Map<string, ReturnType<typeof truthsOf>>();
  const remember = (seed: number, world?: object) => {
    const batch = detectionBatch(art, 'test', seed, 0, 64, world === undefined ? {} : { world });
    for (const [i, picture] of batch.pictures.entries()) {
      known.set(Buffer.from(picture).toString('base64'), batch.truths[i] as ReturnType<typeof truthsOf>);
    }
  };
  remember(4);
  remember(5, relationWorld);
  const oracle = (name?: string): LocalDetector => ({
    labels: [],
    detect: (images) => {
      const [count = 0] = images.shape;
      return Array.from({ length: count }, (_, i) => {
        const picture = images.select(0, i).contiguous().bytes();
        const truths = known.get(Buffer.from(picture).toString('base64')) ?? [];
        return truths.map(({ label, box }) => ({ label: name ?? label, box, score: 0.9 }));
      });
    },
  });
  const options = { seed: 4, pictures: 64, threshold: 0.5 };
  expect(await measureDetector(oracle(), options)).toEqual({ mAP50: 1, objects: 1, relation: 1 });
  expect((await measureDetector(oracle('cat'), options)).mAP50).toBeLessThan(0.1);
});

test('objects are right when each is there as often as it should; a relation needs one of each, in its order', () => {
  const scene = {
    objects: [
      { noun: 'cat', size: 32, x: 0, y: 16 },
      { noun: 'sun', size: 32, x: 32, y: 16 },
    ],
    background: 'white',
    relation: 'left',
  } as const;
  const cat = { label: 'cat', score: 0.9, box: [0, 16, 32, 48] as BoxEdges };
  const sun = { label: 'sun', score: 0.9, box: [32, 16, 64, 48] as BoxEdges };
  const found = (...detections: (typeof cat)[]) => ({ scene, truths: [cat, sun], detections });
  expect(objectsRight(found(sun, cat), 0.5)).toBe(true);
  expect(objectsRight(found(cat), 0.5)).toBe(false);
  expect(objectsRight(found(cat, sun, { ...sun, score: 0.6 }), 0.5)).toBe(false);
  expect(objectsRight(found(cat, sun, { ...sun, score: 0.4 }), 0.5)).toBe(true);
  expect(relationRight(found(cat, sun), 0.5)).toBe(true);
  expect(relationRight(found({ ...cat, box: sun.box }, { ...sun, box: cat.box }), 0.5)).toBe(false);
  expect(relationRight(found(cat, sun, sun), 0.5)).toBe(false);
});

test('the bootstrap of mean average precision covers it and narrows with pictures', () => {
  const random = new HashRandom(1);
  const pictures = (count: number) =>
    Array.from({ length: count }, () => ({
      detections: [{ label: 'cat', score: random.uniform(), correct: random.chance(0.8) }],
      truths: ['cat'],
    }));
  const width = ([low, high]: [number, number]) => high - low;
  const wide = bootstrapAveragePrecision(pictures(30), 1);
  const narrow = bootstrapAveragePrecision(pictures(600), 1);
  expect(width(narrow)).toBeLessThan(width(wide) / 2);
  expect(narrow[0]).toBeLessThan(narrow[1]);
});
