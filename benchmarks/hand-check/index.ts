// Do the detectors see on generated pictures what people see? 200 pictures are drawn and shown as numbered contact sheets
// without prompts (--output FOLDER, before any label exists). Two blind passes are written down in
// docs/results/hand-check/pass-{1,2}.tsv and committed; only then are the detectors compared with what both passes say.
// With --sheet a stranger names pictures instead: stranger.ts.
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { nouns, type SceneKind } from '@rldf/emoji-world';
import type { Detection } from '@rldf/models';
import { loadDetector, UserError } from 'rldf';
import { tensorOfPictures } from 'rldf/run';
import { type OptionsOf, text, whole } from '../shared/options.js';
import type { Result } from '../shared/rows.js';
import { wilson } from '../shared/statistics.js';
import { askedFor, drawAll, LABELS, modelHash, type Slice, writeSheets } from './pictures.js';
import { drawForStranger, scoreStranger } from './stranger.js';

/** The relations follow on those of the first check (of the second model, seed 7,000,000). */
const KINDS: Partial<Record<SceneKind, Slice>> = {
  relation: { start: 132, count: 100 },
  count: { start: 0, count: 20 },
  single: { start: 45, count: 40 },
  colour: { start: 0, count: 40 },
};
const SEED = 7_100_000;
/** Whose pictures the labels describe; those of the second model lie in docs/results/hand-check/second-model. */
const LABELLED = '7fbbba435a73';

/** What a picture shows: how many of each noun, and how the first of two nouns (by alphabet) stands to the other. */
interface Label {
  objects: string;
  relation: string;
}

const OPPOSITE: Record<string, string> = { left: 'right', right: 'left', above: 'below', below: 'above' };

/** Lines of `number TAB objects TAB relation`, such as `17	cat, dog	left`, `18	bee 3	-`, `19	?	-`. */
function readLabels(file: string, count: number): Label[] {
  const known = new Set(nouns.map(({ name }) => name));
  const labels: Label[] = [];
  for (const [row, line] of readFileSync(file, 'utf8').trim().split('\n').entries()) {
    const fail = (what: string): never => {
      throw new UserError(
        `${file}:${row + 1}: ${what} — number, tab, objects, tab, relation. Mend the line.`,
      );
    };
    const [number, objects = '', relation = ''] = line.split('\t');
    const named = objects === '?' || objects === '-' ? [] : objects.split(/,\s*/);
    const counted = named.map((text) => {
      const [, noun = '', times = '1'] = /^(.*?)(?: (\d+))?$/.exec(text.trim()) ?? [];
      return known.has(noun) || noun === '?' ? { noun, times } : fail(`"${noun}" is no noun of the world`);
    });
    if (!(relation === '-' || relation in OPPOSITE)) fail(`"${relation}" is no relation`);
    const turned = counted.length === 2 && counted[0]!.noun > counted[1]!.noun;
    labels[Number(number)] = {
      objects:
        counted
          .map(({ noun, times }) => `${noun} ${times}`)
          .sort()
          .join(', ') || objects,
      relation: turned ? (OPPOSITE[relation] ?? '-') : relation,
    };
  }
  for (let i = 0; i < count; i++)
    if (labels[i] === undefined) throw new UserError(`${file}: picture ${i} has no label — add its line.`);
  return labels;
}

/** How often a detector says what both passes say. */
interface Agreement {
  right: number;
  total: number;
  share: number;
  ci95: [number, number];
  /** Picture, kind of prompt, label, and what the detector says instead. */
  differences: string[];
}

/** The same of a detector's answer. The relation is that of the centres, along the axis on which they are further apart. */
function labelOf(detections: readonly Detection[]): Label {
  const counts = new Map<string, number>();
  for (const { label } of detections) counts.set(label, (counts.get(label) ?? 0) + 1);
  const objects = [...counts].map(([noun, count]) => `${noun} ${count}`).sort();
  const [a, b] = detections.toSorted((x, y) => (x.label < y.label ? -1 : 1));
  if (detections.length !== 2 || counts.size !== 2 || a === undefined || b === undefined)
    return { objects: objects.join(', ') || '-', relation: '-' };
  const [dx, dy] = [0, 1].map((axis) => centre(b, axis) - centre(a, axis)) as [number, number];
  const relation = Math.abs(dx) > Math.abs(dy) ? (dx > 0 ? 'left' : 'right') : dy > 0 ? 'above' : 'below';
  return { objects: objects.join(', '), relation };
}

