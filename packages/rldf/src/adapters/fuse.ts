/**
 * Adding up adapters without training (TexForce, Chen et al. 2024, sections 3.2, 3.6 and 3.7): of the text encoder and of the
 * U-Net, and of several tasks, sum of alpha_i theta_i.
 */

import { fileOperation } from '@rldf/common/base/files';
import { type Picture, picturesOf } from '@rldf/common/base/picture';
import { bootstrapMean, type Interval } from '@rldf/common/base/stats';
import { baseKey, checkBase, commonBase, licencesOfFiles } from '@rldf/common/instruments/adapter-base';
import { type LoraLayer, loadLora, type Pipeline, readLora, writeLora } from '@rldf/models';
import { cat, noiseKey, Random, type Seed, scope, seedAfter, type Tensor } from '@rldf/torch';
import { UserError } from '@rldf/torch/errors';
import { refuseOverwriting } from '../base/outputs.js';
import type { Prompt } from '../prompts/prompts.js';
import { type CompositeReward, type Reward, scorePictures } from '../rewards/reward.js';
import { drawForEvaluation } from '../sampling/evaluation.js';
import { countLayers, type LayerCounts } from './export-files.js';
import type { AdapterFile } from './generate-files.js';

// R sum of the ranks

export interface FusedAdapters {
  file: string;
  layers: LayerCounts;
  /** Largest rank of a layer. */
  rank: number;
}

/**
 * Writes the sum of the files' updates, each times its strength, as one adapter. Where several adapt one layer, their matrices
 * are put side by side, so that the sum is exact: [up_1 ... up_n] [down_1; ...; down_n], at the sum of their ranks.
 *
 * @throws UserError when the files were made on different base models, or do not fit each other
 */
export function fuseAdapters(adapters: readonly AdapterFile[], output: string): FusedAdapters {
  if (!output.endsWith('.safetensors')) {
    throw new UserError(`--output ${output}: must end in .safetensors. Other tools look for that ending`);
  }
  const paths = adapters.map(({ path }) => path);
  refuseOverwriting('--output', output, paths);
  const base = commonBase(paths, 'fuse');
  return scope(() => {
    const layers = new Map<string, { path: string; layer: LoraLayer; strength: number }[]>();
    for (const { path, strength: unet, textEncoder = unet } of adapters) {
      for (const layer of readLora(path)) {
        const strength = layer.part === 'unet' ? unet : textEncoder;
        const key = `${layer.part} ${layer.path}`;
        layers.set(key, [...(layers.get(key) ?? []), { path, layer, strength }]);
      }
    }
    const fused = [...layers.values()].map(sumOf);
    const metadata = {
      ...(base === undefined ? {} : { [baseKey]: base }),
      ...licencesOfFiles(paths),
      rldf_fused: JSON.stringify(
        adapters.map(({ path, strength, textEncoder }) => [
          path,
          strength,
          ...(textEncoder === undefined ? [] : [textEncoder]),
        ]),
      ),
    };
    const file = fileOperation('write', output, () => writeLora(output, fused, { metadata }));
    return {
      file,
      layers: countLayers(fused),
      rank: Math.max(...fused.map(({ down }) => down.shape[0] as number)),
    };
  });
}

/** One layer's update out of those of several files. */
function sumOf(entries: readonly { path: string; layer: LoraLayer; strength: number }[]): LoraLayer {
  const [first] = entries as [(typeof entries)[number]];
  if (entries.length === 1 && first.strength === 1) return first.layer;
  const inner = first.layer.down.shape.slice(1); // [in] or [in, k, k]
  const outer = first.layer.up.shape[0] as number;
  const downs: Tensor[] = [];
  const ups: Tensor[] = [];
  for (const { path, layer, strength } of entries) {
    const { down, up, alpha } = layer;
    const rank = down.shape[0] as number;
    if (up.shape[0] !== outer || down.numel !== rank * inner.reduce((a, b) => a * b, 1)) {
      throw new UserError(
        `fuse: ${path}: layer ${layer.path} is of another size than in ${first.path} — the files belong to different models. Fuse adapters of one`,
      );
    }
    downs.push(down.to('float32').reshape([rank, ...inner])); // a convolution of kernel 1 may be a linear layer
    const outerShape = [outer, rank, ...first.layer.up.shape.slice(2)];
    ups.push(
      up
        .to('float32')
        .reshape(outerShape)
        .mul((strength * alpha) / rank),
    );
  }
  const down = cat(downs); // [R, in] or [R, in, k, k]
  return { ...first.layer, down, up: cat(ups, 1), alpha: down.shape[0] as number };
}

