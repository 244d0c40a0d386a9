// How well the shipped model draws each animal: 32 fixed seeds of "a cat" for each of the 51, judged among all nouns by a
// classifier that was trained on real scenes only and shares nothing with CLIP. Writes contact sheets.
import { mkdirSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { nounOf, paperAnimals, unseenAnimals } from '@rldf/emoji-world';
import { generate, loadPipeline } from '@rldf/models';
import { free, scope, type Tensor } from '@rldf/torch';
import { findModel, picturesOf } from 'rldf';
import { measureClassifier, NounClassifier, writeSheet } from 'rldf/pretrain';
import { type OptionsOf, output, whole } from '../shared/options.js';
import type { Result } from '../shared/rows.js';
import { wilson } from '../shared/statistics.js';

export interface AnimalScore {
  eta: number;
  right: number;
  total: number;
  share: number;
  /** Wilson interval over pictures. */
  ci95: [number, number];
  byAnimal: Record<string, number>;
}

export const options = { output, pictures: whole('of each animal; default: 32') };

export async function run({ output, say, pictures = 32 }: OptionsOf<typeof options>): Promise<Result> {
  const model = findModel('emoji').path;
  const pipeline = loadPipeline(model);
  const classifier = NounClassifier.load(join(dirname(model), 'instruments', 'judge.safetensors'));
  const judge = await measureClassifier(classifier, 777);
  say(
    `judge on held-out real scenes: ${percent(judge.single)} of plain ones, ${percent(judge.all)} with colours, backgrounds and styles`,
  );
  const animals = [...paperAnimals, ...unseenAnimals];
  const scores: AnimalScore[] = [];
  for (const eta of [0, 1]) {
    const byAnimal: Record<string, number> = {};
    const shown: Uint8Array[] = [];
    for (const { name } of animals) {
      const { article, singular } = nounOf(name);
      const prompts = Array<string>(pictures).fill(`${article} ${singular}`);
      const seeds = prompts.map((_, i) => i);
      const drawn = await generate(pipeline, { prompts, seeds, eta });
      const names = scope(() => classifier.classify(asImages(drawn.images)));
      byAnimal[name] = names.filter((found) => found === name).length;
      shown.push(
        ...picturesOf(drawn.images)
          .slice(0, 4)
          .map(({ data }) => data),
      );
      free(drawn);
    }
    const right = Object.values(byAnimal).reduce((sum, count) => sum + count, 0);
    const total = animals.length * pictures;
    scores.push({ eta, right, total, share: right / total, ci95: wilson(right, total), byAnimal });
    say(`eta ${eta}: ${percent(right / total)}`);
    if (output !== undefined) {
      mkdirSync(output, { recursive: true });
      await writeSheet(join(output, `animals-eta${eta}.png`), shown, 12);
    }
  }
  const text = scores.map(({ eta, right, total, share, ci95: [low, high], byAnimal }) => {
    const worst = Object.entries(byAnimal)
      .sort(([, a], [, b]) => a - b)
      .slice(0, 8);
    return `eta ${eta}: ${right} of ${total} right, ${percent(share)} [${percent(low)}, ${percent(high)}]; hardest: ${worst.map(([name, count]) => `${name} ${count}/${pictures}`).join(', ')}\n`;
  });
  return { data: { judge, scores }, text: text.join('') };
}

const percent = (share: number) => `${(100 * share).toFixed(1)} %`;

/** uint8 [B, H, W, 3] -> [B, 3, H, W] in [-1, 1] */
const asImages = (images: Tensor) =>
  images.permute([0, 3, 1, 2]).to('float32').div(127.5).sub(1).contiguous();
