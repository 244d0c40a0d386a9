import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import {
  grad,
  noiseKey,
  normal,
  type ParameterPath,
  Parameters,
  type StateDict,
  scope,
  type Tensor,
  tensor,
  UserError,
  zeros,
} from '@rldf/torch';
import { expect, test } from 'vitest';
import { Golden } from '../parity/golden.js';
import { AestheticPredictor, widthsOf } from './aesthetic.js';
import { BertTokenizer } from './bert-tokenizer.js';
import { BlipImageReward, imageRewardConfigOf, withoutUnusedOfImageReward } from './blip-image-reward.js';
import { CLIPModel } from './clip.js';
import { clipPixels } from './clip-pixels.js';
import { fromOpenClip, isOpenClip, openClipConfigOf } from './open-clip.js';

const one = zeros([1]);
/** Tensors of any size that take no memory. */
const hollow = (shape: readonly number[]) => (shape.length === 0 ? zeros([]) : one.expand(shape));

/** Where layers ask for their tensors, noting what they ask for. */
function asking(asked: Map<string, string>, name = ''): ParameterPath {
  const inside = (...names: (string | number)[]) => [name, ...names].filter((part) => part !== '').join('.');
  return {
    name,
    parameters: { layers: new Map() },
    at: (...names: (string | number)[]) => asking(asked, inside(...names)),
    tensor: (own: string, shape: readonly number[]) => {
      asked.set(inside(own), `[${shape.join(', ')}]`);
      return hollow(shape);
    },
  } as unknown as ParameterPath;
}

/** The published list of names and shapes, written out. */
function publishedImageReward(): Map<string, string> {
  const file = join(import.meta.dirname, '..', 'goldens', 'image-reward-keys.json');
  const { tensors } = JSON.parse(readFileSync(file, 'utf8')) as { tensors: string[] };
  const names = new Map<string, string>();
  for (const line of tensors) {
    const [, name, shape, count = '1'] = /^(\S+) (\[[^\]]*\])(?: x (\d+))?$/.exec(
      line,
    ) as unknown as string[];
    for (let i = 0; i < Number(count); i++) names.set(name!.replace('.N.', `.${i}.`), shape!);
  }
  return names;
}

test('ImageReward asks for exactly the published names and shapes, its sizes read off them', () => {
  const published = publishedImageReward();
  expect(published.size).toBe(625);
  const state: StateDict = new Map(
    [...published].map(([name, shape]) => [name, hollow(JSON.parse(shape) as number[])]),
  );
  const config = imageRewardConfigOf(state, 'ImageReward.pt');
  expect(config.vision_config).toEqual({
    hidden_size: 1024,
    num_hidden_layers: 24,
    num_attention_heads: 16,
    intermediate_size: 4096,
    image_size: 224,
    patch_size: 16,
  });
  expect(config.text_config).toMatchObject({
    num_attention_heads: 12,
    num_hidden_layers: 12,
    vocab_size: 30524,
  });
  expect(config.widths).toEqual([1024, 128, 64, 16]);
  const asked = new Map<string, string>();
  new BlipImageReward(config, asking(asked));
  const used = [...withoutUnusedOfImageReward(state).keys()];
  expect(used.length).toBe(620);
  expect([...asked].sort()).toEqual(used.map((name) => [name, published.get(name)]).sort());
});

