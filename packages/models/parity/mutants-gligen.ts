import type { Mutant } from './mutant.js';

const ATTENTION = 'models/src/attention.ts';
const GROUNDING = 'models/src/grounding.ts';
const PIPELINE = 'models/src/pipeline.ts';
const PROMPTS = 'models/src/prompts.ts';

/** Faults in what is told of objects and their places. */
export const gligenMutants: readonly Mutant[] = [
  {
    name: 'gligen-attention-gate-open',
    file: ATTENTION,
    find: 'this.#alphaAttention.tanh().mul(attended)',
    replace: 'this.#alphaAttention.mul(0).add(1).mul(attended)',
    cases: ['unet-gligen'],
  },
  {
    name: 'gligen-dense-gate-without-tanh',
    file: ATTENTION,
    find: 'this.#alphaDense.tanh().mul(dense)',
    replace: 'this.#alphaDense.mul(dense)',
    cases: ['unet-gligen'],
  },
  {
    name: 'gligen-objects-without-norm',
    file: ATTENTION,
    find: 'this.#norm1.forward(this.#linear.forward(objects))',
    replace: 'this.#linear.forward(objects)',
    cases: ['unet-gligen'],
  },
  {
    name: 'gligen-objects-alone-are-attended-to',
    file: ATTENTION,
    find: 'this.#attention.forward(normed, normed, both)',
    replace: 'this.#attention.forward(normed, normed, ofObjects)',
    cases: ['unet-gligen'],
  },
  {
    name: 'gligen-layer-runs-without-boxes',
    file: ATTENTION,
    find: 'if (this.fuser && grounding)',
    replace: 'if (this.fuser && (objects || prepared?.get(this.fuser)))',
    cases: ['pipeline-gligen-scheduled'],
  },
  {
    name: 'gligen-padding-without-null-features',
    file: GROUNDING,
    find: '.add(told.mul(-1).add(1).mul(unknown))',
    replace: '.add(told.mul(0).mul(unknown))',
    cases: ['unet-gligen'],
  },
  {
    name: 'gligen-sine-behind-cosine',
    file: GROUNDING,
    find: 'cat([angles.sin().unsqueeze(3), angles.cos().unsqueeze(3)], 3)',
    replace: 'cat([angles.cos().unsqueeze(3), angles.sin().unsqueeze(3)], 3)',
    cases: ['unet-gligen'],
  },
  {
    name: 'gligen-frequencies-of-timesteps',
    file: GROUNDING,
    find: '100 ** (k / FREQUENCIES)',
    replace: '10000 ** (k / FREQUENCIES)',
    cases: ['unet-gligen'],
  },
  {
    name: 'gligen-position-in-front-of-phrase',
    file: GROUNDING,
    find: 'cat([phrase, position], 2)',
    replace: 'cat([position, phrase], 2)',
    cases: ['unet-gligen'],
  },
  {
    name: 'gligen-boxes-as-xywh',
    file: PROMPTS,
    find: '({ box }) => box,',
    replace: '({ box: [x, y, right, bottom] }) => [x, y, right - x, bottom - y],',
    cases: ['pipeline-gligen-guidance-1'],
  },
  {
    name: 'gligen-boxes-as-yxyx',
    file: PROMPTS,
    find: '({ box }) => box,',
    replace: '({ box: [x, y, right, bottom] }) => [y, x, bottom, right],',
    cases: ['pipeline-gligen-guidance-1'],
  },
  {
    name: 'gligen-phrases-by-first-hidden-state',
    file: PROMPTS,
    find: 'const { pooled } = textEncoder.forward(ids);',
    replace: 'const pooled = textEncoder.forward(ids).lastHiddenState.select(1, 0);',
    cases: ['pipeline-gligen-guidance-1'],
  },
  {
    name: 'gligen-phrases-by-last-hidden-state',
    file: PROMPTS,
    find: 'const { pooled } = textEncoder.forward(ids);',
    replace: 'const pooled = textEncoder.forward(ids).lastHiddenState.select(1, ids.shape[1]! - 1);',
    cases: ['pipeline-gligen-guidance-1'],
  },
  {
    name: 'gligen-mask-stays-in-unconditional-half',
    file: PIPELINE,
    find: 'objects[i - (negatives?.length ?? 0)] ?? []',
    replace: 'objects[i % objects.length] ?? []',
    cases: ['pipeline-gligen-guidance-5'],
  },
  {
    name: 'gligen-layers-never-off',
    file: PIPELINE,
    find: 'step < grounded ? conditioning : withoutGrounding(conditioning)',
    replace: 'conditioning',
    cases: ['pipeline-gligen-scheduled'],
  },
  {
    name: 'gligen-layers-off-by-rounding',
    file: GROUNDING,
    find: 'Math.trunc(beta * steps)',
    replace: 'Math.round(beta * steps)',
    cases: ['pipeline-gligen-scheduled'],
  },
  {
    name: 'gligen-layers-off-one-step-late',
    file: PIPELINE,
    find: 'step < grounded ?',
    replace: 'step <= grounded ?',
    cases: ['pipeline-gligen-scheduled-3'],
  },
];
