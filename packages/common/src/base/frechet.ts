/** How far two sets of pictures lie apart in a network's features: FID (Heusel et al. 2017) and KID (Bińkowski et al. 2018). In float64. */

import { keep, noGrad, ops, scope, type Tensor } from '@rldf/torch';
import { UserError } from '@rldf/torch/errors';

// N pictures · D features
export interface FeatureStatistics {
  count: number;
  /** [D], float64 */
  mean: Tensor;
  /** With N - 1 in the denominator, [D, D], float64 */
  covariance: Tensor;
}

/**
 * Mean and covariance of features; to be freed with `free`.
 * @param features [N, D], N >= 2. The covariance has full rank only from D + 1 pictures on; distances of fewer are biased upwards
 */
export function featureStatistics(features: Tensor): FeatureStatistics {
  requireFeatures('featureStatistics', features);
  return noGrad(() =>
    scope(() => {
      const rows = features.to('float64');
      const count = rows.shape[0] as number;
      const mean = rows.mean(0);
      const centred = rows.sub(mean);
      const covariance = centred
        .transpose(0, 1)
        .matmul(centred)
        .div(count - 1);
      return keep({ count, mean, covariance });
    }),
  );
}

/** Squared Fréchet distance of the two Gaussians, |μ - ν|² + tr(Σ + Ω - 2 (Σ Ω)^½). 0 or more, in squared units of the features. */
export function frechetDistance(a: FeatureStatistics, b: FeatureStatistics): number {
  return noGrad(() =>
    scope(() => {
      const root = squareRoot(a.covariance);
      // (Σ Ω)^½ has the trace of (Σ^½ Ω Σ^½)^½, which is symmetric
      const crossed = eigenvalues(root.matmul(b.covariance).matmul(root)).sqrt().sum().item();
      const trace = (matrix: Tensor) => (ops.aten('trace')(matrix) as Tensor).item();
      const means = a.mean.sub(b.mean).square().sum().item();
      return Math.max(0, means + trace(a.covariance) + trace(b.covariance) - 2 * crossed);
    }),
  );
}

function symmetricEigen(matrix: Tensor): { values: Tensor; vectors: Tensor } {
  const symmetric = matrix.add(matrix.transpose(0, 1)).div(2);
  const [values, vectors] = ops.aten('linalg_eigh')(symmetric, 'L') as [Tensor, Tensor];
  return { values: values.clamp(0), vectors }; // rounding makes zeros slightly negative
}

const eigenvalues = (matrix: Tensor) => symmetricEigen(matrix).values;

function squareRoot(matrix: Tensor): Tensor {
  const { values, vectors } = symmetricEigen(matrix);
  return vectors.mul(values.sqrt()).matmul(vectors.transpose(0, 1));
}

export interface KernelDistance {
  /** Unbiased, so it may be slightly negative. */
  value: number;
  /** Of the mean over blocks; NaN with one block. */
  standardError: number;
  blocks: number;
}

/**
 * Kernel distance: the unbiased squared maximum mean discrepancy under (x · y / D + 1)³, averaged over disjoint blocks
 * of `blockSize` rows of each set, in their order (shuffle sorted features first). Rows beyond the last full block are
 * left out.
 * @param x [N, D]
 * @param y [M, D]
 */
export function kernelDistance(x: Tensor, y: Tensor, blockSize = 100): KernelDistance {
  requireFeatures('kernelDistance', x);
  requireFeatures('kernelDistance', y);
  const [n = 0, width = 0] = x.shape;
  const [m = 0, otherWidth = 0] = y.shape;
  if (width !== otherWidth) {
    throw new UserError(
      `kernelDistance: ${width} and ${otherWidth} features — both sets need the same network.`,
    );
  }
  const size = Math.min(blockSize, n, m);
  if (size < 2) throw new UserError(`kernelDistance: blocks of ${size} — 2 rows at least.`);
  const blocks = Math.floor(Math.min(n, m) / size);
  const values = noGrad(() =>
    Array.from({ length: blocks }, (_, block) =>
      scope(() =>
        squaredDiscrepancy(
          x.narrow(0, block * size, size).to('float64'),
          y.narrow(0, block * size, size).to('float64'),
        ),
      ),
    ),
  );
  const value = values.reduce((sum, each) => sum + each, 0) / blocks;
  const variance = values.reduce((sum, each) => sum + (each - value) ** 2, 0) / (blocks - 1);
  return { value, standardError: Math.sqrt(variance / blocks), blocks };
}

/** Gretton et al. 2012, equation 3, with the cubic kernel; x and y [S, D] */
function squaredDiscrepancy(x: Tensor, y: Tensor): number {
  const [size = 0, width = 0] = x.shape;
  const kernel = (a: Tensor, b: Tensor) => a.matmul(b.transpose(0, 1)).div(width).add(1).pow(3); // [S, S]
  const withoutSelf = (a: Tensor) => {
    const all = kernel(a, a);
    const self = (ops.aten('trace')(all) as Tensor).item();
    return (all.sum().item() - self) / (size * (size - 1));
  };
  return withoutSelf(x) + withoutSelf(y) - 2 * kernel(x, y).mean().item();
}

function requireFeatures(where: string, features: Tensor): void {
  const [count = 0] = features.shape;
  if (features.shape.length !== 2 || count < 2) {
    throw new UserError(
      `${where}: features have shape [${features.shape}] — [pictures, features] with 2 pictures at least.`,
    );
  }
}