test.each([
  ['ViT-B/32', 768, 12, 32, 512, 12, 512, [12, 8]],
  ['ViT-L/14', 1024, 24, 14, 768, 12, 768, [16, 12]],
  ['ViT-H/14', 1280, 32, 14, 1024, 24, 1024, [16, 16]],
  ['ViT-bigG/14', 1664, 48, 14, 1280, 32, 1280, [16, 20]],
] as const)(
  '%s is known by its shapes, and asks for what open_clip’s names become',
  (_, width, layers, patch, textWidth, textLayers, projection, heads) => {
    const state: StateDict = new Map();
    const add = (name: string, ...shape: number[]) => state.set(name, hollow(shape));
    const tower = (prefix: string, size: number, inner: number, count: number) => {
      for (let i = 0; i < count; i++) {
        const layer = `${prefix}transformer.resblocks.${i}.`;
        for (const norm of ['ln_1', 'ln_2'])
          for (const kind of ['weight', 'bias']) add(`${layer}${norm}.${kind}`, size);
        add(`${layer}attn.in_proj_weight`, 3 * size, size);
        add(`${layer}attn.in_proj_bias`, 3 * size);
        add(`${layer}attn.out_proj.weight`, size, size);
        add(`${layer}attn.out_proj.bias`, size);
        add(`${layer}mlp.c_fc.weight`, inner, size);
        add(`${layer}mlp.c_fc.bias`, inner);
        add(`${layer}mlp.c_proj.weight`, size, inner);
        add(`${layer}mlp.c_proj.bias`, size);
      }
    };
    add('positional_embedding', 77, textWidth);
    add('text_projection', textWidth, projection);
    add('logit_scale');
    add('visual.class_embedding', width);
    add('visual.positional_embedding', (224 / patch) ** 2 + 1, width);
    add('visual.proj', width, projection);
    add('visual.conv1.weight', width, 3, patch, patch);
    for (const norm of ['visual.ln_pre', 'visual.ln_post'])
      for (const kind of ['weight', 'bias']) add(`${norm}.${kind}`, width);
    tower('visual.', width, patch === 14 && width === 1664 ? 8192 : 4 * width, layers);
    tower('', textWidth, 4 * textWidth, textLayers);
    add('token_embedding.weight', 49408, textWidth);
    for (const kind of ['weight', 'bias']) add(`ln_final.${kind}`, textWidth);
    add('attn_mask', 77, 77);
    expect(isOpenClip(state)).toBe(true);
    const config = openClipConfigOf(state, 'model.pt');
    expect([config.vision_config.num_attention_heads, config.text_config.num_attention_heads]).toEqual(heads);
    expect(config.vision_config).toMatchObject({
      image_size: 224,
      hidden_act: 'gelu',
      num_hidden_layers: layers,
    });
    const asked = new Map<string, string>();
    new CLIPModel(config, asking(asked));
    scope(() => {
      const renamed = [...fromOpenClip(state, 'model.pt')].map(([name, { shape }]) => [
        name,
        `[${shape.join(', ')}]`,
      ]);
      expect(renamed.sort()).toEqual([...asked].sort());
    });
  },
);

test('weights of another kind are refused by name', () => {
  const state: StateDict = new Map([['visual.conv1.weight', hollow([20, 3, 4, 4])]]);
  expect(() => imageRewardConfigOf(state, 'x.pt')).toThrow(
    /x\.pt: tensor "blip.visual_encoder.patch_embed.proj.weight" is missing — these are not the weights of ImageReward/,
  );
  expect(() => openClipConfigOf(state, 'x.pt')).toThrow(/tensor "visual.positional_embedding" is missing/);
  expect(() => fromOpenClip(new Map([['visual.trunk.blocks.0.x', one]]), 'x.pt')).toThrow(
    /tensor "visual.trunk.blocks.0.x" is not known/,
  );
  expect(() => widthsOf(new Map([['layers.0.weight', hollow([5, 4])]]), 'layers.', 'h')).toThrow(
    /layers of 5 numbers — an MLP that ends in one number/,
  );
  expect(() => widthsOf(state, 'layers.', 'h')).toThrow(/no tensor "layers.0.weight"/);
  const golden = new Golden('open-clip-gelu');
  expect(() => openClipConfigOf(golden.group('weights.'), 'x.pt')).toThrow(
    /none of the published sizes.*open_clip_config.json/,
  );
  expect(() => BertTokenizer.load('/nowhere', 35)).toThrow(UserError);
  expect(() => new BertTokenizer(['a', 'b'], 35, 'v.txt')).toThrow(
    /v\.txt: special token \[PAD\] is not in the vocabulary of 2/,
  );
});

