import { type ArtSet, type Box, PICTURE_SIZE, SMALL, type Sprite, type SpriteSize } from './art.js';
import type { Background, Colour, Scene, SceneObject, Style } from './scene.js';

export type Rgb = readonly [number, number, number];

/** Middle tone of each colour word; shades and highlights are mixed from it. */
export const colourTones: Readonly<Record<Colour, Rgb>> = {
  red: [222, 36, 36],
  orange: [250, 138, 20],
  yellow: [250, 214, 30],
  green: [40, 165, 60],
  blue: [45, 95, 230],
  purple: [140, 60, 200],
  pink: [255, 130, 190],
  brown: [130, 80, 42],
  black: [48, 48, 52],
  white: [238, 238, 240],
};

/** Upper and lower tone of each background; the horizon lies on the 8-px grid. */
const BACKGROUNDS: Readonly<Record<Background, { upper: Rgb; lower: Rgb; horizon: number }>> = {
  white: { upper: [255, 255, 255], lower: [255, 255, 255], horizon: 32 },
  grass: { upper: [190, 232, 150], lower: [104, 188, 72], horizon: 32 },
  sand: { upper: [252, 236, 196], lower: [232, 196, 120], horizon: 32 },
  snow: { upper: [196, 212, 232], lower: [244, 248, 255], horizon: 32 },
  night: { upper: [20, 24, 64], lower: [44, 50, 100], horizon: 32 },
  sky: { upper: [110, 190, 250], lower: [168, 220, 255], horizon: 32 },
  sea: { upper: [208, 238, 240], lower: [0, 128, 168], horizon: 32 },
  road: { upper: [208, 204, 204], lower: [128, 128, 132], horizon: 32 },
};

const CHANNELS = 3;
const INK: Rgb = [24, 24, 28];
const PAPER = 250;
/** Pixels of a block of pixel art: small sprites would be lost in the blocks of a large one. */
const PIXEL_BLOCKS: Readonly<Record<SpriteSize, number>> = { 48: 4, 32: 2 };
const POSTERISE_STEP = 51;

/**
 * Draws a scene.
 * @returns RGB bytes, row-major [64, 64, 3].
 * @throws {Error} if the scene names a noun the world does not have. (`validateScene` checks the rest.)
 */
export function renderScene(scene: Scene, art: ArtSet): Uint8Array {
  const picture = drawBackground(scene.background);
  for (const object of scene.objects)
    composite(picture, spriteOf(object, scene.style, art), object.x, object.y);
  if (scene.style === 'sketch') return sketch(picture);
  if (scene.style === 'pixel art') return pixelArt(picture, PIXEL_BLOCKS[scene.objects[0]?.size ?? SMALL]);
  return picture;
}

/** Tight boxes of a scene's objects in the picture, in the order of `scene.objects`, whether or not one hides another. */
export function boxesOf(scene: Scene, art: ArtSet): Box[] {
  return scene.objects.map(({ noun, size, x, y }) => {
    const { box } = art.sprite(noun, size);
    return { left: x + box.left, top: y + box.top, right: x + box.right, bottom: y + box.bottom };
  });
}

function spriteOf(object: SceneObject, style: Style | undefined, art: ArtSet): Sprite {
  const { noun, size, colour } = object;
  if (style === 'silhouette') return art.derived(noun, size, 'silhouette', silhouette);
  if (colour === undefined) return art.sprite(noun, size);
  return art.derived(noun, size, colour, (sprite) => tint(sprite, colourTones[colour]));
}

function drawBackground(background: Background): Uint8Array {
  const { upper, lower, horizon } = BACKGROUNDS[background];
  const picture = new Uint8Array(PICTURE_SIZE * PICTURE_SIZE * CHANNELS);
  const split = horizon * PICTURE_SIZE * CHANNELS;
  for (let i = 0; i < picture.length; i += CHANNELS) {
    const tone = i < split ? upper : lower;
    picture[i] = tone[0];
    picture[i + 1] = tone[1];
    picture[i + 2] = tone[2];
  }
  return picture;
}

