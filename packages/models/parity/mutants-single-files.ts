import type { Mutant } from './mutant.js';

const NAMES = 'models/src/single-file/names.ts';
const CONFIG = 'models/src/single-file/config.ts';
const cases = ['single-files'];

/** Faults in how single-file checkpoints are named and understood. */
export const singleFileMutants: readonly Mutant[] = [
  {
    name: 'ldm-norms-exchanged',
    file: NAMES,
    find: "['in_layers.0', 'norm1'],",
    replace: "['in_layers.0', 'norm2'],",
    cases,
  },
  {
    name: 'ldm-upsampler-before-attention',
    file: NAMES,
    find: '? 2 : 1;\n    return `output_blocks',
    replace: '? 1 : 2;\n    return `output_blocks',
    cases,
  },
  {
    name: 'ldm-upsampler-by-the-level-from-below',
    file: NAMES,
    find: 'attends[attends.length - 1 - Number(step)]',
    replace: 'attends[Number(step)]',
    cases,
  },
  {
    name: 'ldm-blocks-counted-from-one',
    file: NAMES,
    find: "Number(block) - (side === 'input' ? 1 : 0)",
    replace: 'Number(block)',
    cases,
  },
  {
    name: 'ldm-vae-levels-not-turned',
    file: NAMES,
    find: 'levels - 1 - Number(level)',
    replace: 'Number(level)',
    cases,
  },
  {
    name: 'ldm-vae-middle-from-one',
    file: NAMES,
    find: 'Number(middle!.at(-1)) - 1',
    replace: 'Number(middle!.at(-1))',
    cases,
  },
  {
    name: 'ldm-label-is-time',
    file: NAMES,
    find: "['label_emb.0.0', 'add_embedding.linear_1'],",
    replace: "['label_emb.0.0', 'time_embedding.linear_1'],",
    cases,
  },
  {
    name: 'single-file-heads-of-first-kind',
    file: CONFIG,
    find: "attention_head_dim: kind === 'sd1' ? 8 :",
    replace: "attention_head_dim: kind !== 'xl' ? 8 :",
    cases,
  },
  {
    name: 'single-file-last-text-layer-kept',
    file: CONFIG,
    find: "kind === 'sd2' && layers !== 23 ? layers - 1 : layers",
    replace: "kind === 'sd2' ? layers - 1 : layers",
    cases,
  },
  {
    name: 'single-file-xl-scaled-as-first-kind',
    file: CONFIG,
    find: "scaling_factor: kind === 'xl' ? 0.13025 : 0.18215",
    replace: 'scaling_factor: 0.18215',
    cases,
  },
  {
    name: 'single-file-open-clip-quick',
    file: CONFIG,
    find: "hidden_act: openClip ? 'gelu' : 'quick_gelu'",
    replace: "hidden_act: 'quick_gelu'",
    cases,
  },
  {
    name: 'single-file-sizes-share-the-prompt',
    file: CONFIG,
    find: '(added - pooled) / 6',
    replace: 'added / 6',
    cases,
  },
  {
    name: 'single-file-velocity-not-upcast',
    file: CONFIG,
    find: "(kind === 'sd2' && velocity && { upcast_attention: true })",
    replace: "(kind === 'sd2' && velocity && { upcast_attention: false })",
    cases,
  },
];
