/** Photographs that ship with rldf, and pictures of words: what detectors and readers are checked and measured on. */

import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Picture } from '@rldf/common/base/picture';
import type { BoxEdges } from '@rldf/models';
import { noiseKey, Random } from '@rldf/torch';
import sharp from 'sharp';
import type { ReferenceGroup } from './percentiles.js';
import { rewardAssets } from './published-names.js';

/** What each shows (a label of COCO), and where. CREDITS.md says where they are from. */
export const photographs = {
  astronaut: { label: 'person', box: [5, 3, 184, 256] },
  chelsea: { label: 'cat', box: [1, 0, 234, 167] },
  coffee: { label: 'cup', box: [71, 6, 176, 118] },
  rocket: { label: 'rocket', box: [60, 20, 190, 150] },
} as const satisfies Record<string, { label: string; box: BoxEdges }>;

export type PhotographName = keyof typeof photographs;

export const photographNames = Object.keys(photographs) as PhotographName[];

export const promptOf = (name: PhotographName): string => `a photo of a ${photographs[name].label}`;

/** What GenEval's prompt file would say of that prompt. */
export const taskOf = (name: PhotographName): object => ({
  tag: 'single_object',
  include: [{ class: photographs[name].label, count: 1 }],
  prompt: promptOf(name),
});

export async function loadPhotograph(name: PhotographName): Promise<Picture> {
  return decoded(readFileSync(join(rewardAssets, 'photographs', `${name}.jpg`)));
}

async function decoded(file: Buffer): Promise<Picture> {
  const { data, info } = await sharp(file).removeAlpha().raw().toBuffer({ resolveWithObject: true });
  return { width: info.width, height: info.height, channels: 3, data: new Uint8Array(data) };
}

/** Where the face is. */
const faceBox: BoxEdges = [74, 23, 148, 97];

/** Views of the astronaut's face, of different sizes, sides and light. */
export async function faceViews(count: number): Promise<ReferenceGroup[]> {
  const pictures = viewsOf(await loadPhotograph('astronaut'), faceBox, count, 'face');
  return [{ prompt: promptOf('astronaut'), meta: null, pictures }];
}

/** The same of what COCO's labels name, with what GenEval's prompt file would ask of them. */
export async function objectViews(each: number): Promise<ReferenceGroup[]> {
  const names = photographNames.filter((name) => name !== 'rocket');
  return Promise.all(
    names.map(async (name) => ({
      prompt: promptOf(name),
      meta: taskOf(name),
      pictures: viewsOf(await loadPhotograph(name), photographs[name].box, each, name),
    })),
  );
}

/** Cut out around what is shown, every second one mirrored, brighter or darker. */
function viewsOf(
  picture: Picture,
  [bx0, by0, bx1, by1]: BoxEdges,
  count: number,
  purpose: string,
): Picture[] {
  const random = new Random(noiseKey(0, `photographs/${purpose}`));
  const between = (low: number, high: number) => low + random.integer(high - low + 1);
  return Array.from({ length: count }, (_, i) => {
    const [left, top] = [between(0, bx0), between(0, by0)];
    const [right, bottom] = [between(bx1, picture.width), between(by1, picture.height)];
    const light = between(70, 130) / 100;
    const [width, height] = [right - left, bottom - top];
    const data = new Uint8Array(width * height * 3);
    for (let y = 0; y < height; y++)
      for (let x = 0; x < width; x++) {
        const from = ((top + y) * picture.width + (i % 2 === 0 ? left + x : right - 1 - x)) * 3;
        for (let c = 0; c < 3; c++)
          data[(y * width + x) * 3 + c] = Math.min(255, Math.round(picture.data[from + c]! * light));
      }
    return { width, height, channels: 3, data };
  });
}

const words = [
  ...['OPEN', 'Closed', 'STOP', 'Exit', 'Hello', 'Happy Birthday', 'Route 66', 'No parking'],
  ...['Coffee', 'Fresh bread', 'Gate 12', 'Welcome home', 'Danger', 'Sale', 'Library', 'Good night'],
];

/** Signs with words in this machine's sans-serif letters: dark on light, light on dark, small, turned, faint. */
export async function signs(): Promise<ReferenceGroup[]> {
  const looks = [
    { ink: 'black', ground: 'white', size: 40 },
    { ink: 'white', ground: '#1a4a8a', size: 34 },
    { ink: '#7a1f1f', ground: '#f2e3b3', size: 14 },
    { ink: 'black', ground: 'white', size: 30, turned: 14 },
    { ink: '#b0b0b0', ground: '#c8c8c8', size: 30, turned: 0 },
  ];
  return Promise.all(
    words.map(async (text) => ({
      prompt: `a sign that says "${text}"`,
      meta: null,
      pictures: await Promise.all(looks.map((look) => sign(text, look))),
    })),
  );
}

async function sign(
  text: string,
  { ink, ground, size, turned = 0 }: { ink: string; ground: string; size: number; turned?: number },
) {
  const svg = `<svg width="384" height="128"><rect width="384" height="128" fill="${ground}"/><text x="192" y="78" text-anchor="middle" fill="${ink}" font-family="sans-serif" font-size="${size}" transform="rotate(${turned} 192 64)">${text}</text></svg>`;
  return decoded(Buffer.from(svg));
}

/** A stored sign, so that every machine sees the same letters. */
export const storedSign = { text: 'OPEN', file: join(rewardAssets, 'photographs', 'open.png') };

export const loadSign = (): Promise<Picture> => decoded(readFileSync(storedSign.file));
