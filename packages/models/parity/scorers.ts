import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { grad, noGrad, readTorchFile, type Tensor } from '@rldf/torch';
import { AestheticPredictor, widthsOf } from '../src/aesthetic.js';
import { BertTokenizer } from '../src/bert-tokenizer.js';
import {
  BlipImageReward,
  imageRewardConfigOf,
  withoutUnusedOfImageReward,
} from '../src/blip-image-reward.js';
import { CLIPModel } from '../src/clip.js';
import { clipPixels, type PictureInput } from '../src/clip-pixels.js';
import { FaceQualityNet, faceQualityConfigOf, fromQualityFace } from '../src/face-quality.js';
import { fromOpenClip, type OpenClipConfig, openClipConfigOf } from '../src/open-clip.js';
import { buildOn, type Difference, Golden, goldenFolder, numbers, type Output } from './golden.js';

type Outputs = { [name: string]: Output };

function gradients(golden: Golden, output: Tensor, targets: { [name: string]: Tensor | undefined }): Outputs {
  const names = [...golden.group('gradients.').keys()];
  const found = grad(
    output,
    names.map((name) => targets[name] as Tensor),
    { gradOutputs: [golden.input('cotangent')] },
  );
  return Object.fromEntries(names.map((name, i) => [`gradients.${name}`, found[i]!]));
}

/** ImageReward as published, of which the sizes are read off the weights. */
export function imageReward(golden: Golden): Outputs {
  const state = withoutUnusedOfImageReward(golden.group('weights.'));
  const config = imageRewardConfigOf(
    state,
    golden.name,
    golden.json.heads as { vision: number; text: number },
  );
  const { model, parameters } = buildOn(golden, state, (path) => new BlipImageReward(config, path));
  const pixels = golden.input('pixel_values').requiresGrad_();
  const [ids, mask] = [golden.input('input_ids'), golden.input('mask').to('bool')];
  const scores = model.forward(ids, mask, pixels);
  const patches = noGrad(() => model.vision.forward(pixels));
  return {
    'outputs.scores': scores,
    'blocks.patches': patches,
    'blocks.states': noGrad(() => model.text.forward(ids, mask, patches)),
    ...gradients(golden, scores, { ...Object.fromEntries(parameters.entries), pixel_values: pixels }),
  };
}

/** CLIP under open_clip's names. */
export function openClip(golden: Golden): Outputs {
  const state = golden.group('weights.');
  const config = openClipConfigOf(state, golden.name, golden.json.config as OpenClipConfig);
  const { model } = buildOn(golden, fromOpenClip(state, golden.name), (path) => new CLIPModel(config, path));
  const pixels = golden.input('pixel_values').requiresGrad_();
  const output = model.forward(golden.input('input_ids'), pixels);
  return {
    'outputs.logits_per_image': output.logitsPerImage,
    'outputs.image_embeds': output.imageEmbeds,
    'outputs.text_embeds': output.textEmbeds,
    ...gradients(golden, output.logitsPerImage, { pixel_values: pixels }),
  };
}

export function aestheticHead(golden: Golden): Outputs {
  const state = golden.group('weights.');
  const embeddings = golden.input('embeddings');
  const options = { widths: widthsOf(state, 'layers.', golden.name), relu: false };
  const { model } = buildOn(
    golden,
    state,
    (path) => new AestheticPredictor(path, embeddings.shape[1] as number, options),
  );
  return { 'outputs.scores': model.forward(embeddings) };
}

/** The network of the package qualityface, of which the sizes are read off the weights. */
export function faceQuality(golden: Golden): Outputs {
  const state = fromQualityFace(golden.group('weights.'));
  const config = faceQualityConfigOf(state, golden.name);
  const { model, parameters } = buildOn(golden, state, (path) => new FaceQualityNet(config, path));
  const faces = golden.input('faces').requiresGrad_();
  const scores = model.forward(faces);
  return {
    'outputs.scores': scores,
    ...gradients(golden, scores, { ...Object.fromEntries(parameters.entries), faces }),
  };
}

const ways: { readonly [project: string]: Pick<PictureInput, 'resize' | 'crop'> } = {
  torchvision: { crop: 'even' },
  tensors: { resize: 'tensor', crop: 'even' },
  transformers: { crop: 'floor' },
};

/** Levels of 255 by which a picture differs from what its project shows its network. */
export function preprocessingDifferences(exact: boolean): Difference[] {
  const golden = new Golden('preprocessing');
  const { size, mean, std } = golden.json as { size: number; mean: number[]; std: number[] };
  return [...golden.group('outputs.')].map(([name, expected]) => {
    const [project, index] = name.split('.') as [string, string];
    const picture = golden.input(index).permute([2, 0, 1]).unsqueeze(0).to('float32').div(255); // [1, 3, H, W]
    const found = numbers(clipPixels(picture, { size, mean, std, exact, ...ways[project] }));
    const theirs = numbers(expected);
    const plane = found.length / 3;
    const levels = Array.from(
      found as Float32Array,
      (value, i) =>
      Math.abs(value - theirs[i]!) * std[Math.floor(i / plane)]! * 255, // biome-ignore format: one thought
    );
    return { name, error: found.length === theirs.length ? Math.max(...levels) : Number.POSITIVE_INFINITY };
  });
}

/** Prompts whose ids differ from transformers', as ImageReward's code calls it. */
export function bertDifferences(): Difference[] {
  const tokenizer = BertTokenizer.load(join(goldenFolder, 'bert-vocab.txt'), 35);
  const { prompts, ids } = JSON.parse(readFileSync(join(goldenFolder, 'bert-tokenizer.json'), 'utf8')) as {
    prompts: string[];
    ids: number[][];
  };
  return tokenizer
    .encode(prompts)
    .map((own, i) => ({ name: JSON.stringify(prompts[i]), error: `${own}` === `${ids[i]}` ? 0 : 1 }));
}

/** Numbers that torch.save wrote, whatever kind and view. */
export function torchFileDifferences(): Difference[] {
  const rows = Array.from({ length: 12 }, (_, i) => i);
  const expected: { [name: string]: [shape: number[], values: number[]] } = {
    turned: [[4, 3], rows.map((i) => 4 * (i % 3) + Math.floor(i / 3))],
    row: [[4], [4, 5, 6, 7]],
    half: [[3, 4], rows],
    bfloat16: [[3, 4], rows],
    int64: [[2], [1, -2]],
    int32: [[1], [7]],
    uint8: [[1], [255]],
    bool: [[2], [1, 0]],
    float64: [[], [1.5]],
    empty: [[0, 3], []],
    parameter: [[2], [1, 1]],
  };
  return ['kinds.pt', 'kinds-legacy.pth'].flatMap((file) => {
    const tensors = readTorchFile(join(goldenFolder, 'torch-files', file));
    return Object.entries(expected).map(([name, [shape, values]]) => {
      const found = tensors.get(name);
      const right = `${found?.shape}: ${found?.toNumbers()}` === `${shape}: ${values}`;
      return { name: `${file} ${name}`, error: right ? 0 : 1 };
    });
  });
}
