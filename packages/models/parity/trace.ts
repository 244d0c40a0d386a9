import type { Tensor } from '@rldf/torch';
import { Attention, BasicTransformerBlock, GatedSelfAttentionDense } from '../src/attention.js';
import { TimestepEmbedding } from '../src/embeddings.js';
import { TextBoxProjection } from '../src/grounding.js';
import { Downsample2D, ResnetBlock2D, Upsample2D } from '../src/resnet.js';
import { Transformer2DModel } from '../src/transformer-2d.js';
import { DownBlock, MidBlock, UpBlock } from '../src/unet-blocks.js';
import { type Numbers, numbers } from './golden.js';

// biome-ignore lint/suspicious/noExplicitAny: forward methods of any signature are wrapped
type Forward = (...inputs: any[]) => Tensor | Tensor[];

const CLASSES: { readonly [kind: string]: { prototype: { forward: Forward } } } = {
  Attention,
  BasicTransformerBlock,
  DownBlock,
  Downsample2D,
  GatedSelfAttentionDense,
  MidBlock,
  ResnetBlock2D,
  TextBoxProjection,
  TimestepEmbedding,
  Transformer2DModel,
  UpBlock,
  Upsample2D,
};

/**
 * Runs `fn` and notes what the blocks inside a network answer. Layers are private, so blocks are told apart by
 * the order in which the instances of each class finish, which the golden lists by name.
 *
 * @param order class -> names of its instances in the order of finishing
 */
export function trace<T>(
  order: { readonly [kind: string]: readonly string[] },
  fn: () => T,
): { result: T; blocks: { [name: string]: Numbers } } {
  const blocks: { [name: string]: Numbers } = {};
  const restore: (() => void)[] = [];
  for (const [kind, names] of Object.entries(order)) {
    const prototype = CLASSES[kind]!.prototype;
    const original = prototype.forward;
    let calls = 0;
    prototype.forward = function (this: unknown, ...inputs) {
      const output = original.apply(this, inputs);
      const last = Array.isArray(output) ? output[output.length - 1]! : output;
      blocks[`blocks.${names[calls++] ?? `${kind} call ${calls}`}`] = numbers(last);
      return output;
    };
    restore.push(() => {
      prototype.forward = original;
    });
  }
  try {
    return { result: fn(), blocks };
  } finally {
    for (const undo of restore) undo();
  }
}
