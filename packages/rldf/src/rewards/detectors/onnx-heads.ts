/** What the outputs of ONNX detectors mean: YOLO's and DETR's forms, as boxes in pixels of the network's input. */

import type { Detection } from '@rldf/models';
import { shown, UserError } from '@rldf/torch/errors';
import type { OnnxDetectorField } from '../../config/detector-fields.js';

export interface Output {
  dims: readonly number[];
  data: ArrayLike<number>;
}

export type Head = Exclude<OnnxDetectorField['head'], 'auto'>;

interface Reading {
  labels: readonly string[];
  threshold: number;
  /** Width and height of the network's input. */
  size: readonly [number, number];
  /** Begins messages. */
  where: string;
}

/**
 * The form of a network's outputs, told from their shapes and the number of labels.
 * @throws UserError with the shapes when they are none of the known
 */
export function headOf(outputs: Readonly<Record<string, Output>>, { labels, where }: Reading): Head {
  const pair = detrPair(outputs);
  if (pair !== undefined) {
    const classes = pair.logits.dims.at(-1)!;
    if (classes === labels.length + 1) return 'detr';
    if (classes === labels.length) return 'detr-sigmoid';
    throw unfit(
      outputs,
      where,
      `its ${classes} classes are neither the ${labels.length} labels nor one more`,
    );
  }
  const [only, ...others] = Object.values(outputs);
  if (only === undefined || others.length > 0 || only.dims.length !== 3 || only.dims[0] !== 1)
    throw unfit(outputs, where, 'this is the form of no detector that is known');
  const [, rows, columns] = only.dims as [number, number, number];
  if (rows === labels.length + 4) return 'yolo';
  if (columns === labels.length + 5) return 'yolo-objectness';
  if (columns === labels.length + 4) return 'yolo'; // the other way round
  if (columns === 6) return 'end-to-end';
  throw unfit(outputs, where, `with ${labels.length} labels, one side must be ${labels.length + 4} (YOLOv8), ${labels.length + 5} (YOLOv5) or 6 (end to end)`); // biome-ignore format: one thought
}

function unfit(outputs: Readonly<Record<string, Output>>, where: string, why: string): UserError {
  const shapes = Object.entries(outputs).map(([name, { dims }]) => `${name} [${dims.join(', ')}]`);
  return new UserError(
    `${where}: its outputs are ${shapes.join(', ')} — ${why}. Correct labels, or set head`,
  );
}

/** The two outputs of a DETR: class logits [1, Q, C] and boxes [1, Q, 4]. */
function detrPair(outputs: Readonly<Record<string, Output>>): { logits: Output; boxes: Output } | undefined {
  const three = Object.entries(outputs).filter(([, { dims }]) => dims.length === 3 && dims[0] === 1);
  const boxes = three.find(([name, { dims }]) => dims[2] === 4 && /box/i.test(name))?.[1] ?? three.find(([, { dims }]) => dims[2] === 4)?.[1]; // biome-ignore format: one thought
  const logits = three.find(([name, one]) => one !== boxes && /logit|class|score/i.test(name))?.[1] ?? three.find(([, one]) => one !== boxes)?.[1]; // biome-ignore format: one thought
  if (boxes === undefined || logits === undefined || logits.dims[1] !== boxes.dims[1]) return undefined;
  return { logits, boxes };
}

/** Detections above the threshold, in pixels of the input; overlapping ones of YOLO are not yet dropped. */
export function readHead(
  head: Head,
  outputs: Readonly<Record<string, Output>>,
  reading: Reading,
): Detection[] {
  const found =
    head === 'detr' || head === 'detr-sigmoid'
      ? readDetr(head, outputs, reading)
      : readYolo(head, outputs, reading);
  const broken = found.find(({ score, box }) => ![score, ...box].every(Number.isFinite));
  if (broken === undefined) return found;
  throw new UserError(
    `${reading.where}: it found ${broken.label} with score ${broken.score} at [${broken.box.join(', ')}] — scores and boxes must be finite numbers. The model file is damaged, or its input is not what it expects: set head, mean and std`,
  );
}

