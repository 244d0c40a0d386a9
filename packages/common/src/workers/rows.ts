import { cat, type Tensor, zeros } from '@rldf/torch';

/** Pictures behind each other, uint8 [B, H, W, 3]; none of none, as of a worker without a share. */
export const catRows = (parts: readonly Tensor[]): Tensor =>
  parts.length === 0 ? zeros([0, 1, 1, 3], { dtype: 'uint8' }) : cat(parts);
