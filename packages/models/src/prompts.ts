/** What the network is told of a picture: its prompt as one or two text encoders read it and, of XL, its sizes. */

import { cat, noGrad, scope, type Tensor, tensor, UserError, zeros } from '@rldf/torch';
import type { CLIPTokenizer } from './clip-tokenizer.js';
import type { Conditioning } from './conditioning.js';
import { checkObjects, type GroundedObject, type Grounding, MOST_OBJECTS } from './grounding.js';
import { latentShape, type PictureSize, pixelsOf } from './picture-size.js';
import type { Pipeline } from './pipeline.js';
import { resident } from './residency.js';

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
 * the text encoders' weights, but for phrases, which are constants.
 *
 * @param prompts null is no prompt: zeros where the model was trained so, else the empty one
 * @param size of the pictures, which XL is told; that of the pipeline by default
 * @param objects of each picture, of a model of GLIGEN's kind; where there are none it is told its null features
 */
export function encodePrompts(
  pipeline: Pipeline,
  prompts: readonly (string | null)[],
  size: PictureSize = pixelsOf(pipeline, latentShape(pipeline)),
  objects: readonly (readonly GroundedObject[])[] = prompts.map(() => []),
): Conditioning {
  return scope(() => {
    const text = encodeText(pipeline, prompts, size);
    const grounding = encodeObjects(pipeline, objects);
    return grounding === undefined ? text : { ...text, grounding };
  });
}

function encodeText(
  pipeline: Pipeline,
  prompts: readonly (string | null)[],
  size: PictureSize,
): Conditioning {
  const { textEncoder, textEncoder2 } = pipeline.parameters;
  return resident(pipeline, [textEncoder, textEncoder2], () => encoded(pipeline, prompts, size));
}

function encoded(pipeline: Pipeline, prompts: readonly (string | null)[], size: PictureSize): Conditioning {
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

/**
 * Objects as the position net reads them, padded by zeros. A phrase is what the text encoder says at its end, after the final norm.
 * Phrases are encoded without gradient: a text encoder that learns, learns from prompts.
 *
 * @param pictures the objects of each; none are told as null features
 * @returns undefined for a model that is not told objects
 */
export function encodeObjects(
  { textEncoder, tokenizer, unet }: Pick<Pipeline, 'textEncoder' | 'tokenizer' | 'unet'>,
  pictures: readonly (readonly GroundedObject[])[],
): Grounding | undefined {
  if (!unet.grounded) {
    if (pictures.every(({ length }) => length === 0)) return undefined;
    throw new UserError(
      'grounding: this model cannot be told boxes — its U-Net has no position net (attention_type: gated). Leave them out, or use a model of GLIGEN’s kind.',
    );
  }
  for (const objects of pictures) checkObjects('grounding', objects);
  return noGrad(() =>
    scope(() => {
      const { device } = unet;
      const [count, most] = [pictures.length, MOST_OBJECTS];
      const padded = <T>(told: (object: GroundedObject) => T, nothing: T): T[] =>
        pictures.flatMap((objects) =>
          Array.from({ length: most }, (_, i) => (objects[i] ? told(objects[i]) : nothing)),
        );
      const boxes = tensor(padded<readonly number[]>(({ box }) => box, [0, 0, 0, 0]).flat(), {
        shape: [count, most, 4],
        dtype: 'float32',
        device,
      });
      const masks = tensor(
        padded(() => 1, 0),
        { shape: [count, most], dtype: 'float32', device },
      );
      const texts = [...new Set(pictures.flatMap((objects) => objects.map(({ phrase }) => phrase)))];
      const width = textEncoder.config.hidden_size ?? 512;
      if (texts.length === 0)
        return { boxes, masks, phrases: zeros([count, most, width], { dtype: 'float32', device }) };
      const ids = tensor(tokenizer.encode(texts).ids, { dtype: 'int64', device });
      const { pooled } = textEncoder.forward(ids); // [P, D]
      const rows = tensor(
        padded(({ phrase }) => texts.indexOf(phrase), 0),
        { dtype: 'int64', device },
      );
      const phrases = pooled
        .to('float32')
        .indexSelect(0, rows)
        .reshape([count, most, width])
        .mul(masks.unsqueeze(2));
      return { boxes, masks, phrases };
    }),
  );
}

/** The prompt as the model tells it apart from others: no prompt is the empty one where it is not told as zeros. */
export function toldOf(
  { forceZerosForEmptyPrompt = false }: Pick<Pipeline, 'forceZerosForEmptyPrompt'>,
  prompt: string | null,
): string | null {
  return prompt ?? (forceZerosForEmptyPrompt ? null : '');
}
