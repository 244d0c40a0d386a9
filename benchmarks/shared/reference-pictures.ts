// Pictures of the shipped model on which rewards are measured: always the same prompts and seeds.
import { promptScenes } from '@rldf/emoji-world';
import { generate, loadPipeline } from '@rldf/models';
import { cat, free, type Tensor } from '@rldf/torch';
import { findModel, type Reward } from 'rldf';
import { baseNouns } from 'rldf/pretrain';

const KINDS = ['single', 'colour', 'count', 'and', 'relation'] as const;
const PROMPTS_OF_KIND = 10;
export const PICTURES_OF_PROMPT = 6;

export interface ReferencePictures {
  prompts: string[];
  /** `PICTURES_OF_PROMPT` a prompt in a row, uint8 [N, H, W, 3]. */
  images: Tensor;
  description: string;
}

let drawn: Promise<ReferencePictures> | undefined;

/** Draws them, once a process, with the shipped model's own steps and guidance. */
export function drawReference(): Promise<ReferencePictures> {
  drawn ??= draw('emoji');
  return drawn;
}

async function draw(model: string): Promise<ReferencePictures> {
  const known = new Set(baseNouns);
  const prompts = KINDS.flatMap((kind) =>
    promptScenes('test', kind)
      .filter(({ scene }) => scene.objects.every(({ noun }) => known.has(noun)))
      .slice(0, PROMPTS_OF_KIND)
      .map(({ prompt }) => prompt),
  );
  const pipeline = loadPipeline(findModel(model).path);
  const { steps = 30, guidanceScale = 7.5 } = pipeline.defaults;
  const parts: Tensor[] = [];
  for (const [index, prompt] of prompts.entries()) {
    const { images, latents } = await generate(pipeline, {
      prompts: Array<string>(PICTURES_OF_PROMPT).fill(prompt),
      seeds: Array.from({ length: PICTURES_OF_PROMPT }, (_, i) => 8_000_000 + index * 100 + i),
      steps,
      guidanceScale,
    });
    latents.free();
    parts.push(images);
  }
  const images = cat(parts, 0);
  free(parts);
  return {
    prompts,
    images,
    description: `${model}, ${steps} steps, guidance ${guidanceScale}, ${prompts.length} test prompts of ${KINDS.join(', ')}`,
  };
}

/** One list of scores a prompt; only prompts that `fits`. */
export async function scoreReference(
  reward: Reward,
  { prompts, images }: ReferencePictures,
  fits: (prompt: string) => boolean = () => true,
): Promise<number[][]> {
  const scores: number[][] = [];
  for (const [index, prompt] of prompts.entries()) {
    if (!fits(prompt)) continue;
    const own = images.narrow(0, index * PICTURES_OF_PROMPT, PICTURES_OF_PROMPT).contiguous();
    const all = Array<string>(PICTURES_OF_PROMPT).fill(prompt);
    scores.push(await reward.score({ images: own, prompts: all, meta: all.map(() => null) }));
    own.free();
  }
  return scores;
}