/** Slope along the gradient, by differences, over what the gradient says. */
function slopeRatio(score: (pixels: Tensor) => Tensor, pixels: Tensor, step: number): number {
  const [gradient] = grad(score(pixels).sum(), [pixels]) as [Tensor];
  const norm = gradient.norm().item();
  const at = (sign: number) =>
    scope(() =>
      score(pixels.detach().add(gradient.mul((sign * step) / norm)))
        .sum()
        .item(),
    );
  return (at(1) - at(-1)) / (2 * step) / norm;
}

const picture = (height: number, width: number) =>
  scope(() =>
    normal([noiseKey(0, 'slopes')], [3, height, width])
      .mul(0.2)
      .add(0.5)
      .clamp(0.05, 0.95),
  ).requiresGrad_(); // [1, 3, H, W]

/** Weights in double precision, so that differences of scores tell slopes. */
const doubled = (state: StateDict) => Parameters.from(state, { dtype: 'float64' });

test('gradients of all scorers with respect to the picture are those of finite differences', () => {
  const normalised = { mean: [0.5, 0.4, 0.3], std: [0.2, 0.3, 0.25] };
  const golden = new Golden('image-reward');
  const state = withoutUnusedOfImageReward(golden.group('weights.'));
  const config = imageRewardConfigOf(state, 'golden', golden.json.heads as { vision: number; text: number });
  const model = new BlipImageReward(config, doubled(state).at());
  const [ids, mask] = [
    golden.input('input_ids').narrow(0, 1, 1),
    golden.input('mask').to('bool').narrow(0, 1, 1),
  ];
  const rewarded = (pixels: Tensor) =>
    model.forward(ids, mask, clipPixels(pixels, { size: 16, ...normalised }));
  expect(slopeRatio(rewarded, picture(25, 33).detach().to('float64').requiresGrad_(), 1e-4)).toBeCloseTo(
    1,
    5,
  );

  const open = new Golden('open-clip-quick-gelu');
  const weights = open.group('weights.');
  const settings = openClipConfigOf(weights, 'golden', open.json.config as object);
  const clip = new CLIPModel(settings, doubled(fromOpenClip(weights, 'golden')).at());
  const head = new AestheticPredictor(doubled(new Golden('aesthetic-head').group('weights.')).at(), 12, {
    widths: [10, 8, 6, 4],
    relu: false,
  });
  const shown = (pixels: Tensor) =>
    clipPixels(pixels, { size: 24, ...normalised, resize: 'tensor', crop: 'even' });
  const text = clip.encodeText(open.input('input_ids').narrow(0, 0, 1)).detach();
  const cosine = (pixels: Tensor) => clip.encodeImage(shown(pixels)).mul(text).sum(1);
  const beauty = (pixels: Tensor) => head.forward(clip.encodeImage(shown(pixels)));
  for (const score of [cosine, beauty])
    expect(slopeRatio(score, picture(31, 24).detach().to('float64').requiresGrad_(), 1e-4)).toBeCloseTo(1, 5);
});

test('a padded prompt scores as the same prompt by itself', () => {
  const golden = new Golden('image-reward');
  const state = withoutUnusedOfImageReward(golden.group('weights.'));
  const model = new BlipImageReward(
    imageRewardConfigOf(state, 'golden', golden.json.heads as { vision: number; text: number }),
    Parameters.from(state, { dtype: 'float32' }).at(),
  );
  const pixels = golden.input('pixel_values').narrow(0, 0, 1);
  const score = (ids: number[], seen: number) =>
    model
      .forward(
        tensor([ids], { dtype: 'int64' }),
        tensor([ids.map((_, i) => Number(i < seen))], { dtype: 'int64' }).to('bool'),
        pixels,
      )
      .item();
  const alone = score([5, 9, 7], 3);
  // longer rows are summed in another order: in some ten layers behind each other, a few times each, by 2 ** -24 of their size
  const rounding = 10 * 3 * 2 ** -24 * Math.abs(alone);
  expect(Math.abs(score([5, 9, 7, 0, 0, 0], 3) - alone)).toBeLessThan(rounding);
  expect(Math.abs(score([5, 9, 7, 0, 0, 0], 6) - alone)).toBeGreaterThan(10 * rounding);
});
