/** `rldf rewards check NAME`: whether an installation computes a published reward as its own code does. */

import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { type Picture, tensorOfPictures } from '@rldf/common/base/picture';
import { readJson } from '@rldf/models';
import { type Device, grad, noGrad, readSafetensors, scope, type Tensor } from '@rldf/torch';
import { UserError } from '@rldf/torch/errors';
import sharp from 'sharp';
import type { PublishedReward } from '../config/fields.js';
import { loadPublished } from './published.js';
import { rewardAssets, tinyWeights } from './published-names.js';
import type { Reward } from './reward.js';

const folder = rewardAssets;

/** One thing that was checked. */
export interface RewardCheck {
  what: string;
  /** Undefined where there is nothing to compare with. */
  pass: boolean | undefined;
  detail: string;
}

export interface CheckedReward {
  reward: string;
  checks: RewardCheck[];
  /** Of the stored pictures, by the weights that were checked. */
  scores: { prompt: string; score: number }[];
}

/** Of the largest stored score. */
const TOLERANCE = 1e-4;
/** Of slopes, in single precision. */
const SLOPE = 0.03;

/**
 * Scores the stored pictures by the tiny weights and compares with what each project's own preprocessing, tokenizer and
 * network gave them; then, by the weights that are asked for, that both functions of the reward agree, that gradients are
 * those of finite differences, and what is known of published examples.
 * @param examples folder of the project's own example pictures, where their scores are published
 */
export async function checkReward(
  spec: PublishedReward,
  { device = 'cpu', examples }: { device?: Device; examples?: string | undefined } = {},
): Promise<CheckedReward> {
  const { prompts, scores: stored } = readJson(join(folder, 'vectors.json')) as {
    prompts: string[];
    scores: Record<string, number[]>;
  };
  const pictures = [...readSafetensors(join(folder, 'pictures.safetensors')).tensors].map(([, data]) => pictureOf(data)); // biome-ignore format: one thought
  const tiny = loadPublished(tinyWeights(spec.name), device);
  const expected = stored[spec.name] as number[];
  const found = await scoresOf(tiny, pictures, prompts);
  const scale = Math.max(...expected.map(Math.abs));
  const error = Math.max(...expected.map((score, i) => Math.abs(score - found[i]!))) / scale;
  const checks: RewardCheck[] = [
    {
      what: 'tiny weights against the project’s own code',
      pass: error <= TOLERANCE,
      detail: `largest difference ${error.toExponential(1)} of the largest score (at most ${TOLERANCE.toExponential(0)})`,
    },
    slopeCheck('gradient of the tiny weights', tiny, pictures, prompts),
  ];
  if (spec.weights === 'tiny') return { reward: spec.name, checks, scores: listed(prompts, found) };
  const reward = loadPublished(spec, device);
  const scores = await scoresOf(reward, pictures, prompts);
  checks.push(
    {
      what: 'your weights: scores',
      pass: scores.every(Number.isFinite),
      detail: `${scores.map((score) => score.toPrecision(4)).join(', ')} for the stored pictures`,
    },
    slopeCheck('your weights: gradient', reward, pictures, prompts),
    await exampleCheck(spec.name, reward, examples),
  );
  return { reward: spec.name, checks, scores: listed(prompts, scores) };
}

const listed = (prompts: readonly string[], scores: readonly number[]) =>
  prompts.map((prompt, i) => ({ prompt, score: scores[i] as number }));

function pictureOf(data: Tensor): Picture {
  const [height, width] = data.shape as [number, number, number];
  return { width, height, channels: 3, data: data.toArray() as Uint8Array };
}

/** Pictures of different sizes, one by one. */
async function scoresOf(
  reward: Reward,
  pictures: readonly Picture[],
  prompts: readonly string[],
): Promise<number[]> {
  const scores: number[] = [];
  for (const [i, picture] of pictures.entries()) {
    const images = tensorOfPictures([picture]);
    scores.push(...(await reward.score({ images, prompts: [prompts[i] as string], meta: [null] })));
    images.free();
  }
  return scores;
}

/** Along the gradient at the second picture. */
function slopeCheck(
  what: string,
  { differentiable }: Reward,
  pictures: readonly Picture[],
  prompts: readonly string[],
): RewardCheck {
  const images = tensorOfPictures(pictures.slice(1, 2));
  const own = prompts.slice(1, 2);
  const [slope, norm] = scope(() => {
    // away from black and white, where what PIL cuts off has no slope
    const images01 = images.permute([0, 3, 1, 2]).to('float32').div(255).mul(0.5).add(0.25).requiresGrad_(); // [1, 3, H, W]
    const [gradient] = grad(differentiable!(images01, own).sum(), [images01]) as [Tensor];
    const length = gradient.norm().item();
    const at = (by: number) =>
      noGrad(() =>
        differentiable!(images01.detach().add(gradient, by / length), own)
          .sum()
          .item(),
      );
    const central = (h: number) => (at(h) - at(-h)) / (2 * h);
    return [(4 * central(0.02) - central(0.04)) / 3, length] as const;
  });
  images.free();
  const error = Math.abs(slope / norm - 1);
  return {
    what,
    pass: norm > 0 && error < SLOPE,
    detail: `differs from finite differences by ${(100 * error).toFixed(2)} % (at most ${100 * SLOPE} %)`,
  };
}

/** Scores that projects print of their own example pictures. */
const published: {
  readonly [name: string]: { prompt: string; files: string[]; scores: number[]; source: string };
} = {
  imagereward: {
    prompt: 'a painting of an ocean with clouds and birds, day time, low depth field effect',
    files: ['1.webp', '2.webp', '3.webp', '4.webp'],
    scores: [0.58116, 0.27453, -1.41318, -2.02957],
    source: 'assets/images of github.com/THUDM/ImageReward',
  },
};
/** Published numbers may differ slightly by device, their README says. */
const SLIGHTLY = 0.02;

async function exampleCheck(
  name: string,
  reward: Reward,
  examples: string | undefined,
): Promise<RewardCheck> {
  const what = 'your weights against published scores';
  const example = published[name];
  if (example === undefined)
    return { what, pass: undefined, detail: 'its project publishes no example with scores' };
  if (examples === undefined)
    return { what, pass: undefined, detail: `give --examples FOLDER with ${example.files.join(', ')} (${example.source})` }; // biome-ignore format: one thought
  const pictures: Picture[] = [];
  for (const file of example.files) {
    const path = join(examples, file);
    if (!existsSync(path))
      throw new UserError(`--examples ${examples}: there is no ${file} — the pictures are those of ${example.source}`); // biome-ignore format: one thought
    const { data, info } = await sharp(path).removeAlpha().raw().toBuffer({ resolveWithObject: true });
    pictures.push({ width: info.width, height: info.height, channels: 3, data });
  }
  const scores = await scoresOf(
    reward,
    pictures,
    pictures.map(() => example.prompt),
  );
  const error = Math.max(...scores.map((score, i) => Math.abs(score - example.scores[i]!)));
  return {
    what,
    pass: error <= SLIGHTLY,
    detail: `${scores.map((score) => score.toFixed(3)).join(', ')} instead of ${example.scores.join(', ')} (at most ${SLIGHTLY} apart)`,
  };
}
