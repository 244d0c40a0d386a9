/** What the network is told of a picture: its prompt as one or two text encoders read it and, of XL, its sizes. */

import { cat, scope, type Tensor, tensor } from '@rldf/torch';
import type { CLIPTokenizer } from './clip-tokenizer.js';
import type { Conditioning } from './conditioning.js';
import { latentShape, type PictureSize, pixelsOf } from './picture-size.js';
import type { Pipeline } from './pipeline.js';

/** Sizes that XL is told, as training pictures had them (Podell et al. 2023, section 2.2); [height, width] in pixels. */
export interface MicroConditioning {
  /** Before it was scaled; the size drawn by default. */
  originalSize?: PictureSize | undefined;
  /** What was cut off above and to the left; [0, 0] by default. */
  crop?: readonly [top: number, left: number] | undefined;
  /** That was aimed at; the size drawn by default. */
  targetSize?: PictureSize | undefined;
}

/**
 * Text features of prompts, of their pieces behind each other; of XL also their summary and the picture's sizes. Differentiable in
 * the text encoders' weights.
 *
 * @param prompts null is no prompt: zeros where the model was trained so, else the empty one
 * @param size of the pictures, which XL is told; that of the pipeline by default
 */
export function encodePrompts(
  pipeline: Pipeline,
  prompts: readonly (string | null)[],
  size: PictureSize = pixelsOf(pipeline, latentShape(pipeline)),
): Conditioning {
  return scope(() => {
    const { textEncoder, tokenizer, textEncoder2, tokenizer2, promptChunks: chunks = 1 } = pipeline;
    const { device } = textEncoder;
    const texts = prompts.map((prompt) => prompt ?? '');
    const idsOf = (tokenizer: CLIPTokenizer) => {
      const ids = chunks === 1 ? tokenizer.encode(texts).ids : tokenizer.encodeChunks(texts, chunks);
      return tensor(ids, { dtype: 'int64', device }); // [B * chunks, L]
    };
    const joined = (states: Tensor) => {
      const [, length, width] = states.shape as [number, number, number];
      return states.reshape([prompts.length, chunks * length, width]); // [B, chunks * L, D]
    };
    if (textEncoder2 === undefined || tokenizer2 === undefined)
      return { hiddenStates: joined(textEncoder.forward(idsOf(tokenizer)).lastHiddenState) };

    // each encoder's last layer but one, without the final norm
    const first = textEncoder.forward(idsOf(tokenizer), { hiddenStates: true }).hiddenStates!.at(-2)!;
    const second = textEncoder2.forward(idsOf(tokenizer2), { hiddenStates: true });
    const hiddenStates = joined(cat([first, second.hiddenStates!.at(-2)!], 2)); // [B, chunks * L, D1 + D2]
    const pooled = second.textEmbeds.reshape([prompts.length, chunks, -1]).select(1, 0); // [B, P], of the first piece
    const { originalSize = size, crop = [0, 0], targetSize = size } = pipeline.microConditioning ?? {};
    const ids = [...originalSize, ...crop, ...targetSize];
    const timeIds = tensor(ids, { dtype: 'float32', device }).unsqueeze(0).expand([prompts.length, -1]); // [B, 6]
    if (pipeline.forceZerosForEmptyPrompt !== true || !prompts.includes(null))
      return { hiddenStates, pooled, timeIds };
    const told = tensor(
      prompts.map((prompt) => (prompt === null ? 0 : 1)),
      { shape: [prompts.length, 1], dtype: pooled.dtype, device },
    );
    return { hiddenStates: hiddenStates.mul(told.unsqueeze(2)), pooled: pooled.mul(told), timeIds };
  });
}

/** The prompt as the model tells it apart from others: no prompt is the empty one where it is not told as zeros. */
export function toldOf(
  { forceZerosForEmptyPrompt = false }: Pick<Pipeline, 'forceZerosForEmptyPrompt'>,
  prompt: string | null,
): string | null {
  return prompt ?? (forceZerosForEmptyPrompt ? null : '');
}
