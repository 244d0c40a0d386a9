/** Any detector in an ONNX file, run by the package onnxruntime-node. */

import { existsSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { picturesOf } from '@rldf/common/base/picture';
import { type Detection, type Detector, nonMaximumSuppression } from '@rldf/models';
import { UserError } from '@rldf/torch/errors';
import { loadPeer } from '../../base/peers.js';
import type { OnnxDetectorField } from '../../config/detector-fields.js';
import { cocoLabels } from './coco.js';
import { inputOf } from './input.js';
import { type Head, headOf, type Output, readHead } from './onnx-heads.js';
import { onnxMetadata, ultralyticsNames } from './onnx-metadata.js';

/** What of onnxruntime is used. */
interface Runtime {
  Tensor: new (type: 'float32', data: Float32Array, dims: readonly number[]) => Output;
  InferenceSession: { create(file: string, options?: object): Promise<Session> };
}

interface Session {
  inputNames: readonly string[];
  /** Since onnxruntime 1.21. */
  inputMetadata?: readonly { name: string; type?: string; shape?: readonly (number | string)[] }[];
  run(feeds: Record<string, unknown>): Promise<Record<string, Output>>;
}

export interface OnnxNetwork {
  /** The shape that the input must have; -1 where the model leaves a side open. */
  shape: readonly number[];
  run(data: Float32Array, dims: readonly number[]): Promise<Record<string, Output>>;
}

/**
 * Loads a network of one float32 input.
 * @throws UserError when the runtime is not installed, or the file is not one that it reads
 */
export async function loadOnnx(file: string, where: string): Promise<OnnxNetwork> {
  if (!existsSync(file))
    throw new UserError(`${where}: there is no file ${file} — give the path of an ONNX model`);
  const { InferenceSession, Tensor } = await loadPeer<Runtime>('onnxruntime-node', where);
  let session: Session;
  try {
    session = await InferenceSession.create(file, { logSeverityLevel: 3 });
  } catch (error) {
    throw new UserError(
      `${where}: ${file} cannot be loaded (${(error as Error).message.split('\n')[0]}) — it is damaged, or needs a newer onnxruntime-node. Export it again`,
      { cause: error },
    );
  }
  const [name, ...others] = session.inputNames;
  if (name === undefined || others.length > 0)
    throw new UserError(
      `${where}: ${file} has ${session.inputNames.length} inputs (${session.inputNames.join(', ')}) — expected one picture. Export it with one, sizes fixed`,
    );
  const known = session.inputMetadata?.find((one) => one.name === name);
  const shape = (known?.shape ?? [1, 3, -1, -1]).map((side) => (typeof side === 'number' ? side : -1));
  if (shape.length !== 4 || (shape[1] !== 3 && shape[1] !== -1) || (known?.type ?? 'float32') !== 'float32')
    throw new UserError(
      `${where}: the input of ${file} is ${known?.type} [${shape.join(', ')}] — expected float32 [1, 3, height, width]. Export it so`,
    );
  return {
    shape,
    async run(data, dims) {
      try {
        return await session.run({ [name]: new Tensor('float32', data, dims) });
      } catch (error) {
        throw new UserError(
          `${where}: ${file} does not run on an input of [${dims.join(', ')}] (${(error as Error).message.split('\n')[0]}) — set size to what it was exported with`,
          { cause: error },
        );
      }
    },
  };
}

const imagenet = { mean: [0.485, 0.456, 0.406], std: [0.229, 0.224, 0.225] } as const;
const plain = { mean: [0, 0, 0], std: [1, 1, 1] } as const;

/** @throws UserError when there are no labels; when first used, what `loadOnnx` throws */
export function onnxDetector(field: OnnxDetectorField): Detector {
  const where = `detector ${field.onnx}`;
  const labels = labelsOf(field, where);
  let loading: Promise<OnnxNetwork> | undefined;
  const network = () => {
    loading ??= loadOnnx(field.onnx, where);
    return loading;
  };
  let head: Head | undefined = field.head === 'auto' ? undefined : field.head;
  return {
    labels,
    ownWords: true,
    ...(field.licence !== undefined && { licence: field.licence }),
    async ready() {
      await network();
    },
    async detect(images, { threshold = field.threshold } = {}) {
      const { shape, run } = await network();
      const [height, width] = [shape[2]!, shape[3]!].map((side) => (side > 0 ? side : (field.size ?? 640)));
      const size = [width!, height!] as const;
      const reading = { labels, threshold, size, where };
      const found: Detection[][] = [];
      for (const picture of picturesOf(images)) {
        const attempt = async (guess: Head | undefined) => {
          const transformer = guess?.startsWith('detr') === true;
          const { mean, std } = guess === 'detr' ? imagenet : plain;
          const input = inputOf(picture, {
            width: size[0],
            height: size[1],
            resize: field.resize ?? (transformer ? 'stretch' : 'letterbox'),
            mean: field.mean ?? mean,
            std: field.std ?? std,
          });
          return { input, outputs: await run(input.data, [1, 3, size[1], size[0]]) };
        };
        let { input, outputs } = await attempt(head);
        if (head === undefined) {
          head = headOf(outputs, reading);
          if (head.startsWith('detr')) ({ input, outputs } = await attempt(head)); // it takes its pictures otherwise
        }
        const all = readHead(head, outputs, reading);
        const kept =
          head === 'yolo' || head === 'yolo-objectness'
            ? nonMaximumSuppression(all, { overlap: field.overlap })
            : all.toSorted((a, b) => b.score - a.score);
        found.push(kept.map((one) => ({ ...one, box: input.back(one.box) })));
      }
      return found;
    },
  };
}

function labelsOf({ onnx, labels }: OnnxDetectorField, where: string): readonly string[] {
  if (Array.isArray(labels)) return labels;
  if (labels === 'coco') return cocoLabels;
  if (typeof labels === 'string') {
    if (!existsSync(labels))
      throw new UserError(`${where}: labels: there is no file ${labels} — it has one label on each line, in the model’s order. Write it, or set labels: coco`); // biome-ignore format: one thought
    const lines = readFileSync(labels, 'utf8').split(/\r?\n/);
    while (lines.at(-1)?.trim() === '') lines.pop();
    return lines.map((line) => line.trim());
  }
  if (!existsSync(onnx))
    throw new UserError(`${where}: there is no file ${onnx} — give the path of an ONNX model`);
  const own = ultralyticsNames(onnxMetadata(readFileSync(onnx)).get('names'));
  if (own !== undefined) return own;
  const beside = join(dirname(onnx), 'labels.txt');
  if (existsSync(beside)) return labelsOf({ onnx, labels: beside } as OnnxDetectorField, where);
  throw new UserError(
    `${where}: the model names no labels, and there is no ${beside} — what it finds needs names. Set labels to a list, a file with one on each line, or coco`,
  );
}
