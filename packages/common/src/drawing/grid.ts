/** Contact sheets: pictures in a grid with labels. */

import { InternalError } from '@rldf/torch/errors';
import sharp from 'sharp';
import type { Picture } from '../base/picture.js';
import { escapeXml, fontFamily, renderSvg } from './svg.js';

export interface GridCell {
  /** Shown side by side within the cell, such as before and after. */
  pictures: Picture[];
  /** Line below the pictures, such as the prompt; cut off where it does not fit. */
  label: string;
  /** Second, smaller line, such as the scores. */
  detail?: string;
}

export interface GridOptions {
  title?: string;
  /** Cells in a row; default: about as wide as high. */
  columns?: number;
  /** Edge of a picture in pixels; small ones are enlarged with sharp pixels. */
  pictureSize?: number;
}

const margin = 16;
const gap = 10;
const labelHeight = 18;

/** Draws the sheet as a PNG file. */
export async function contactSheet(cells: readonly GridCell[], options: GridOptions = {}): Promise<Buffer> {
  const first = cells[0]?.pictures[0];
  if (first === undefined) throw new InternalError('contactSheet: no pictures given');
  const across = Math.max(...cells.map(({ pictures }) => pictures.length));
  const columns = Math.min(
    cells.length,
    options.columns ?? Math.max(1, Math.round(Math.sqrt(cells.length / across) * 1.3)),
  );
  const rows = Math.ceil(cells.length / columns);
  const size =
    options.pictureSize ??
    (first.width <= 128 ? first.width * Math.max(1, Math.round(128 / first.width)) : 192);
  const pictureHeight = Math.round((size * first.height) / first.width);
  const hasDetail = cells.some(({ detail }) => detail !== undefined);
  const titleHeight = options.title === undefined ? 0 : 34;
  const cellWidth = across * size + (across - 1) * 2;
  const cellHeight = pictureHeight + labelHeight * (hasDetail ? 2 : 1) + 4;
  const width = 2 * margin + columns * cellWidth + (columns - 1) * gap;
  const height = 2 * margin + titleHeight + rows * cellHeight + (rows - 1) * gap;
  const tiles: { input: Buffer; left: number; top: number }[] = [];
  const texts: string[] = [];
  const text = (x: number, y: number, fontSize: number, fill: string, content: string, room: number) => {
    const shown = shortened(content, Math.floor(room / (fontSize * 0.58)));
    texts.push(`<text x="${x}" y="${y}" font-size="${fontSize}" fill="${fill}">${escapeXml(shown)}</text>`);
  };
  if (options.title !== undefined) text(margin, margin + 18, 18, '#111', options.title, width - 2 * margin);
  for (const [index, { pictures, label, detail }] of cells.entries()) {
    const left = margin + (index % columns) * (cellWidth + gap);
    const top = margin + titleHeight + Math.floor(index / columns) * (cellHeight + gap);
    for (const [position, picture] of pictures.entries()) {
      const input = await resized(picture, size, pictureHeight);
      tiles.push({ input, left: left + position * (size + 2), top });
    }
    text(left, top + pictureHeight + 14, 12, '#222', label, cellWidth);
    if (detail !== undefined)
      text(left, top + pictureHeight + 14 + labelHeight, 11, '#666', detail, cellWidth);
  }
  const svg = `<svg xmlns="http://www.w3.org/2000/svg" width="${width}" height="${height}" font-family="${fontFamily}">${texts.join('')}</svg>`;
  const labels = { input: await renderSvg(svg), left: 0, top: 0 };
  return sharp({ create: { width, height, channels: 3, background: '#ffffff' } })
    .composite([...tiles, labels])
    .png()
    .toBuffer();
}

async function resized(
  { width, height, channels, data }: Picture,
  toWidth: number,
  toHeight: number,
): Promise<Buffer> {
  const enlarging = toWidth >= width;
  return sharp(data, { raw: { width, height, channels } })
    .resize(toWidth, toHeight, { kernel: enlarging ? 'nearest' : 'lanczos3', fit: 'fill' })
    .png()
    .toBuffer();
}

function shortened(text: string, letters: number): string {
  const characters = [...text];
  return characters.length <= letters ? text : `${characters.slice(0, Math.max(1, letters - 1)).join('')}…`;
}
