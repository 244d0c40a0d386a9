/** Zero-shot detectors (OWL-ViT, OWLv2, Grounding DINO) by the npm package @huggingface/transformers. */

import { existsSync } from 'node:fs';
import { resolve } from 'node:path';
import { picturesOf } from '@rldf/common/base/picture';
import { type Detection, type Detector, nonMaximumSuppression } from '@rldf/models';
import { UserError } from '@rldf/torch/errors';
import { loadPeer } from '../../base/peers.js';
import type { ZeroShotDetectorField } from '../../config/detector-fields.js';

/** What of the package is used. */
interface Transformers {
  pipeline(task: 'zero-shot-object-detection', model: string, options: object): Promise<Looks>;
  RawImage: new (data: Uint8Array, width: number, height: number, channels: 3) => unknown;
  env: { allowLocalModels: boolean; localModelPath: string };
}

type Looks = (image: unknown, phrases: readonly string[], options: object) => Promise<Found[]>;

interface Found {
  label: string;
  score: number;
  box: { xmin: number; ymin: number; xmax: number; ymax: number };
}

/** @throws UserError when first used and the package or the model is not there */
export function zeroShotDetector(field: ZeroShotDetectorField): Detector {
  const where = `detector ${field.zeroShot}`;
  const phraseOf = new Map(
    field.labels.map((label) => [field.phrase.replace('{}', () => label).toLowerCase(), label]),
  );
  const phrases = [...phraseOf.keys()];
  let loading: Promise<{ looks: Looks; RawImage: Transformers['RawImage'] }> | undefined;
  const loaded = () => {
    loading ??= load(field, where);
    return loading;
  };
  return {
    labels: field.labels,
    ownWords: true,
    ...(field.licence !== undefined && { licence: field.licence }),
    async ready() {
      await loaded();
    },
    async detect(images, { threshold = field.threshold } = {}) {
      const { looks, RawImage } = await loaded();
      const all: Detection[][] = [];
      for (const { width, height, data } of picturesOf(images)) {
        const found = await looks(new RawImage(data, width, height, 3), phrases, { threshold });
        const detections = found.flatMap(({ label, score, box }): Detection[] => {
          const known =
            phraseOf.get(label.toLowerCase().replace(/\s*\.$/, '')) ?? phraseOf.get(label.toLowerCase());
          if (known === undefined || !(score >= threshold)) return []; // Grounding DINO may answer with parts of a phrase
          const clamp = (value: number, most: number) => Math.min(most, Math.max(0, value));
          const edges: Detection['box'] = [
            clamp(box.xmin, width),
            clamp(box.ymin, height),
            clamp(box.xmax, width),
            clamp(box.ymax, height),
          ];
          return [{ label: known, score: Math.min(1, score), box: edges }];
        });
        all.push(nonMaximumSuppression(detections, { overlap: field.overlap }));
      }
      return all;
    },
  };
}

async function load({ zeroShot, dtype }: ZeroShotDetectorField, where: string) {
  const { pipeline, RawImage, env } = await loadPeer<Transformers>('@huggingface/transformers', where);
  const folder = existsSync(zeroShot);
  if (folder) {
    env.allowLocalModels = true;
    env.localModelPath = '';
  }
  try {
    const options = { ...(dtype !== undefined && { dtype }), ...(folder && { local_files_only: true }) };
    const looks = await pipeline(
      'zero-shot-object-detection',
      folder ? resolve(zeroShot) : zeroShot,
      options,
    );
    return { looks, RawImage };
  } catch (error) {
    throw new UserError(
      `${where}: cannot be loaded (${(error as Error).message.split('\n')[0]}) — it is a folder with config.json, tokenizer.json, preprocessor_config.json and onnx/model.onnx, or a repository of such files that @huggingface/transformers downloads. Check the name`,
      { cause: error },
    );
  }
}