function composite(picture: Uint8Array, sprite: Sprite, x: number, y: number): void {
  const { size, rgba, box } = sprite;
  for (let row = box.top; row < box.bottom; row++) {
    let from = (row * size + box.left) * 4;
    let to = ((y + row) * PICTURE_SIZE + x + box.left) * CHANNELS;
    for (let column = box.left; column < box.right; column++, from += 4, to += CHANNELS) {
      const alpha = rgba[from + 3]!;
      if (alpha === 0) continue;
      for (let channel = 0; channel < CHANNELS; channel++) {
        const under = picture[to + channel]!;
        picture[to + channel] = under + Math.round(((rgba[from + channel]! - under) * alpha) / 255);
      }
    }
  }
}

function luminance(red: number, green: number, blue: number): number {
  return 0.299 * red + 0.587 * green + 0.114 * blue;
}

/** Recolours by luminance: the sprite's median tone becomes `colour`, shadows go to its dark, lights to its light. */
function tint(sprite: Sprite, colour: Rgb): Uint8Array {
  const rgba = sprite.rgba.slice();
  const tones: number[] = [];
  for (let i = 0; i < rgba.length; i += 4) {
    if (rgba[i + 3]! >= 128) tones.push(luminance(rgba[i]!, rgba[i + 1]!, rgba[i + 2]!));
  }
  tones.sort((a, b) => a - b);
  const at = (share: number) => tones[Math.min(tones.length - 1, Math.floor(share * tones.length))] ?? 128;
  const median = at(0.5);
  // Room for shading on both sides, also where a sprite is nearly all one tone.
  const low = Math.min(at(0.02), median - 60);
  const high = Math.max(at(0.98), median + 90);
  for (let i = 0; i < rgba.length; i += 4) {
    if (rgba[i + 3] === 0) continue;
    const tone = luminance(rgba[i]!, rgba[i + 1]!, rgba[i + 2]!);
    const shade = tone < median ? (tone - median) / (median - low) : (tone - median) / (high - median);
    for (let channel = 0; channel < CHANNELS; channel++) {
      const middle = colour[channel]!;
      const end = shade < 0 ? middle * 0.25 : middle + (255 - middle) * 0.75;
      const value = middle + (end - middle) * Math.min(1, Math.abs(shade));
      rgba[i + channel] = Math.round(value);
    }
  }
  return rgba;
}

function silhouette(sprite: Sprite): Uint8Array {
  const rgba = sprite.rgba.slice();
  for (let i = 0; i < rgba.length; i += 4) {
    if (rgba[i + 3] === 0) continue;
    rgba.set(INK, i);
  }
  return rgba;
}

/** Grey pencil lines where the picture's tones change. */
function sketch(picture: Uint8Array): Uint8Array {
  const size = PICTURE_SIZE;
  const tones = new Float64Array(size * size);
  for (let i = 0; i < tones.length; i++) {
    tones[i] = luminance(picture[i * 3]!, picture[i * 3 + 1]!, picture[i * 3 + 2]!);
  }
  const drawn = new Uint8Array(picture.length);
  const tone = (x: number, y: number) =>
    tones[Math.min(size - 1, Math.max(0, y)) * size + Math.min(size - 1, Math.max(0, x))]!;
  for (let y = 0; y < size; y++) {
    for (let x = 0; x < size; x++) {
      const across = tone(x + 1, y) - tone(x - 1, y);
      const down = tone(x, y + 1) - tone(x, y - 1);
      const edge = Math.sqrt(across * across + down * down); // the same on every engine, unlike Math.hypot
      const shade = Math.round(PAPER - Math.min(PAPER - 30, edge * 1.4));
      drawn.fill(shade, (y * size + x) * CHANNELS, (y * size + x + 1) * CHANNELS);
    }
  }
  return drawn;
}

/** Square blocks, six levels a channel. */
function pixelArt(picture: Uint8Array, block: number): Uint8Array {
  const drawn = new Uint8Array(picture.length);
  const offset = (left: number, top: number, inBlock: number) =>
    ((top + Math.floor(inBlock / block)) * PICTURE_SIZE + left + (inBlock % block)) * CHANNELS;
  const area = block * block;
  for (let top = 0; top < PICTURE_SIZE; top += block) {
    for (let left = 0; left < PICTURE_SIZE; left += block) {
      for (let channel = 0; channel < CHANNELS; channel++) {
        let sum = 0;
        for (let i = 0; i < area; i++) sum += picture[offset(left, top, i) + channel]!;
        const value = Math.round(sum / area / POSTERISE_STEP) * POSTERISE_STEP;
        for (let i = 0; i < area; i++) drawn[offset(left, top, i) + channel] = value;
      }
    }
  }
  return drawn;
}
