import { type ArtSetName, loadArt, PICTURE_SIZE } from './art.js';
import type { CaptionOptions } from './caption.js';
import { renderScene } from './render.js';
import { type SampleOptions, sampleCaptionedScene } from './sample.js';
import type { Split } from './split.js';

export interface GridOptions extends SampleOptions, CaptionOptions {
  readonly split?: Split;
  readonly seed?: number;
  readonly art?: ArtSetName;
  /** Clear pixels between pictures. Default 2. */
  readonly gap?: number;
  /** Each pixel is drawn as scale x scale. Default 1. */
  readonly scale?: number;
}

export interface Grid {
  readonly width: number;
  readonly height: number;
  /** Row-major [height, width, 3]. */
  readonly rgb: Uint8Array;
  /** Captions, row by row. */
  readonly captions: readonly string[];
}

/** A contact sheet of sampled scenes. */
export async function drawGrid(columns: number, rows: number, options: GridOptions = {}): Promise<Grid> {
  const { split = 'train', seed = 0, art = 'noto' } = options;
  const set = await loadArt(art);
  const scenes = Array.from({ length: columns * rows }, (_, index) =>
    sampleCaptionedScene(split, seed, index, options),
  );
  const pictures = scenes.map(({ scene }) => renderScene(scene, set));
  return { ...tilePictures(pictures, columns, options), captions: scenes.map(({ caption }) => caption) };
}

/** Lays 64 x 64 RGB pictures out in rows of `columns`, on grey. */
export function tilePictures(
  pictures: readonly Uint8Array[],
  columns: number,
  { gap = 2, scale = 1 }: { gap?: number; scale?: number } = {},
): { width: number; height: number; rgb: Uint8Array } {
  const rows = Math.ceil(pictures.length / columns);
  const cell = PICTURE_SIZE * scale;
  const width = columns * cell + (columns + 1) * gap;
  const height = rows * cell + (rows + 1) * gap;
  const rgb = new Uint8Array(width * height * 3).fill(128);
  for (const [index, picture] of pictures.entries()) {
    const left = gap + (index % columns) * (cell + gap);
    const top = gap + Math.floor(index / columns) * (cell + gap);
    for (let y = 0; y < cell; y++) {
      for (let x = 0; x < cell; x++) {
        const from = (Math.floor(y / scale) * PICTURE_SIZE + Math.floor(x / scale)) * 3;
        rgb.set(picture.subarray(from, from + 3), ((top + y) * width + left + x) * 3);
      }
    }
  }
  return { width, height, rgb };
}
