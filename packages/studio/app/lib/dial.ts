/** Strengths of adapters as the place of a finger: one axis, or a pad of two. */

import type { AdapterAt, FileId } from '../../src/api.js';

type Part = 'unet' | 'textEncoder';

export interface Source {
  file: FileId;
  label: string;
  parts: Part[];
}

/** Along each axis some parts of some sources grow. */
export interface DialAxis {
  label: string;
  grows: { source: number; part: Part }[];
}

const words: Record<Part, string> = { unet: 'U-Net', textEncoder: 'text encoder' };

/** One adapter of one part has one axis; one of both parts has an axis for each; of two adapters each has one. */
export function dialAxes(sources: readonly Source[]): DialAxis[] {
  const all = (source: number) => sources[source]!.parts.map((part) => ({ source, part }));
  if (sources.length === 0) return [];
  if (sources.length > 1)
    return [0, 1].map((source) => ({ label: sources[source]!.label, grows: all(source) }));
  return sources[0]!.parts.map((part) => ({ label: words[part], grows: [{ source: 0, part }] }));
}

/** What is drawn with at a place of the dial. */
export function adaptersAt(sources: readonly Source[], place: readonly number[]): AdapterAt[] {
  const adapters = sources.map(({ file }): AdapterAt => ({ file, unet: 0, textEncoder: 0 }));
  for (const [i, { grows }] of dialAxes(sources).entries()) {
    for (const { source, part } of grows) adapters[source]![part] = place[i] ?? 0;
  }
  return adapters;
}

/** Places of the pad's corners: neither, the first, the second, both. On one axis: its marks. */
export function marksOf(axes: number): number[][] {
  if (axes === 1) return [0, 0.25, 0.5, 0.75, 1, 1.25, 1.5].map((x) => [x]);
  return [
    [0, 0],
    [1, 0],
    [0, 1],
    [1, 1],
  ];
}

/** A file name for an export: the run and the strengths. */
export function exportName(run: string, place: readonly number[]): string {
  const safe = run.replace(/[^A-Za-z0-9._-]+/g, '-').replace(/^-+|-+$/g, '') || 'adapter';
  return `${safe}-at-${place
    .map((x) =>
      x
        .toFixed(2)
        .replace(/\.?0+$/, '')
        .replace('-', 'minus'),
    )
    .join('-and-')}`;
}
