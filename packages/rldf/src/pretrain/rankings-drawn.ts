// Pictures of the base model among the ranked ones, well and badly drawn: with guidance, without, and in too few steps.
import { existsSync } from 'node:fs';
import { picturesOf } from '@rldf/common/base/picture';
import { baseNouns } from '@rldf/common/instruments/configs';
import { findModel } from '@rldf/common/instruments/models';
import { type HashRandom, promptScenes, type Scene, type SceneKind } from '@rldf/emoji-world';
import { generate, loadPipeline } from '@rldf/models';
import { cat, free, readSafetensors, scope, type Tensor, writeSafetensors } from '@rldf/torch';
import { type FlawedPicture, NO_FLAWS } from './rankings-flaws.js';

/** How a picture is drawn, and how blurred that leaves it by the rules. */
const SETTINGS = [
  { steps: 14, guidanceScale: 3, eta: 0, blur: 0 },
  { steps: 14, guidanceScale: 3, eta: 1, blur: 0.2 },
  { steps: 14, guidanceScale: 1, eta: 0, blur: 0.5 },
  { steps: 4, guidanceScale: 3, eta: 0, blur: 0.6 },
] as const;

const PROMPTS: readonly (readonly [SceneKind, number])[] = [
  ['single', 80],
  ['colour', 30],
  ['and', 30],
  ['relation', 30],
];

/** Chooses among the pictures of a cache. */
export interface DrawnPictures {
  /** A scene that pictures were drawn for. */
  choose(random: HashRandom): Scene;
  /** One of its pictures, or one of another scene's with another noun. */
  picture(scene: Scene, random: HashRandom): FlawedPicture;
}

/** How often the picture for another prompt is shown instead. */
const SHARE_OF_OTHERS = 0.3;

/** Draws the pictures with the model, once: `file` keeps them. */
export async function drawPictures(
  model: string,
  file: string,
  seed: number,
  log: (line: string) => void,
): Promise<DrawnPictures> {
  const scenes = scenesToDraw();
  if (!existsSync(file)) {
    const pipeline = loadPipeline(findModel(model).path);
    const parts: Tensor[] = [];
    for (const [round, { blur: _, ...settings }] of SETTINGS.entries()) {
      for (let start = 0; start < scenes.length; start += 34) {
        const prompts = scenes.slice(start, start + 34).map(({ prompt }) => prompt);
        const seeds = prompts.map((_, i) => seed * 1e5 + round * 1e3 + start + i);
        const { images, latents } = await generate(pipeline, { prompts, seeds, ...settings });
        latents.free();
        parts.push(images);
      }
      log(`drew ${(round + 1) * scenes.length} pictures`);
    }
    scope(() => writeSafetensors(file, new Map([['images', cat(parts, 0)]])));
    free(parts);
  }
  const images = readSafetensors(file).tensors.get('images') as Tensor;
  const pictures = picturesOf(images).map(({ data }) => data);
  images.free();
  return choosing(
    scenes.map(({ scene }) => scene),
    pictures,
  );
}

function scenesToDraw() {
  const known = new Set(baseNouns);
  return PROMPTS.flatMap(([kind, count]) =>
    promptScenes('train', kind)
      .filter(({ scene }) => scene.objects.every(({ noun }) => known.has(noun)))
      .slice(0, count),
  );
}

function choosing(scenes: readonly Scene[], pictures: readonly Uint8Array[]): DrawnPictures {
  const indexOf = new Map(scenes.map((scene, i) => [scene, i]));
  const nounsOf = (scene: Scene) => scene.objects.map(({ noun }) => noun);
  return {
    choose: (random) => random.choice(scenes),
    picture(scene, random) {
      const other = random.chance(SHARE_OF_OTHERS) ? random.choice(scenes) : scene;
      const round = random.integer(SETTINGS.length);
      const asked = nounsOf(scene);
      const shown = nounsOf(other);
      const wrong = asked.filter((noun) => !shown.includes(noun)).length / asked.length;
      const missing = Math.max(0, asked.length - shown.length) / asked.length;
      const index = round * scenes.length + (indexOf.get(other) as number);
      return {
        picture: pictures[index] as Uint8Array,
        flaws: {
          ...NO_FLAWS,
          wrong: Math.max(0, wrong - missing),
          missing,
          blur: SETTINGS[round]?.blur as number,
          generated: 1,
        },
      };
    },
  };
}
