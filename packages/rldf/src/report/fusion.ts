/** What `rldf fuse --grid` writes: the 2 x 2 of adapters, and the reward over the strengths of both. */

import { join } from 'node:path';
import { makeFolder, replaceFile } from '@rldf/common/base/files';
import { contactSheet } from '@rldf/common/drawing/grid';
import { escapeXml, fontFamily, renderSvg } from '@rldf/common/drawing/svg';
import type { StrengthPoint } from '../adapters/fuse.js';

export interface FusionReport {
  model: string;
  reward: string;
  unit: string;
  prompts: readonly string[];
  points: readonly StrengthPoint[];
}

const corners = [
  { label: 'neither', textEncoder: 0, unet: 0 },
  { label: 'text encoder', textEncoder: 1, unet: 0 },
  { label: 'U-Net', textEncoder: 0, unet: 1 },
  { label: 'both', textEncoder: 1, unet: 1 },
] as const;

/** Pictures of one prompt each that a cell of the grid shows. */
const shown = 4;

/** Writes `grid.png`, `surface.png` and `surface.json`, and gives their paths. */
export async function writeFusion(folder: string, report: FusionReport): Promise<string[]> {
  makeFolder(folder);
  const { points, prompts, ...rest } = report;
  const cells = corners.map(({ label, textEncoder, unet }) => {
    const point = points.find((one) => one.textEncoder === textEncoder && one.unet === unet) as StrengthPoint;
    const detail = `${report.reward} ${point.reward.mean.toFixed(3)}`;
    return { pictures: point.pictures.slice(0, shown), label, detail };
  });
  const title = prompts.slice(0, shown).join(' · ');
  const numbers = points.map(({ textEncoder, unet, reward, scores }) => ({
    textEncoder,
    unet,
    ...reward,
    scores,
  }));
  const files = {
    'grid.png': await contactSheet(cells, { columns: 2, title }),
    'surface.png': await renderSvg(surfaceSvg(report)),
    'surface.json': `${JSON.stringify({ ...rest, prompts, points: numbers }, null, 2)}\n`,
  };
  return Object.entries(files).map(([name, data]) => {
    const path = join(folder, name);
    replaceFile(path, data);
    return path;
  });
}

/** Text encoder from top to bottom, U-Net from left to right; darker is more reward. */
export function surfaceSvg({ points, reward, unit }: FusionReport): string {
  const strengths = [...new Set(points.map(({ unet }) => unet))];
  const values = points.map((point) => point.reward.mean);
  const [least, most] = [Math.min(...values), Math.max(...values)];
  const [cell, left, top] = [72, 110, 64];
  const edge = cell * strengths.length;
  const place = (strength: number) => strengths.indexOf(strength) * cell;
  const text = (x: number, y: number, content: string, fill = '#222', anchor = 'middle') =>
    `<text x="${x}" y="${y}" font-size="13" fill="${fill}" text-anchor="${anchor}">${escapeXml(content)}</text>`;
  const cells = points.map(({ textEncoder, unet, reward: { mean } }) => {
    const share = most > least ? (mean - least) / (most - least) : 0;
    const fill = `rgb(${[255 - 210 * share, 255 - 150 * share, 255 - 75 * share].map(Math.round).join(',')})`;
    const [x, y] = [left + place(unet), top + place(textEncoder)];
    return `<rect x="${x}" y="${y}" width="${cell - 2}" height="${cell - 2}" fill="${fill}"/>${text(x + cell / 2, y + cell / 2 + 5, mean.toFixed(3), share > 0.6 ? '#fff' : '#222')}`;
  });
  const ticks = strengths.flatMap((strength) => [
    text(left + place(strength) + cell / 2, top - 8, String(strength)),
    text(left - 10, top + place(strength) + cell / 2 + 5, String(strength), '#222', 'end'),
  ]);
  const titles = [
    text(12, 22, `mean ${reward}${unit === '' ? '' : ` (${unit})`}`, '#111', 'start'),
    text(left + edge / 2, 42, 'strength on the U-Net', '#666'),
    text(12, top - 8, 'text encoder', '#666', 'start'),
  ];
  const [width, height] = [Math.max(left + edge + 12, 320), top + edge + 12];
  return `<svg xmlns="http://www.w3.org/2000/svg" width="${width}" height="${height}" font-family="${fontFamily}"><rect width="100%" height="100%" fill="#fff"/>${[...titles, ...ticks, ...cells].join('')}</svg>`;
}
