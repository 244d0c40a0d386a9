/** Where published rewards come from, and which files of a repository they need. */

import { existsSync, statSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { WantedFiles } from '@rldf/common/hub/index';
import type { PublishedReward } from '../config/fields.js';

export type PublishedName = PublishedReward['name'];

/** Where each is downloaded from, if a recipe does not say where it lies. */
export const publishedWeights: { readonly [name in PublishedName]: string } = {
  imagereward: 'THUDM/ImageReward',
  'hpsv2.1': 'xswu/HPSv2',
  hpsv2: 'xswu/HPSv2',
  pickscore: 'yuvalkirstain/PickScore_v1',
  'clip-score': 'openai/clip-vit-large-patch14',
  'laion-aesthetic': 'sac+logos+ava1-l14-linearMSE.pth',
};

/** What to download, where that is no repository of the hub. */
export const publishedFiles: { readonly [name in PublishedName]?: string } = {
  'laion-aesthetic':
    'sac+logos+ava1-l14-linearMSE.pth from github.com/christophschuhmann/improved-aesthetic-predictor',
};

/** The CLIP that LAION's head was taught on. */
export const clipOfAesthetic = 'openai/clip-vit-large-patch14';
/** Whose vocabulary BLIP reads with. */
export const bertOfBlip = 'google-bert/bert-base-uncased';

const hps = (version: string) =>
  ['pt', 'safetensors'].flatMap((kind) => [`HPS_${version}_compressed.${kind}`, `HPS_${version}.${kind}`]);

/** Names of weights in a folder under which a project publishes them itself, the preferred first. */
export const ownFiles: { readonly [name in PublishedName]: readonly string[] } = {
  imagereward: ['ImageReward.pt', 'ImageReward.safetensors', 'model.safetensors'],
  'hpsv2.1': hps('v2.1'),
  hpsv2: hps('v2'),
  pickscore: [],
  'clip-score': [],
  'laion-aesthetic': ['pth', 'safetensors'].map((kind) => `sac+logos+ava1-l14-linearMSE.${kind}`),
};

/** Weights of a CLIP: transformers' name, then those of open_clip's files. */
export const clipFiles: readonly string[] = [
  'model.safetensors',
  'open_clip_model.safetensors',
  'open_clip_pytorch_model.safetensors',
];
const tokenizerFiles = ['tokenizer.json', 'tokenizer_config.json', 'special_tokens_map.json', 'vocab.json', 'merges.txt']; // biome-ignore format: one thought

/** What is downloaded of a CLIP's repository. */
export const wantedOfClip = (own: readonly string[] = []): WantedFiles => ({
  anyOf: [...own, ...clipFiles],
  beside: [
    'config.json',
    'preprocessor_config.json',
    'open_clip_config.json',
    'README.md',
    ...tokenizerFiles,
  ],
});
export const wantedOfImageReward: WantedFiles = {
  anyOf: ownFiles.imagereward,
  beside: ['med_config.json', 'README.md'],
};
export const wantedOfBert: WantedFiles = { anyOf: ['vocab.txt', 'tokenizer.json'], beside: [] };

/** Tiny random weights in the published layouts, and what they score. */
export const rewardAssets = fileURLToPath(new URL('../../assets/rewards/', import.meta.url));

/** Weights that ship with rldf, to try what needs a reward without its own: tiny and random. `weights: tiny` means these. */
export function tinyWeights(name: PublishedName): PublishedReward {
  const weights = join(rewardAssets, 'tiny', name);
  return name === 'laion-aesthetic'
    ? { name, weights, clip: join(rewardAssets, 'tiny', 'clip-score') }
    : { name, weights };
}

/** The folder of weights that lie here, if BERT's vocabulary lies there too. */
function vocabularyBeside(weights: string): string | undefined {
  if (!existsSync(weights)) return undefined;
  const folder = statSync(weights).isDirectory() ? weights : dirname(weights);
  return wantedOfBert.anyOf.some((name) => existsSync(join(folder, name))) ? folder : undefined;
}

/** All that a reward would read, as its recipe names it or by default: each with the files that are needed of it. */
export function sourcesOf(spec: PublishedReward): [string, WantedFiles][] {
  const { name, weights, clip, tokenizer } = spec.weights === 'tiny' ? tinyWeights(spec.name) : spec;
  const own = weights ?? publishedWeights[name];
  if (name === 'imagereward') {
    const words = tokenizer ?? vocabularyBeside(own) ?? bertOfBlip;
    return [
      [own, wantedOfImageReward],
      [words, wantedOfBert],
    ];
  }
  if (name === 'laion-aesthetic') {
    return [
      [own, { anyOf: ownFiles[name], beside: [] }],
      [clip ?? clipOfAesthetic, wantedOfClip()],
    ];
  }
  return [[own, wantedOfClip(ownFiles[name])]];
}
