// An auxiliary task of GLIGEN's gated layers while they are trained: a place attends to the object whose box covers it. A denoising
// loss alone finds this late: attention begins even over a hundred keys, so that what an object says reaches all places alike, and as
// a hundredth. Only the first head is taught, only what makes its attention learns by it, and nothing of it stays in the network.
import type { GatedSelfAttentionDense, Grounding } from '@rldf/models';
import { free, keep, scope, type Tensor, tensor } from '@rldf/torch';

// B batch · N objects · S side of a feature map

/**
 * What share of each place a box covers; of places that boxes cover together, each box's part.
 * @returns [B, S * S, N], row by row
 */
export function covered({ boxes, masks }: Pick<Grounding, 'boxes' | 'masks'>, side: number): Tensor {
  return scope(() => {
    const begins = tensor(
      Array.from({ length: side }, (_, i) => i / side),
      { shape: [1, side, 1] },
    );
    const share = (low: Tensor, high: Tensor) => {
      const from = begins.maximum(low.unsqueeze(1)); // [B, S, N]
      const to = begins.add(1 / side).minimum(high.unsqueeze(1));
      return to.sub(from).clamp(0).mul(side);
    };
    const [left, top, right, bottom] = [0, 1, 2, 3].map((edge) => boxes.select(2, edge)) as [Tensor, Tensor, Tensor, Tensor]; // biome-ignore format: one thought
    const columns = share(left, right).unsqueeze(1); // [B, 1, S, N]
    const rows = share(top, bottom).unsqueeze(2); // [B, S, 1, N]
    const told = masks.unsqueeze(1).unsqueeze(1);
    const shares = rows.mul(columns).mul(told).flatten(1, 2); // [B, S * S, N]
    return shares.div(shares.sum(2).clamp(1).unsqueeze(2));
  });
}

/**
 * Cross-entropy between how a place's attention is divided and what covers it: objects, or none of them, which is any other place.
 * @param logShares [B, S * S, S * S + N]
 */
export function attentionLoss(logShares: Tensor, grounding: Pick<Grounding, 'boxes' | 'masks'>): Tensor {
  return scope(() => {
    const places = logShares.shape[1] as number;
    const wanted = covered(grounding, Math.sqrt(places));
    const objects = logShares.narrow(2, places, wanted.shape[2] as number);
    const none = logShares.narrow(2, 0, places).logsumexp(2); // [B, S * S]
    const uncovered = wanted.sum(2).mul(-1).add(1);
    return wanted.mul(objects).sum(2).add(uncovered.mul(none)).mean().mul(-1);
  });
}

/** Runs a pass of a network of square pictures; answers with what it made and the loss of its layers, on average. */
export function watched<T>(
  layers: readonly GatedSelfAttentionDense[],
  grounding: Grounding,
  pass: () => T,
): { made: T; loss: Tensor } {
  const losses: Tensor[] = [];
  for (const layer of layers)
    layer.watch = (x, ofObjects) =>
      losses.push(keep(attentionLoss(layer.logShares(x.detach(), ofObjects), grounding)));
  try {
    const made = pass();
    return { made, loss: losses.reduce((sum, one) => sum.add(one)).mul(1 / losses.length) };
  } finally {
    for (const layer of layers) layer.watch = undefined;
    free(losses);
  }
}
