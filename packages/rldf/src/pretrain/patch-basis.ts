// The latent space of the built-in autoencoder: principal components of 8 x 8 pixel patches, scaled to unit variance.
// It is linear and optimal, so a denoising network can be trained on it while the convolutional decoder still learns.

import { sceneBatch } from '@rldf/common/instruments/scenes';
import type { ArtSet } from '@rldf/emoji-world';
import {
  keep,
  noGrad,
  ops,
  readSafetensors,
  scope,
  type Tensor,
  tensor,
  writeSafetensors,
} from '@rldf/torch';

const PATCH = 8;

// B batch · K components · P = 3 * 8 * 8 pixels of a patch · h, w patches
export interface PatchBasis {
  /** [P] */
  mean: Tensor;
  /** Rows are unit components, most variance first, [K, P] */
  components: Tensor;
  /** Divisor of each component's coefficient, [K] */
  scale: Tensor;
}

/** [B, 3, H, W] -> [B, h, w, P] */
function patches(images: Tensor): Tensor {
  const [batch = 0, channels = 0, height = 0, width = 0] = images.shape;
  return images
    .reshape([batch, channels, height / PATCH, PATCH, width / PATCH, PATCH])
    .permute([0, 2, 4, 1, 3, 5])
    .reshape([batch, height / PATCH, width / PATCH, channels * PATCH * PATCH]);
}

/**
 * Fits the basis to training scenes.
 * @param flatten exponent in [0, 1]: coefficient k is divided by a multiple of std_k^flatten; 1 whitens fully, 0 keeps the spectrum
 */
export function fitPatchBasis(
  art: ArtSet,
  seed: number,
  components: number,
  flatten: number,
  scenes = 6000,
): PatchBasis {
  return noGrad(() =>
    scope(() => {
      let sum = tensor(new Float64Array(192));
      let products = tensor(new Float64Array(192 * 192), { shape: [192, 192] });
      let count = 0;
      for (let start = 0; start < scenes; start += 200) {
        [sum, products] = scope(() => {
          const rows = patches(sceneBatch(art, 'train', seed, start, 200).images)
            .reshape([-1, 192])
            .to('float64');
          count += rows.shape[0] as number;
          return [sum.add(rows.sum(0)), products.add(rows.transpose(0, 1).matmul(rows))] as [Tensor, Tensor];
        });
      }
      const mean = sum.div(count);
      const covariance = products.div(count).sub(mean.unsqueeze(1).matmul(mean.unsqueeze(0)));
      const [values, vectors] = ops.aten('linalg_eigh')(covariance, 'L') as [Tensor, Tensor];
      const order = Array.from({ length: components }, (_, k) => 191 - k);
      const index = tensor(order, { dtype: 'int64' });
      const std = values.indexSelect(0, index).clamp(1e-12).sqrt(); // [K]
      const first = std.narrow(0, 0, 1);
      const shape = std.pow(flatten).mul(first.pow(1 - flatten));
      const scale = shape.mul(std.div(shape).square().mean().sqrt()); // all latents together have unit variance
      return keep({
        mean: mean.to('float32'),
        components: vectors.indexSelect(1, index).transpose(0, 1).contiguous().to('float32'),
        scale: scale.to('float32'),
      });
    }),
  );
}

/** [B, 3, H, W] -> [B, K, h, w] */
export function project(basis: PatchBasis, images: Tensor): Tensor {
  return scope(() =>
    patches(images)
      .sub(basis.mean)
      .matmul(basis.components.transpose(0, 1))
      .div(basis.scale)
      .permute([0, 3, 1, 2])
      .contiguous(),
  );
}

/** [B, K, h, w] -> [B, 3, H, W]: the linear reconstruction */
export function reconstruct(basis: PatchBasis, latents: Tensor): Tensor {
  return scope(() => {
    const [batch = 0, , height = 0, width = 0] = latents.shape;
    return latents
      .permute([0, 2, 3, 1])
      .mul(basis.scale)
      .matmul(basis.components)
      .add(basis.mean)
      .reshape([batch, height, width, 3, PATCH, PATCH])
      .permute([0, 3, 1, 4, 2, 5])
      .reshape([batch, 3, height * PATCH, width * PATCH]);
  });
}

export function savePatchBasis(file: string, { mean, components, scale }: PatchBasis): void {
  writeSafetensors(
    file,
    new Map([
      ['mean', mean],
      ['components', components],
      ['scale', scale],
    ]),
  );
}

export function loadPatchBasis(file: string): PatchBasis {
  const { tensors } = readSafetensors(file);
  const read = (name: string) => keep((tensors.get(name) as Tensor).clone());
  return { mean: read('mean'), components: read('components'), scale: read('scale') };
}
