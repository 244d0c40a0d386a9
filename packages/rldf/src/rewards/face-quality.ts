/** How good faces are for being recognised, by the network of the package qualityface 1.0.3, from its own weights. */

import { existsSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { type Picture, tensorOfPictures } from '@rldf/common/base/picture';
import { FaceQualityNet, faceQualityConfigOf, fromQualityFace } from '@rldf/models';
import { cat, type Device, F, noGrad, Parameters, scope, type Tensor } from '@rldf/torch';
import { UserError } from '@rldf/torch/errors';
import type { QualityFaceField } from '../config/detector-fields.js';
import type { CropQuality } from './crops.js';
import { rewardAssets } from './published-names.js';
import { readWeights } from './weights.js';

/** As the package states it; its metadata also says BSD. */
export const qualityFaceLicence = 'MIT (qualityface 1.0.3, its weights inside)';

/** What its network saw in training. */
const SIZE = 128;
const BATCH = 32;

/** Weights that ship with rldf, tiny and random. */
export const tinyFaceQuality = join(rewardAssets, 'tiny', 'face', 'last.pth');

/** @throws UserError, when it is first used or by `ready`, for weights that are not there or of another network */
export function qualityFace(field: QualityFaceField, device: Device = 'cpu'): CropQuality {
  let loaded: FaceQualityNet | undefined;
  const network = () => {
    loaded ??= loadFaceQuality(field.qualityface, device);
    return loaded;
  };
  return {
    licence: field.licence ?? qualityFaceLicence,
    async ready() {
      network();
    },
    async score(crops) {
      const net = network();
      const scores: number[] = [];
      for (let start = 0; start < crops.length; start += BATCH)
        scores.push(...faceQuality(net, crops.slice(start, start + BATCH), device));
      return scores;
    },
  };
}

/** Scores of crops of any size. */
export function faceQuality(
  net: FaceQualityNet,
  crops: readonly Picture[],
  device: Device = 'cpu',
): number[] {
  return noGrad(() =>
    scope(() =>
      net
        .forward(
          cat(
            crops.map((crop) => shownTo(crop, device)),
            0,
          ),
        )
        .toNumbers(),
    ),
  );
}

/** Resized bilinearly, smoothed where it is made smaller, to [1, 3, 128, 128] in [-1, 1]. */
function shownTo(crop: Picture, device: Device): Tensor {
  const pixels = tensorOfPictures([crop]).to(device).permute([0, 3, 1, 2]).to('float32').div(255); // [1, 3, H, W]
  return F.interpolateBilinear(pixels, [SIZE, SIZE], { antialias: true }).sub(0.5).div(0.5);
}

/** @param given the package's file last.pth, the package unpacked, or `tiny` */
export function loadFaceQuality(given: string, device: Device = 'cpu'): FaceQualityNet {
  const where = `quality ${given}`;
  const path = given === 'tiny' ? tinyFaceQuality : given;
  const inside = ['', 'checkpoints', join('qualityface', 'checkpoints')].map((folder) => join(path, folder, 'last.pth')); // biome-ignore format: one thought
  const file =
    existsSync(path) && statSync(path).isDirectory() ? inside.find((one) => existsSync(one)) : path;
  if (file === undefined || !existsSync(file))
    throw new UserError(
      `${where}: there is no ${file === undefined ? 'checkpoints/last.pth in it' : 'such file'} — it is the file of weights in the Python package qualityface. Get it: \`pip download qualityface==1.0.3 --no-deps && unzip qualityface-1.0.3-py3-none-any.whl\`, and give qualityface/checkpoints/last.pth`,
    );
  return scope(() => {
    const state = fromQualityFace(readWeights(file));
    const config = faceQualityConfigOf(state, file);
    const parameters = Parameters.from(state, { dtype: 'float32', device, where: file });
    const net = new FaceQualityNet(config, parameters.at());
    parameters.assertAllUsed();
    return net;
  });
}
