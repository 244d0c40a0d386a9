// How well the shipped model draws each animal: 32 fixed seeds of "a cat" for each of the 51, judged among all nouns by a
// classifier that was trained on real scenes only and shares nothing with CLIP. Writes contact sheets.
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { nounOf, paperAnimals, unseenAnimals } from '@rldf/emoji-world';
import { generate, loadPipeline } from '@rldf/models';
import { free, scope, type Tensor } from '@rldf/torch';
import { findModel } from '../packages/rldf/src/models.js';
import { measureClassifier, NounClassifier } from '../packages/rldf/src/pretrain/classifier.js';
import { writeSheet } from '../packages/rldf/src/pretrain/scenes.js';
import { wilson } from './statistics.js';

export interface BaseModelOptions {
  model?: string;
  judge: string;
  pictures?: number;
  steps?: number;
  guidanceScale?: number;
  output?: string;
}

export interface AnimalScore {
  eta: number;
  right: number;
  total: number;
  share: number;
  /** Wilson interval over pictures. */
  ci95: [number, number];
  byAnimal: Record<string, number>;
}

export async function baseModel(
  options: BaseModelOptions,
): Promise<{ judge: { single: number; all: number }; scores: AnimalScore[] }> {
  const pipeline = loadPipeline(findModel(options.model ?? 'emoji').path);
  const classifier = NounClassifier.load(options.judge);
  const judge = await measureClassifier(classifier, 777);
  const animals = [...paperAnimals, ...unseenAnimals];
  const pictures = options.pictures ?? 32;
  const scores: AnimalScore[] = [];
  for (const eta of [0, 1]) {
    const byAnimal: Record<string, number> = {};
    const shown: Uint8Array[] = [];
    for (const { name } of animals) {
      const { article, singular } = nounOf(name);
      const prompts = Array<string>(pictures).fill(`${article} ${singular}`);
      const seeds = prompts.map((_, i) => i);
      const settings = {
        ...(options.steps === undefined ? {} : { steps: options.steps }),
        ...(options.guidanceScale === undefined ? {} : { guidanceScale: options.guidanceScale }),
      };
      const drawn = await generate(pipeline, { prompts, seeds, eta, ...settings });
      const names = scope(() => classifier.classify(asImages(drawn.images)));
      byAnimal[name] = names.filter((found) => found === name).length;
      shown.push(...rows(drawn.images).slice(0, 4));
      free(drawn);
    }
    const right = Object.values(byAnimal).reduce((sum, count) => sum + count, 0);
    const total = animals.length * pictures;
    scores.push({ eta, right, total, share: right / total, ci95: wilson(right, total), byAnimal });
    if (options.output !== undefined) {
      mkdirSync(options.output, { recursive: true });
      await writeSheet(join(options.output, `animals-eta${eta}.png`), shown, 12);
    }
  }
  return { judge, scores };
}

/** uint8 [B, H, W, 3] -> [B, 3, H, W] in [-1, 1] */
const asImages = (images: Tensor) =>
  images.permute([0, 3, 1, 2]).to('float32').div(127.5).sub(1).contiguous();

function rows(images: Tensor): Uint8Array[] {
  const [count = 0] = images.shape;
  const flat = images.bytes();
  return Array.from({ length: count }, (_, i) =>
    flat.slice((i * flat.length) / count, ((i + 1) * flat.length) / count),
  );
}
