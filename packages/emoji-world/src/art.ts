import { fileURLToPath } from 'node:url';
import sharp from 'sharp';
import { nouns } from './nouns.js';

/** Side of every picture, pixels. */
export const PICTURE_SIZE = 64;
/** The two sizes in which a sprite is ever drawn, pixels. 48 only when it is alone in the picture. */
export const SPRITE_SIZES = [48, 32] as const;
export type SpriteSize = (typeof SPRITE_SIZES)[number];
export const LARGE: SpriteSize = 48;
export const SMALL: SpriteSize = 32;
/** Sprites sit at multiples of this, pixels, unless a scene is sampled with free positions. */
export const GRID_STEP = 8;

/** Noto trains the base model, Twemoji and Fluent are the shifted worlds, OpenMoji is held out. */
export const artSets = ['noto', 'twemoji', 'fluent-emoji-flat', 'openmoji'] as const;
export type ArtSetName = (typeof artSets)[number];

export const ATLAS_COLUMNS = 12;

/** Width and height of an atlas, pixels: the large sprites' rows, then the small ones'. */
export function atlasSize(): { width: number; height: number } {
  const rows = Math.ceil(nouns.length / ATLAS_COLUMNS);
  return { width: ATLAS_COLUMNS * LARGE, height: rows * (LARGE + SMALL) };
}

/** Upper left corner of a noun's sprite in an atlas, pixels. `index` counts in `nouns`. */
export function atlasCell(index: number, size: SpriteSize): { x: number; y: number } {
  const top = size === LARGE ? 0 : Math.ceil(nouns.length / ATLAS_COLUMNS) * LARGE;
  return { x: (index % ATLAS_COLUMNS) * size, y: top + Math.floor(index / ATLAS_COLUMNS) * size };
}

/** Pixels inside a square; `right` and `bottom` are exclusive. */
export interface Box {
  readonly left: number;
  readonly top: number;
  readonly right: number;
  readonly bottom: number;
}

/** One noun at one size: straight-alpha RGBA, row-major, size x size x 4, and the tight box of its alpha. */
export interface Sprite {
  readonly size: SpriteSize;
  readonly rgba: Uint8Array;
  readonly box: Box;
}

/** The sprites of one art set. Made by `loadArt`. */
export class ArtSet {
  readonly #sprites = new Map<string, Sprite>();
  readonly #derived = new Map<string, Sprite>();

  constructor(
    readonly name: ArtSetName,
    atlas: Uint8Array,
  ) {
    const { width } = atlasSize();
    for (const [index, noun] of nouns.entries()) {
      for (const size of SPRITE_SIZES) {
        const { x, y } = atlasCell(index, size);
        const rgba = new Uint8Array(size * size * 4);
        for (let row = 0; row < size; row++) {
          const start = ((y + row) * width + x) * 4;
          rgba.set(atlas.subarray(start, start + size * 4), row * size * 4);
        }
        this.#sprites.set(`${noun.name}/${size}`, { size, rgba, box: alphaBox(rgba, size) });
      }
    }
  }

  /** @throws {Error} if the world has no such noun. */
  sprite(noun: string, size: SpriteSize): Sprite {
    const sprite = this.#sprites.get(`${noun}/${size}`);
    if (sprite === undefined) {
      throw new Error(
        `ArtSet.sprite: no sprite of "${noun}" at ${size} px — a noun of \`nouns\` at 48 or 32 px.`,
      );
    }
    return sprite;
  }

  /** A recoloured copy of a sprite, made once: same alpha, other colours. `key` names the recolouring. */
  derived(noun: string, size: SpriteSize, key: string, recolour: (sprite: Sprite) => Uint8Array): Sprite {
    const name = `${noun}/${size}/${key}`;
    let found = this.#derived.get(name);
    if (found === undefined) {
      const original = this.sprite(noun, size);
      found = { ...original, rgba: recolour(original) };
      this.#derived.set(name, found);
    }
    return found;
  }
}

function alphaBox(rgba: Uint8Array, size: number): Box {
  let [left, top, right, bottom] = [size, size, 0, 0];
  for (let y = 0; y < size; y++) {
    for (let x = 0; x < size; x++) {
      if (rgba[(y * size + x) * 4 + 3] === 0) continue;
      left = Math.min(left, x);
      top = Math.min(top, y);
      right = Math.max(right, x + 1);
      bottom = Math.max(bottom, y + 1);
    }
  }
  return { left, top, right, bottom };
}

const loaded = new Map<ArtSetName, Promise<ArtSet>>();

/** Decodes an art set's atlas (once per process). About 30 ms. */
export function loadArt(name: ArtSetName): Promise<ArtSet> {
  let art = loaded.get(name);
  if (art === undefined) {
    art = decode(name);
    loaded.set(name, art);
  }
  return art;
}

async function decode(name: ArtSetName): Promise<ArtSet> {
  if (!artSets.includes(name)) {
    throw new Error(`loadArt: no art set "${name}" — one of ${artSets.join(', ')}.`);
  }
  const file = fileURLToPath(new URL(`../assets/${name}.png`, import.meta.url));
  const { data, info } = await sharp(file).ensureAlpha().raw().toBuffer({ resolveWithObject: true });
  const { width, height } = atlasSize();
  if (info.width !== width || info.height !== height) {
    throw new Error(
      `loadArt: ${name}.png is ${info.width} x ${info.height}, not ${width} x ${height} — the atlas is older than ` +
        'the noun list. Run tools/make-atlas.mjs.',
    );
  }
  return new ArtSet(name, data);
}
