/**
 * GenEval (Ghosh et al. 2023, arXiv 2310.11513): are the objects there that a line of the prompt file asks for, as often, in the
 * colours and places? Over any detector; the rules of its published evaluation.
 */

import type { Picture } from '@rldf/common/base/picture';
import { picturesOf } from '@rldf/common/base/picture';
import type { BoxEdges, Detection, Detector } from '@rldf/models';
import type { Tensor } from '@rldf/torch';
import { shown, UserError } from '@rldf/torch/errors';
import { wordsOf } from '../prompts/label-nouns.js';
import type { Reward } from './reward.js';

export const genevalRelations = ['left of', 'right of', 'above', 'below'] as const;
export type GenevalRelation = (typeof genevalRelations)[number];

/** What a line asks to be there. */
export interface GenevalObject {
  class: string;
  count: number;
  color?: string;
  /** Where it is, seen from the object with this number in `include`. */
  position?: [GenevalRelation, number];
}

/** A line of `evaluation_metadata.jsonl`, besides its prompt. */
export interface GenevalTask {
  tag: string;
  include: GenevalObject[];
  /** So many of a class, or more, are too many. */
  exclude?: { class: string; count: number }[];
}

export interface GenevalVerdict {
  /** All of it. */
  correct: boolean;
  /** Share of what is asked: numbers, colours, places, and that there are not too many. */
  share: number;
  /** What is wrong, in words. */
  reasons: string[];
}

/** The ten colours that its prompts name. */
export const genevalColours = ['red', 'orange', 'yellow', 'green', 'blue', 'purple', 'pink', 'brown', 'black', 'white']; // biome-ignore format: one thought

/** Least scores of a detection, as published: objects that are counted must be certain. */
const least = { any: 0.3, counting: 0.9 };
/** How far two boxes must be apart, as a share of their sizes. */
const margin = 0.1;

/**
 * Reads what a prompt file says of a prompt.
 * @throws UserError naming the prompt, where it is not of GenEval's form
 */
export function genevalTask(meta: unknown, prompt: string): GenevalTask {
  const wrong = (what: string) =>
    new UserError(
      `geneval: "${prompt}": ${what} — each line of the prompt file looks like {"tag": "position", "include": [{"class": "dog", "count": 1}, {"class": "cat", "count": 1, "color": "red", "position": ["left of", 0]}], "prompt": ...}. Use GenEval’s evaluation_metadata.jsonl, or one of its form`,
    );
  const { tag, include, exclude = [] } = (meta ?? {}) as Record<string, unknown>;
  if (!Array.isArray(include) || include.length === 0)
    throw wrong('does not say what is to be there (include)');
  const isCount = (count: unknown) => Number.isSafeInteger(count) && (count as number) > 0;
  if (!Array.isArray(exclude) || exclude.some((one) => typeof one?.class !== 'string' || !isCount(one.count)))
    throw wrong('exclude is no list of { class, count }');
  for (const [i, one] of (include as Record<string, unknown>[]).entries()) {
    if (typeof one?.class !== 'string') throw wrong(`include[${i}] has no class`);
    if (!isCount(one.count)) throw wrong(`include[${i}].count is ${shown(one.count)}`);
    if (one.color !== undefined && !genevalColours.includes(one.color as string))
      throw wrong(`include[${i}].color is ${shown(one.color)}, not one of ${genevalColours.join(', ')}`);
    const { position } = one;
    if (position === undefined || position === null) continue;
    const [relation, target] = Array.isArray(position) ? position : [];
    if (!genevalRelations.includes(relation) || !Number.isSafeInteger(target) || target < 0 || target >= i)
      throw wrong(
        `include[${i}].position is ${shown(position)}: a relation and the number of an object before it`,
      );
  }
  return { tag: typeof tag === 'string' ? tag : 'all', include, exclude } as GenevalTask;
}

/** Names the colour of what a box holds. */
export type ColourNamer = (picture: Picture, detection: Detection) => string | undefined;