const centre = ({ box }: Detection, axis: number) => (box[axis]! + box[axis + 2]!) / 2;

/** Cohen's kappa of two lists of categories. */
export function cohensKappa(a: readonly string[], b: readonly string[]): number {
  const n = a.length;
  const agreed = a.filter((value, i) => value === b[i]).length / n;
  const share = (list: readonly string[], value: string) => list.filter((one) => one === value).length / n;
  const chance = [...new Set([...a, ...b])].reduce(
    (sum, value) => sum + share(a, value) * share(b, value),
    0,
  );
  return chance === 1 ? 1 : (agreed - chance) / (1 - chance);
}

export const options = {
  output: text('FOLDER', 'draws the sheets that are to be labelled there, and ends'),
  sheet: text('SHEET', 'singles or pairs, which a stranger names: draws them, or compares answers and key'),
  seed: whole('of the sheets that a stranger names; default: 1'),
};

export async function run({ output, sheet, seed = 1, say }: OptionsOf<typeof options>): Promise<Result> {
  if (sheet !== undefined) {
    return output === undefined ? scoreStranger(sheet) : await drawForStranger(sheet, seed, output);
  }
  const asked = askedFor(KINDS, SEED, 'hand check');
  const pictures = await drawAll(
    asked.map(({ prompt }) => prompt),
    SEED,
  );
  if (output !== undefined) return { data: {}, text: await writeSheets(pictures, output) };
  if (modelHash() !== LABELLED) {
    throw new UserError(
      `hand-check: the labels are of pictures by the model ${LABELLED}, this one is ${modelHash()} — labels say what one model's pictures show. Draw sheets with --output FOLDER and label them anew.`,
    );
  }
  const files = [1, 2].map((pass) => join(LABELS, `pass-${pass}.tsv`));
  const missing = files.find((file) => !existsSync(file));
  if (missing !== undefined) {
    throw new UserError(
      `${missing}: missing — draw the sheets with --output FOLDER and label them blind first.`,
    );
  }
  const [first, second] = files.map((file) => readLabels(file, pictures.length)) as [Label[], Label[]];
  const kappa = {
    objects: cohensKappa(
      first.map(({ objects }) => objects),
      second.map(({ objects }) => objects),
    ),
    relation: cohensKappa(
      first.map(({ relation }) => relation),
      second.map(({ relation }) => relation),
    ),
  };
  const certain = (field: keyof Label) =>
    first.flatMap((label, i) =>
      label[field] === second[i]![field] &&
      !label.objects.includes('?') &&
      (field === 'objects' || label.relation !== '-')
        ? [i]
        : [],
    );
  const agreed = { objects: certain('objects'), relation: certain('relation') };
  const unnamed = asked.flatMap(({ prompt }, i) => (agreed.objects.includes(i) ? [] : [`${i}: ${prompt}`]));
  const images = tensorOfPictures(pictures);
  const detectors: Record<string, Record<string, Agreement>> = {};
  for (const name of ['detector', 'judge-detector'] as const) {
    const seen = loadDetector(name).detect(images).map(labelOf);
    detectors[name] = Object.fromEntries(
      (['objects', 'relation'] as const).map((field) => {
        const total = agreed[field].length;
        const differing = agreed[field].filter((i) => seen[i]![field] !== first[i]![field]);
        const right = total - differing.length;
        const differences = differing.map(
          (i) => `${i} (${asked[i]!.kind}): ${first[i]![field]}; detector: ${seen[i]![field]}`,
        );
        return [field, { right, total, share: right / total, ci95: wilson(right, total), differences }];
      }),
    );
    say(`${name}: ${JSON.stringify(detectors[name], null, 2)}`);
  }
  images.free();
  const percent = (x: number) => `${(100 * x).toFixed(1)} %`;
  const lines = Object.entries(detectors).flatMap(([name, fields]) =>
    Object.entries(fields).map(
      ([field, { right, total, share, ci95 }]) =>
        `${name}: ${field} as agreed by both passes in ${right} of ${total}, ${percent(share)} [${ci95.map(percent).join(', ')}]\n`,
    ),
  );
  return {
    data: { pictures: pictures.length, kappa, unnamed, detectors },
    text: `kappa of the two passes: objects ${kappa.objects.toFixed(3)}, relation ${kappa.relation.toFixed(3)}\n${lines.join('')}not named alike by both passes:\n${unnamed.join('\n')}\n`,
  };
}