export interface StrengthOptions {
  /** Name of the model, for messages. */
  model: string;
  /** The adapter of both networks. */
  adapter: string;
  prompts: readonly Prompt[];
  /** Of each network, each combined with each; 0 and 1 are added. */
  strengths: readonly number[];
  reward: Reward | CompositeReward;
  steps: number;
  guidanceScale: number;
  /** Of the first picture; the others count up. The same at all strengths. */
  seed: Seed;
  batchSize: number;
  onProgress?: (share: number) => void;
}

/** Pictures of the same seeds at one pair of strengths. */
export interface StrengthPoint {
  textEncoder: number;
  unet: number;
  reward: Interval;
  pictures: Picture[];
  scores: number[];
}

/**
 * What a grid of these adapters' sum needs, before the sum is written.
 * @throws UserError when they adapt one network only, or one was made on another base model
 */
export function checkGrid(adapters: readonly AdapterFile[], model: { name: string; path: string }): void {
  for (const { path } of adapters) checkBase(path, model.path, model.name);
  const parts = scope(() => adapters.flatMap(({ path }) => readLora(path).map(({ part }) => part)));
  const names = adapters.map(({ path }) => path).join(', ');
  if (!parts.includes('unet')) throw adaptsOnly(names, 'text encoder');
  if (parts.every((part) => part === 'unet')) throw adaptsOnly(names, 'U-Net');
}

function adaptsOnly(adapters: string, network: string): UserError {
  return new UserError(
    `fuse: ${adapters} adapts only the ${network} — a grid shows two networks. Fuse it with an adapter of the other`,
  );
}

/**
 * Draws and scores the same seeds at every pair of strengths of the two networks' adapters.
 * @throws UserError when the file has an adapter of one network only, or was made on another base model
 */
export async function strengthSurface(
  pipeline: Pipeline,
  options: StrengthOptions,
): Promise<StrengthPoint[]> {
  const { adapter, prompts, reward, seed, batchSize } = options;
  checkBase(adapter, pipeline, options.model);
  const { unet, ...text } = loadLora(adapter, pipeline.parameters);
  const encoders = Object.values(text);
  try {
    if (unet === undefined) throw adaptsOnly(adapter, 'text encoder');
    if (encoders.length === 0) throw adaptsOnly(adapter, 'U-Net');
    const strengths = [...new Set([0, 1, ...options.strengths])].sort((a, b) => a - b);
    const points: StrengthPoint[] = [];
    for (const ofText of strengths) {
      for (const ofUnet of strengths) {
        for (const encoder of encoders) encoder.strength = ofText;
        unet.strength = ofUnet;
        const pictures: Picture[] = [];
        const scores: number[] = [];
        for (let start = 0; start < prompts.length; start += batchSize) {
          const part = prompts.slice(start, start + batchSize);
          const requests = part.map(({ text }, i) => ({ prompt: text, seed: seedAfter(seed, start + i) }));
          const images = await drawForEvaluation(pipeline, requests, null, options);
          try {
            const batch = {
              images,
              prompts: part.map(({ text }) => text),
              meta: part.map(({ meta }) => meta),
            };
            scores.push(...(await scorePictures(reward, batch, 'evaluation')).total);
            pictures.push(...picturesOf(images));
          } finally {
            images.free();
          }
        }
        const interval = bootstrapMean(scores, { random: new Random(noiseKey(seed, 'bootstrap')) });
        points.push({ textEncoder: ofText, unet: ofUnet, reward: interval, pictures, scores });
        options.onProgress?.(points.length / strengths.length ** 2);
      }
    }
    return points;
  } finally {
    unet?.remove();
    for (const encoder of encoders) encoder.remove();
  }
}