/** @param labelOf the detector's label for a class; @param colourOf asked only where a colour is */
export function genevalVerdict(
  { tag, include, exclude = [] }: GenevalTask,
  detections: readonly Detection[],
  labelOf: (name: string) => string,
  colourOf: (detection: Detection) => string | undefined,
): GenevalVerdict {
  const threshold = tag === 'counting' ? least.counting : least.any;
  const found = (name: string) =>
    detections
      .filter(({ label, score }) => label === labelOf(name) && score > threshold)
      .toSorted((a, b) => b.score - a.score);
  const shares: number[] = [];
  const reasons: string[] = [];
  const check = (share: number, reason: string) => {
    shares.push(share);
    if (share < 1) reasons.push(reason);
    return share === 1;
  };
  const groups: (Detection[] | undefined)[] = [];
  for (const { class: name, count, color, position } of include) {
    const objects = found(name).slice(0, count);
    let right = check(objects.length / count, `${objects.length} of ${count} ${name}`);
    if (color !== undefined) {
      const coloured = objects.filter((one) => colourOf(one) === color).length;
      right = check(coloured / count, `${coloured} of ${count} ${name} ${color}`) && right;
    }
    if (position != null) {
      const [relation, target] = position;
      const others = groups[target];
      const holds =
        right &&
        others !== undefined &&
        objects.every((one) => others.every((other) => relationsOf(one.box, other.box).includes(relation)));
      const reason = others === undefined ? `no ${include[target]!.class} to be ${relation}` : `${name} not ${relation} ${include[target]!.class}`; // biome-ignore format: one thought
      check(Number(holds), reason);
    }
    groups.push(right ? objects : undefined);
  }
  for (const { class: name, count } of exclude) {
    const number = found(name).length;
    check(Number(number < count), `${number} ${name}, ${count} are too many`);
  }
  return {
    correct: reasons.length === 0,
    share: shares.reduce((sum, share) => sum + share, 0) / shares.length,
    reasons,
  };
}

/** Where a box is, seen from another: none where they are too near, two at most. */
export function relationsOf(a: BoxEdges, b: BoxEdges): GenevalRelation[] {
  const axis = (low: 0 | 1, high: 2 | 3) => {
    const offset = (a[low] + a[high] - b[low] - b[high]) / 2;
    const sizes = Math.abs(a[high] - a[low]) + Math.abs(b[high] - b[low]);
    return { offset, apart: Math.max(0, Math.abs(offset) - margin * sizes) * Math.sign(offset) };
  };
  const [x, y] = [axis(0, 2), axis(1, 3)];
  if (Math.abs(x.apart) < 1e-3 && Math.abs(y.apart) < 1e-3) return [];
  const length = Math.hypot(x.offset, y.offset);
  const [dx, dy] = [x.apart / length, y.apart / length];
  return [
    ...(dx < -0.5 ? ['left of' as const] : dx > 0.5 ? ['right of' as const] : []),
    ...(dy < -0.5 ? ['above' as const] : dy > 0.5 ? ['below' as const] : []),
  ];
}

/**
 * The colour of most pixels in the middle of a box (an ellipse of half its width and height), by hue, saturation and value.
 * GenEval asks CLIP instead, about the object cut out.
 */
export function pixelColour(picture: Picture, { box: [x0, y0, x1, y1] }: Detection): string | undefined {
  const votes = new Map<string, number>();
  const [cx, cy, rx, ry] = [(x0 + x1) / 2, (y0 + y1) / 2, (x1 - x0) / 4, (y1 - y0) / 4];
  for (let y = Math.max(0, Math.floor(cy - ry)); y < Math.min(picture.height, Math.ceil(cy + ry)); y++) {
    for (let x = Math.max(0, Math.floor(cx - rx)); x < Math.min(picture.width, Math.ceil(cx + rx)); x++) {
      if (((x + 0.5 - cx) / rx) ** 2 + ((y + 0.5 - cy) / ry) ** 2 > 1) continue;
      const at = (y * picture.width + x) * 3;
      const name = colourName(picture.data[at]!, picture.data[at + 1]!, picture.data[at + 2]!);
      if (name !== undefined) votes.set(name, (votes.get(name) ?? 0) + 1);
    }
  }
  return [...votes].toSorted((a, b) => b[1] - a[1])[0]?.[0];
}