function readYolo(
  head: 'yolo' | 'yolo-objectness' | 'end-to-end',
  outputs: Readonly<Record<string, Output>>,
  { labels, threshold, where }: Reading,
): Detection[] {
  const output = Object.values(outputs).find(({ dims }) => dims.length === 3 && dims[0] === 1);
  if (output === undefined)
    throw unfit(outputs, where, `head ${head} needs one of three dimensions, the first 1`);
  const [, first, second] = output.dims as [number, number, number];
  const { data } = output;
  const each = head === 'end-to-end' ? 6 : labels.length + (head === 'yolo' ? 4 : 5);
  const turned = first === each && (head === 'yolo' || second !== each); // [1, values, boxes]
  const count = turned ? second : first;
  if ((turned ? first : second) !== each)
    throw unfit(outputs, where, `head ${head} with ${labels.length} labels needs a side of ${each}`);
  const at = (box: number, value: number) => data[turned ? value * count + box : box * each + value]!;
  const found: Detection[] = [];
  for (let i = 0; i < count; i++) {
    if (head === 'end-to-end') {
      const score = at(i, 4);
      const label = labels[at(i, 5)];
      if (!(score >= threshold) && !Number.isNaN(score)) continue;
      if (label === undefined)
        throw new UserError(`${where}: it found class ${shown(at(i, 5))} — there are ${labels.length} labels, from 0. Correct labels`); // biome-ignore format: one thought
      found.push({ label, score, box: [at(i, 0), at(i, 1), at(i, 2), at(i, 3)] });
      continue;
    }
    const objectness = head === 'yolo' ? 1 : at(i, 4);
    const start = each - labels.length;
    let best = start;
    for (let value = start + 1; value < each; value++) if (at(i, value) > at(i, best)) best = value;
    const score = objectness * at(i, best);
    if (score < threshold) continue;
    found.push({
      label: labels[best - start]!,
      score,
      box: cornersOf(at(i, 0), at(i, 1), at(i, 2), at(i, 3)),
    });
  }
  return found;
}

function readDetr(
  head: 'detr' | 'detr-sigmoid',
  outputs: Readonly<Record<string, Output>>,
  { labels, threshold, size: [width, height], where }: Reading,
): Detection[] {
  const pair = detrPair(outputs);
  if (pair === undefined)
    throw unfit(outputs, where, `head ${head} needs logits [1, Q, C] and boxes [1, Q, 4]`);
  const { logits, boxes } = pair;
  const [, queries, classes] = logits.dims as [number, number, number];
  const wanted = labels.length + (head === 'detr' ? 1 : 0);
  if (classes !== wanted)
    throw unfit(outputs, where, `head ${head} with ${labels.length} labels needs ${wanted} classes`);
  const found: Detection[] = [];
  for (let i = 0; i < queries; i++) {
    const row = Array.from({ length: classes }, (_, c) => logits.data[i * classes + c]!);
    const shares = head === 'detr' ? softmax(row) : row.map((x) => 1 / (1 + Math.exp(-x)));
    const own = shares.slice(0, labels.length);
    const best = own.reduce((most, share, c) => (share > own[most]! ? c : most), 0);
    const score = own[best]!;
    if (score < threshold) continue;
    const [x, y, w, h] = [0, 1, 2, 3].map((k) => boxes.data[i * 4 + k]!) as [number, number, number, number];
    found.push({ label: labels[best]!, score, box: cornersOf(x * width, y * height, w * width, h * height) });
  }
  return found;
}

const cornersOf = (x: number, y: number, w: number, h: number): Detection['box'] => [
  x - w / 2,
  y - h / 2,
  x + w / 2,
  y + h / 2,
];

function softmax(row: readonly number[]): number[] {
  const most = Math.max(...row);
  const powers = row.map((x) => Math.exp(x - most));
  const sum = powers.reduce((a, b) => a + b, 0);
  return powers.map((power) => power / sum);
}
