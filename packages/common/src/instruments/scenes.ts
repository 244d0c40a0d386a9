// Scenes of the built-in world as tensors.
import {
  type ArtSet,
  type CaptionedOptions,
  renderScene,
  type Scene,
  type Split,
  sampleCaptionedScene,
  tilePictures,
} from '@rldf/emoji-world';
import { scope, type Tensor, tensor } from '@rldf/torch';
import sharp from 'sharp';
import { replaceFile } from '../base/files.js';
import { picturesOf } from '../base/picture.js';

export interface SceneBatch {
  scenes: Scene[];
  /** What the captions say: the scenes themselves, unless captions are careless. */
  told: Scene[];
  captions: string[];
  /** [B, 3, 64, 64] in [-1, 1] */
  images: Tensor;
}

/** Scenes `start` to `start + count` of a split's endless series. */
export function sceneBatch(
  art: ArtSet,
  split: Split,
  seed: number,
  start: number,
  count: number,
  options: CaptionedOptions = {},
): SceneBatch {
  const samples = Array.from({ length: count }, (_, i) =>
    sampleCaptionedScene(split, seed, start + i, options),
  );
  const scenes = samples.map(({ scene }) => scene);
  return {
    scenes,
    told: samples.map(({ told }) => told),
    captions: samples.map(({ caption }) => caption),
    images: imagesOf(scenes.map((scene) => renderScene(scene, art))),
  };
}

/** 64 x 64 RGB pictures -> [B, 3, 64, 64] in [-1, 1] */
export function imagesOf(pictures: readonly Uint8Array[], size = 64): Tensor {
  return scope(() => {
    const flat = new Uint8Array(pictures.length * size * size * 3);
    pictures.forEach((picture, i) => {
      flat.set(picture, i * size * size * 3);
    });
    return tensor(flat, { shape: [pictures.length, size, size, 3] })
      .permute([0, 3, 1, 2])
      .to('float32')
      .div(127.5)
      .sub(1)
      .contiguous();
  });
}

/** [B, 3, H, W] in [-1, 1] -> 8-bit RGB pictures */
export function quantise(images: Tensor): Uint8Array[] {
  return scope(() => {
    const scaled = images.detach().to('float32').add(1).mul(127.5).round().clamp(0, 255);
    return picturesOf(scaled.permute([0, 2, 3, 1]).to('uint8').contiguous()).map(({ data }) => data);
  });
}

/** Writes 64 x 64 pictures as one contact sheet. */
export async function writeSheet(
  file: string,
  pictures: readonly Uint8Array[],
  columns: number,
): Promise<void> {
  const { width, height, rgb } = tilePictures(pictures, columns, { scale: 2 });
  const png = await sharp(rgb, { raw: { width, height, channels: 3 } })
    .png({ palette: true, effort: 10, dither: 0 }) // a quarter of the bytes
    .toBuffer();
  replaceFile(file, png);
}