/** Undefined for grey. */
export function colourName(r: number, g: number, b: number): string | undefined {
  const most = Math.max(r, g, b);
  const range = most - Math.min(r, g, b);
  const [value, saturation] = [most / 255, most === 0 ? 0 : range / most];
  if (value < 0.2) return 'black';
  if (saturation < 0.15) return value > 0.8 ? 'white' : value < 0.3 ? 'black' : undefined;
  const turn =
    most === r ? ((g - b) / range + 6) % 6 : most === g ? (b - r) / range + 2 : (r - g) / range + 4;
  const hue = turn * 60;
  if (hue < 15 || hue >= 345)
    return saturation < 0.55 && value > 0.75 ? 'pink' : value < 0.45 ? 'brown' : 'red';
  if (hue < 40) return value < 0.7 ? 'brown' : 'orange';
  if (hue < 70) return value < 0.45 ? 'brown' : 'yellow';
  if (hue < 165) return 'green';
  if (hue < 255) return 'blue';
  if (hue < 295) return 'purple';
  return saturation < 0.75 || hue >= 320 ? 'pink' : 'purple';
}

/** The detector's label for each class of a task. @throws UserError for one that it does not know */
export function labelsFor(detector: Pick<Detector, 'labels'>): (name: string) => string {
  const words = wordsOf(detector.labels);
  return (name) => {
    const found = words.get(name.toLowerCase())?.label;
    if (found !== undefined) return found;
    throw new UserError(
      `geneval: the detector has no label for the class ${name} — its ${detector.labels.length} labels begin with ${detector.labels.slice(0, 5).join(', ')}. Use another detector, or leave such prompts out`,
    );
  };
}

/** Whether a detector has labels for all that a task names. */
export function canTell(task: GenevalTask, detector: Pick<Detector, 'labels'>): boolean {
  const words = wordsOf(detector.labels);
  return [...task.include, ...(task.exclude ?? [])].every((one) => words.has(one.class.toLowerCase()));
}

/** Verdicts on pictures. @param metas what the prompt file says of each prompt */
export async function genevalVerdicts(
  detector: Detector,
  images: Tensor,
  prompts: readonly string[],
  metas: readonly unknown[],
): Promise<(GenevalVerdict & { detections: Detection[] })[]> {
  const tasks = prompts.map((prompt, i) => genevalTask(metas[i], prompt));
  const labelOf = labelsFor(detector);
  for (const { include, exclude = [] } of tasks)
    for (const one of [...include, ...exclude]) labelOf(one.class);
  const found = await detector.detect(images, { threshold: least.any });
  const pictures = tasks.some(({ include }) => include.some(({ color }) => color)) ? picturesOf(images) : [];
  return found.map((detections, i) => ({
    ...genevalVerdict(tasks[i]!, detections, labelOf, (one) => pixelColour(pictures[i]!, one)),
    detections,
  }));
}

/** 1 where a picture is all that its line of the prompt file asks for; with `shares`, how much of it. */
export function geneval(detector: Detector, { shares = false } = {}): Reward {
  return {
    name: shares ? 'composition' : 'geneval',
    unit: '',
    ...(detector.licence !== undefined && { licence: detector.licence }),
    ...(detector.ready && { ready: () => detector.ready!() }),
    async score({ images, prompts, meta }) {
      const verdicts = await genevalVerdicts(detector, images, prompts, meta);
      return verdicts.map(({ correct, share }) => (shares ? share : Number(correct)));
    },
  };
}
