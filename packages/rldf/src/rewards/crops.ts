/** Rewards on faces and hands: how sure a detector is of them, or what a quality network says of their crops (TexForce, section 4.3). */

import { type Picture, picturesOf } from '@rldf/common/base/picture';
import type { Detector } from '@rldf/models';
import { UserError } from '@rldf/torch/errors';
import type { OnnxQualityField } from '../config/detector-fields.js';
import { cropOf, inputOf } from './detectors/input.js';
import { loadOnnx, type OnnxNetwork } from './detectors/onnx.js';
import type { Reward } from './reward.js';

/** Says how good each crop is. */
export interface CropQuality {
  readonly licence?: string | undefined;
  ready(): Promise<void>;
  score(crops: readonly Picture[]): Promise<number[]>;
}

/** How far beyond its box a face is shown, as a share of its size. */
const around = 0.1;

/**
 * The mean over what is detected, faces or hands; `none` where nothing is.
 * @param quality of the crops; without it, the confidence of the detector
 */
export function onCrops(
  name: string,
  detector: Detector,
  { quality, none = 0 }: { quality?: CropQuality | undefined; none?: number } = {},
): Reward {
  const licences = [detector.licence, quality?.licence].filter((one) => one !== undefined);
  return {
    name,
    unit: '',
    ...(licences.length > 0 && { licence: licences.join('; ') }),
    async ready() {
      await Promise.all([detector.ready?.(), quality?.ready()]);
    },
    async score({ images }) {
      const found = await detector.detect(images);
      if (quality === undefined) return found.map((all) => meanOr(none, all.map(({ score }) => score))); // biome-ignore format: one thought
      const pictures = picturesOf(images);
      const crops = found.map((all, i) => all.map(({ box }) => cropOf(pictures[i]!, box, around)));
      const scores = await quality.score(crops.flat());
      return crops.map((own) => meanOr(none, scores.splice(0, own.length)));
    },
  };
}

const meanOr = (none: number, values: readonly number[]) =>
  values.length === 0 ? none : values.reduce((sum, value) => sum + value, 0) / values.length;

/** A quality network in an ONNX file, of one number for each crop. */
export function onnxQuality(field: OnnxQualityField): CropQuality {
  const where = `quality ${field.onnx}`;
  let loading: Promise<OnnxNetwork> | undefined;
  const network = () => {
    loading ??= loadOnnx(field.onnx, where);
    return loading;
  };
  return {
    licence: field.licence,
    async ready() {
      await network();
    },
    async score(crops) {
      const { shape, run } = await network();
      const [height, width] = [shape[2]!, shape[3]!].map((side) => (side > 0 ? side : (field.size ?? 128)));
      const scores: number[] = [];
      for (const crop of crops) {
        const options = {
          width: width!,
          height: height!,
          resize: 'stretch',
          mean: field.mean,
          std: field.std,
        } as const;
        const outputs = await run(inputOf(crop, options).data, [1, 3, height!, width!]);
        const values = Object.values(outputs).flatMap(({ data }) => Array.from(data));
        const [value] = values;
        if (values.length !== 1 || !Number.isFinite(value))
          throw new UserError(
            `${where}: it answered ${values.length === 1 ? String(value) : `${values.length} numbers`} for a crop — expected one finite number. Export the network so`,
          );
        scores.push(value!);
      }
      return scores;
    },
  };
}
