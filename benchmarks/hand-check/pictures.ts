import { createHash } from 'node:crypto';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { type PromptScene, promptScenes, type SceneKind } from '@rldf/emoji-world';
import { generate, loadPipeline } from '@rldf/models';
import { free, noiseKey, Random } from '@rldf/torch';
import { contactSheet, findModel, type Picture, picturesOf } from 'rldf';

/** Where labels, answers and keys are committed. */
export const LABELS = fileURLToPath(new URL('../../docs/results/hand-check/', import.meta.url));
const SHEET = 20;
const AT_ONCE = 50;

/** From the test prompts of a kind, in their shuffled order: `count` of them after the first `start`. */
export interface Slice {
  start: number;
  count: number;
}

export interface Asked extends PromptScene {
  kind: SceneKind;
}

/** The prompts of all slices, shuffled, so that neither place nor neighbour says of which kind a picture is. */
export function askedFor(slices: Partial<Record<SceneKind, Slice>>, seed: number, purpose: string): Asked[] {
  const all = Object.entries(slices).flatMap(([kind, { start, count }]) =>
    promptScenes('test', kind as SceneKind)
      .slice(start, start + count)
      .map((one) => ({ ...one, kind: kind as SceneKind })),
  );
  return new Random(noiseKey(seed, purpose)).shuffle(all);
}

/** One picture of each prompt by the base model, as it draws by default; picture i has the seed `seed + i`. */
export async function drawAll(prompts: readonly string[], seed: number): Promise<Picture[]> {
  const pipeline = loadPipeline(findModel('emoji').path);
  const pictures: Picture[] = [];
  for (let start = 0; start < prompts.length; start += AT_ONCE) {
    const some = prompts.slice(start, start + AT_ONCE);
    const drawn = await generate(pipeline, { prompts: some, seeds: some.map((_, i) => seed + start + i) });
    pictures.push(...picturesOf(drawn.images));
    free(drawn);
  }
  return pictures;
}

/** Numbered pictures, four times enlarged, without a word. */
export async function writeSheets(pictures: readonly Picture[], folder: string): Promise<string> {
  mkdirSync(folder, { recursive: true });
  for (let start = 0; start < pictures.length; start += SHEET) {
    const cells = pictures.slice(start, start + SHEET).map((picture, i) => ({
      pictures: [picture],
      label: String(start + i),
    }));
    const sheet = await contactSheet(cells, { columns: 5, pictureSize: 256 });
    writeFileSync(join(folder, `sheet-${String(start / SHEET).padStart(2, '0')}.png`), sheet);
  }
  return `${pictures.length} pictures on ${Math.ceil(pictures.length / SHEET)} sheets in ${folder}\n`;
}

/** The first twelve digits by which docs/results/README.md tells models apart. */
export function modelHash(): string {
  const weights = readFileSync(join(findModel('emoji').path, 'unet', 'diffusion_pytorch_model.safetensors'));
  return createHash('sha256').update(weights).digest('hex').slice(0, 12);
}
