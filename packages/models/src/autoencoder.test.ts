import {
  allocatedBytes,
  free,
  noGrad,
  noiseKey,
  normal,
  Parameters,
  peakBytes,
  resetPeakBytes,
} from '@rldf/torch';
import { expect, test } from 'vitest';
import { AutoencoderKL, renameOldAttention } from './autoencoder-kl.js';
import { AutoencoderTiny } from './autoencoder-tiny.js';

const CONFIG = {
  down_block_types: ['DownEncoderBlock2D', 'DownEncoderBlock2D'],
  up_block_types: ['UpDecoderBlock2D', 'UpDecoderBlock2D'],
  block_out_channels: [4, 8],
  norm_num_groups: 4,
  latent_channels: 5,
  scaling_factor: 0.5,
  shift_factor: 0.1,
};

const draw = (shape: number[]) => normal([noiseKey(1, 'x'), noiseKey(2, 'x')], shape);

test('encodes to a distribution and decodes to pictures', () => {
  const vae = new AutoencoderKL(CONFIG, Parameters.random(1).at());
  expect(vae.downFactor).toBe(2);
  noGrad(() => {
    const { mean, logvar } = vae.encode(draw([3, 12, 8]));
    expect(mean.shape).toEqual([2, 5, 6, 4]);
    expect(logvar.shape).toEqual([2, 5, 6, 4]);
    expect(vae.decode(mean).shape).toEqual([2, 3, 12, 8]);
    expect(vae.unscale(vae.scale(mean)).sub(mean).abs().amax().item()).toBeLessThan(1e-6);
    expect(vae.scale(mean).sub(mean.sub(0.1).mul(0.5)).abs().amax().item()).toBe(0);
  });
});

test('decoding holds a few of the largest maps at once, however many layers there are', () => {
  const layers = (count: number) => {
    const config = { ...CONFIG, block_out_channels: [32, 32], layers_per_block: count };
    const vae = new AutoencoderKL(config, Parameters.random(1).at());
    const latents = draw([5, 64, 64]); // pictures of 128 x 128
    return noGrad(() => {
      free(vae.decode(latents)); // packs weights
      resetPeakBytes();
      const before = allocatedBytes();
      free(vae.decode(latents));
      free(latents);
      return (peakBytes() - before) / (2 * 32 * 128 ** 2 * 4);
    });
  };
  expect(layers(4)).toBeLessThan(layers(1) + 0.5);
  expect(layers(4)).toBeLessThan(6);
});

test('parts that the config leaves out have no parameters', () => {
  const names = (changes: object) => {
    const parameters = Parameters.random(1);
    new AutoencoderKL({ ...CONFIG, ...changes }, parameters.at());
    return [...parameters.entries.keys()];
  };
  expect(names({})).toContain('encoder.mid_block.attentions.0.to_out.0.bias');
  expect(names({})).toContain('post_quant_conv.weight');
  expect(names({ mid_block_add_attention: false }).filter((name) => name.includes('attentions'))).toEqual([]);
  expect(
    names({ use_quant_conv: false, use_post_quant_conv: false }).filter((name) => /quant/.test(name)),
  ).toEqual([]);
});

test('takes weights under the attention names of old files', () => {
  const today = Parameters.random(1);
  const vae = new AutoencoderKL(CONFIG, today.at());
  const old = { to_q: 'query', to_k: 'key', to_v: 'value', 'to_out.0': 'proj_attn' };
  const state = new Map(
    [...today.entries].map(([name, value]) => [
      name.replace(/\b(to_q|to_k|to_v|to_out\.0)\./, (_, part: keyof typeof old) => `${old[part]}.`),
      value,
    ]),
  );
  expect([...state.keys()]).toContain('decoder.mid_block.attentions.0.proj_attn.weight');
  const parameters = Parameters.from(renameOldAttention(state));
  const again = new AutoencoderKL(CONFIG, parameters.at());
  parameters.assertAllUsed();
  const latents = draw([5, 4, 4]);
  expect(again.decode(latents).bytes()).toEqual(vae.decode(latents).bytes());
});

test('blocks that are not built are refused', () => {
  const build = (changes: object) => () =>
    new AutoencoderKL({ ...CONFIG, ...changes }, Parameters.random(1).at());
  expect(build({ down_block_types: ['DownEncoderBlock2D', 'AttnDownEncoderBlock2D'] })).toThrow(
    /down_block_types is "AttnDownEncoderBlock2D" — not supported yet/,
  );
  expect(build({ latents_mean: [0, 0, 0, 0, 0] })).toThrow(/latents_mean/);
});

test('the tiny autoencoder halves and doubles once per level', () => {
  const config = {
    encoder_block_out_channels: [4, 4, 4],
    decoder_block_out_channels: [4, 4, 4],
    num_encoder_blocks: [1, 2, 1],
    num_decoder_blocks: [1, 2, 1],
  };
  const parameters = Parameters.random(1);
  const vae = new AutoencoderTiny(config, parameters.at());
  noGrad(() => {
    const latents = vae.encode(draw([3, 8, 12]));
    expect(latents.shape).toEqual([2, 4, 2, 3]);
    expect(vae.decode(latents).shape).toEqual([2, 3, 8, 12]);
  });
  expect([...parameters.entries.keys()]).toContain('encoder.layers.2.weight');
  expect(parameters.entries.has('encoder.layers.2.bias')).toBe(false);
});
