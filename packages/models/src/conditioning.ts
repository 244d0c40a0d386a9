import { cat, scope, Tensor } from '@rldf/torch';
import type { Grounding } from './grounding.js';

/**
 * All a denoising network is told besides the noisy latents and the timestep. A network that reads more adds its
 * field here and needs no other signature.
 */
export interface Conditioning {
  /** Text features, [B, L, D]. */
  hiddenStates: Tensor;
  /** Of SDXL: the whole prompt in one vector, [B, P]. */
  pooled?: Tensor;
  /** Of SDXL: sizes and crop of the picture in pixels (`timeIds` in micro-conditioning.ts), [B, 6]. */
  timeIds?: Tensor;
  /** Of GLIGEN: objects with their places. Without, its gated layers are off. */
  grounding?: Grounding;
  /** Set by the network itself: what it makes of `grounding` before its layers read it, [B, N, D]. */
  objects?: Tensor;
  /** What a network has computed from all this already, so that it need not do so again at every denoising step. */
  prepared?: PreparedConditioning;
}

/**
 * What the layers of one network compute from the conditioning alone, by layer; first dimension B. Keys and values of
 * the attentions to the text, the text's share of the time embedding. Made by `UNet2DConditionModel.prepare`, and stale
 * as soon as the weights of these layers change.
 */
export type PreparedConditioning = Map<object, readonly Tensor[]>;

/** Joins conditionings along the batch. Fields that a part lacks are left out. Differentiable. */
export function joinConditionings(parts: readonly Conditioning[]): Conditioning {
  return scope(() => combine(parts, (tensors) => cat(tensors)) as object) as Conditioning;
}

/**
 * Rows of a conditioning, each any number of times. Differentiable.
 *
 * @param rows int64 [N], each from 0 to B - 1
 */
export function selectRows(conditioning: Conditioning, rows: Tensor): Conditioning {
  return scope(
    () => combine([conditioning], ([tensor]) => tensor!.indexSelect(0, rows)) as object,
  ) as Conditioning;
}

/** The same with the gated layers of a grounded network off, as in the later denoising steps. No new tensors. */
export function withoutGrounding({ grounding: _, ...conditioning }: Conditioning): Conditioning {
  return conditioning;
}

/** One tree out of trees of the same form: `merge` of the tensors at each place that all of them have. */
function combine(parts: readonly unknown[], merge: (tensors: readonly Tensor[]) => Tensor): unknown {
  const [first] = parts;
  if (first instanceof Tensor) return merge(parts as Tensor[]);
  const entries = parts.map(
    (part) => new Map<unknown, unknown>(part instanceof Map ? part : Object.entries(part as object)),
  );
  const shared = [...entries[0]!.keys()].filter((key) =>
    entries.every((entry) => entry.get(key) !== undefined),
  );
  const combined = shared.map((key): [unknown, unknown] => [
    key,
    combine(
      entries.map((entry) => entry.get(key)),
      merge,
    ),
  ]);
  if (first instanceof Map) return new Map(combined);
  return Array.isArray(first)
    ? combined.map(([, value]) => value)
    : Object.fromEntries(combined as [string, unknown][]);
}
