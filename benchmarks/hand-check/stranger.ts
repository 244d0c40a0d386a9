// Does a stranger see what was asked for? Pictures of single nouns or of pairs are shown as numbered sheets without words.
// What is seen is written into SHEET-answers.json and committed before SHEET-key.json, which drawing writes, is opened.
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { type SceneKind, subjectsOf } from '@rldf/emoji-world';
import { UserError } from 'rldf';
import type { Result } from '../shared/rows.js';
import { wilson } from '../shared/statistics.js';
import { askedFor, drawAll, LABELS, modelHash, type Slice, writeSheets } from './pictures.js';

/** Pairs are half "an X and a Y", half relations; they begin where the evaluation's first prompts of a kind end. */
const SHEETS: Record<string, Partial<Record<SceneKind, Slice>>> = {
  singles: { single: { start: 0, count: 124 } },
  pairs: { and: { start: 400, count: 50 }, relation: { start: 400, count: 50 } },
};
const PICTURES = 100;

interface Key {
  model: string;
  seed: number;
  pictures: { prompt: string; nouns: string[] }[];
}

const fileOf = (sheet: string, what: string) => join(LABELS, `${sheet}-${what}.json`);

/** Draws the sheets into `folder`, and their key beside the answers; prints no word of it. */
export async function drawForStranger(sheet: string, seed: number, folder: string): Promise<Result> {
  const asked = askedFor(slicesOf(sheet), seed, `stranger/${sheet}`).slice(0, PICTURES);
  const pictures = await drawAll(
    asked.map(({ prompt }) => prompt),
    seed,
  );
  const key: Key = {
    model: modelHash(),
    seed,
    pictures: asked.map(({ prompt, scene }) => ({
      prompt,
      nouns: subjectsOf(scene).map(({ noun }) => noun),
    })),
  };
  writeFileSync(fileOf(sheet, 'key'), rowsOf(key));
  return { data: {}, text: await writeSheets(pictures, folder) };
}

/** JSON with a picture on each line. */
function rowsOf({ pictures, ...head }: Key): string {
  const rows = pictures.map((picture) => `    ${JSON.stringify(picture)}`).join(',\n');
  return `${JSON.stringify(head, null, 2).slice(0, -2)},\n  "pictures": [\n${rows}\n  ]\n}\n`;
}

/** Compares SHEET-answers.json with SHEET-key.json, by the other names of other-names.json. */
export function scoreStranger(sheet: string): Result {
  slicesOf(sheet);
  const [key, answers, others] = [
    fileOf(sheet, 'key'),
    fileOf(sheet, 'answers'),
    join(LABELS, 'other-names.json'),
  ].map(read) as [Key, Record<string, string>, Record<string, string[]>];
  const unanswered = key.pictures.findIndex((_, i) => answers[i] === undefined);
  if (unanswered >= 0) {
    throw new UserError(
      `${fileOf(sheet, 'answers')}: picture ${unanswered} has no answer — every picture needs one. Write "?" for what cannot be named.`,
    );
  }
  const named = namedBy(key.pictures, answers, others);
  const [total, right] = [named.length, named.filter(({ all }) => all).length];
  const exact = named.filter(({ all, only }) => all && only).length;
  const ci95 = wilson(right, total);
  const wrong = named.filter(({ all, only }) => !(all && only));
  const percent = (x: number) => `${(100 * x).toFixed(1)} %`;
  return {
    data: { model: key.model, total, right, share: right / total, ci95, exact, wrong },
    text: [
      `${sheet}, model ${key.model}: everything named in ${right} of ${total}, ${percent(right / total)} [${ci95.map(percent).join(', ')}]; and nothing else in ${exact}\n`,
      ...wrong.map(({ picture, prompt, answer }) => `${picture}: "${prompt}" seen as: ${answer}\n`),
    ].join(''),
  };
}

/** Whether an answer (names with commas) names all nouns of its picture, and has as many names as there are nouns. */
export function namedBy(
  pictures: Key['pictures'],
  answers: Record<string, string>,
  others: Record<string, string[]>,
): { picture: number; prompt: string; answer: string; all: boolean; only: boolean }[] {
  return pictures.map(({ prompt, nouns }, picture) => {
    const answer = answers[picture] as string;
    const seen = answer.split(',').map((name) => name.trim());
    const all = nouns.every((noun) => [noun, ...(others[noun] ?? [])].some((name) => seen.includes(name)));
    return { picture, prompt, answer, all, only: seen.length === nouns.length };
  });
}

function slicesOf(sheet: string): Partial<Record<SceneKind, Slice>> {
  const found = SHEETS[sheet];
  if (found === undefined) {
    throw new UserError(
      `--sheet ${sheet}: there is no such sheet — one of ${Object.keys(SHEETS).join(', ')}.`,
    );
  }
  return found;
}

function read(file: string): unknown {
  if (!existsSync(file)) {
    throw new UserError(
      `${file}: missing — draw the sheets with --output FOLDER and write the answers first.`,
    );
  }
  return JSON.parse(readFileSync(file, 'utf8'));
}
