import type { Mutant } from './mutant.js';

const PROMPTS = 'models/src/prompts.ts';
const EMBEDDINGS = 'models/src/embeddings.ts';
const text = ['pipeline-xl-text'];
const drawn = ['pipeline-xl-none', 'pipeline-xl-sizes'];

/** Faults in what Stable Diffusion XL is told: by its two text encoders, of the picture's sizes, in the place of no prompt. */
export const xlMutants: readonly Mutant[] = [
  {
    name: 'xl-text-encoders-swapped',
    file: PROMPTS,
    find: 'cat([first, second.hiddenStates!.at(-2)!], 2)',
    replace: 'cat([second.hiddenStates!.at(-2)!, first], 2)',
    cases: text,
  },
  {
    name: 'xl-last-layer-of-the-first',
    file: PROMPTS,
    find: '{ hiddenStates: true }).hiddenStates!.at(-2)!',
    replace: '{ hiddenStates: true }).hiddenStates!.at(-1)!',
    cases: text,
  },
  {
    name: 'xl-last-layer-of-the-second',
    file: PROMPTS,
    find: 'second.hiddenStates!.at(-2)!',
    replace: 'second.hiddenStates!.at(-1)!',
    cases: text,
  },
  {
    name: 'xl-penultimate-layer-normed',
    file: PROMPTS,
    find: '{ hiddenStates: true }).hiddenStates!.at(-2)!',
    replace: '{ clipSkip: 1 }).lastHiddenState',
    cases: text,
  },
  {
    name: 'xl-summary-of-the-first',
    file: PROMPTS,
    find: 'second.textEmbeds.reshape',
    replace: 'textEncoder.forward(idsOf(tokenizer)).pooled.reshape',
    cases: text,
  },
  {
    name: 'xl-summary-not-projected',
    file: PROMPTS,
    find: 'second.textEmbeds.reshape',
    replace: 'second.pooled.narrow(1, 0, 8).reshape',
    cases: text,
  },
  {
    name: 'xl-second-reads-the-first-padding',
    file: PROMPTS,
    find: 'textEncoder2.forward(idsOf(tokenizer2)',
    replace: 'textEncoder2.forward(idsOf(tokenizer)',
    cases: text,
  },
  {
    name: 'xl-first-reads-the-second-padding',
    file: PROMPTS,
    find: 'textEncoder.forward(idsOf(tokenizer), {',
    replace: 'textEncoder.forward(idsOf(tokenizer2), {',
    cases: text,
  },
  {
    name: 'xl-sizes-width-first',
    file: PROMPTS,
    find: '[...originalSize, ...crop, ...targetSize]',
    replace: '[...originalSize, ...crop, ...targetSize].map((_, i, all) => all[i ^ 1]!)',
    cases: drawn,
  },
  {
    name: 'xl-crop-after-target',
    file: PROMPTS,
    find: '[...originalSize, ...crop, ...targetSize]',
    replace: '[...originalSize, ...targetSize, ...crop]',
    cases: drawn,
  },
  {
    name: 'xl-original-and-target-swapped',
    file: PROMPTS,
    find: '[...originalSize, ...crop, ...targetSize]',
    replace: '[...targetSize, ...crop, ...originalSize]',
    cases: ['pipeline-xl-sizes'],
  },
  {
    name: 'xl-sizes-of-the-model-not-the-picture',
    file: 'models/src/pipeline.ts',
    find: 'encodePrompts(pipeline, texts, size, boxes)',
    replace: 'encodePrompts(pipeline, texts, undefined, boxes)',
    cases: ['pipeline-xl-none'],
  },
  {
    name: 'xl-no-zeros-for-no-prompt',
    file: PROMPTS,
    find: 'prompt === null ? 0 : 1',
    replace: '1',
    cases: ['pipeline-xl-none'],
  },
  {
    name: 'xl-summary-of-no-prompt-stays',
    file: PROMPTS,
    find: 'pooled: pooled.mul(told)',
    replace: 'pooled',
    cases: ['pipeline-xl-none'],
  },
  {
    name: 'xl-empty-prompt-is-none',
    file: PROMPTS,
    find: 'return prompt ?? (',
    replace: 'return prompt || (',
    cases: ['pipeline-xl-empty'],
  },
  {
    name: 'xl-zeros-against-the-folder',
    file: 'models/src/pipeline-files.ts',
    find: 'index.force_zeros_for_empty_prompt !== false',
    replace: 'index.force_zeros_for_empty_prompt === false',
    cases: ['pipeline-xl-none'],
  },
  {
    name: 'xl-zeros-for-every-model',
    file: PROMPTS,
    find: 'return prompt ?? (forceZerosForEmptyPrompt ? null :',
    replace: "if (prompt === null) return '.';\n  return prompt ?? (forceZerosForEmptyPrompt ? null :",
    cases: ['pipeline-xl-none-not-zeros'],
  },
  {
    name: 'xl-sizes-before-the-summary',
    file: EMBEDDINGS,
    find: 'cat([pooled, flat], 1)',
    replace: 'cat([flat, pooled], 1)',
    cases: ['unet-sdxl'],
  },
  {
    name: 'xl-summary-of-the-first-picture-for-all',
    file: EMBEDDINGS,
    find: 'cat([pooled, flat], 1)',
    replace: 'cat([pooled.narrow(0, 0, 1).expand(pooled.shape), flat], 1)',
    cases: ['unet-sdxl'],
  },
  {
    name: 'xl-sizes-sine-first',
    file: EMBEDDINGS,
    find: 'flipSinToCos: config.flip_sin_to_cos ?? true',
    replace: 'flipSinToCos: false',
    cases: ['unet-sdxl'],
  },
  {
    name: 'xl-sizes-of-other-pictures',
    file: EMBEDDINGS,
    find: 'timeIds.flatten(0)',
    replace: 'timeIds.transpose(0, 1).flatten(0)',
    cases: ['unet-sdxl'],
  },
  {
    name: 'xl-sizes-after-the-activation',
    file: 'models/src/unet.ts',
    find: 'blocks.outer(embedding.silu())',
    replace:
      "blocks.outer(this.config.addition_embed_type === 'text_time' ? this.#timeEmbedding.forward(sinusoid.to(dtype)).silu().add(this.#addedEmbedding!.forward(own)) : embedding.silu())",
    cases: ['unet-sdxl'],
  },
  {
    name: 'xl-as-many-transformers-on-each-level',
    file: 'models/src/unet.ts',
    find: 'transformerLayers: transformerLayers[level]!',
    replace: 'transformerLayers: transformerLayers[levels - 1 - level]!',
    cases: ['unet-sdxl'],
  },
];
