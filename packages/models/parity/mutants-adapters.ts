import type { Mutant } from './mutant.js';

const KINDS = 'models/src/lora-kinds.ts';
const FILES = 'models/src/lora-read.ts';
const CONFIG = 'models/src/lora-config.ts';
const KOHYA = 'models/src/lora-kohya.ts';
const NAMES = 'models/src/single-file/names.ts';
const LORA = 'models/src/lora.ts';

/** Faults in LoCon, LoHa, LoKr and DoRA, and in the names of their files. */
export const adapterMutants: readonly Mutant[] = [
  {
    name: 'loha-of-one-product',
    file: KINDS,
    find: "product('hada_w2_a', 'hada_w2_b', 'hada_t2'))",
    replace: "product('hada_w1_a', 'hada_w1_b', 'hada_t1'))",
    cases: ['lora-kind-loha', 'lora-kind-peft-loha'],
  },
  {
    name: 'lokr-factors-swapped',
    file: KINDS,
    find: '.reshape([a, 1, c, 1])',
    replace: '.reshape([1, a, 1, c])',
    cases: ['lora-kind-lokr'],
  },
  {
    name: 'kinds-alpha-not-over-rank',
    file: FILES,
    find: 'scale = layer.alpha / own',
    replace: 'scale = layer.alpha',
    cases: ['lora-kind-loha', 'lora-kind-dora'],
  },
  {
    name: 'kinds-whole-lokr-by-alpha',
    file: FILES,
    find: 'own !== undefined && layer.alpha !== undefined',
    replace: 'layer.alpha !== undefined',
    cases: ['lora-kind-lokr-whole'],
  },
  {
    name: 'kinds-ignore-peft-alpha',
    file: CONFIG,
    find: 'config.lora_alpha ?? config.alpha ?? rank',
    replace: 'config.lora_alpha ?? rank',
    cases: ['lora-kind-peft-lokr', 'lora-kind-peft-loha'],
  },
  {
    name: 'dora-lengths-as-factors',
    file: KINDS,
    find: '.reshape(now.shape).div(now)',
    replace: '.reshape(now.shape)',
    cases: ['lora-kind-dora'],
  },
  {
    name: 'dora-always-of-rows',
    file: KINDS,
    find: 'ofInputs(factors, weight) ? 1 : 0',
    replace: '0',
    cases: ['lora-kind-dora-of-inputs'],
  },
  {
    name: 'dora-of-the-update-alone',
    file: KINDS,
    find: 'decomposed(factors, original.add(update))',
    replace: 'decomposed(factors, update)',
    cases: ['lora-kind-dora', 'lora-kind-lokr-dora'],
  },
  {
    name: 'kinds-without-strength',
    file: LORA,
    find: 'weight.add(of(entry.original).to(weight.dtype), scale)',
    replace: 'weight.add(of(entry.original).to(weight.dtype))',
    cases: ['lora-kind-lokr'],
  },
  {
    name: 'kinds-stay-when-taken-off',
    file: LORA,
    find: 'entry.updates.filter((other) => other !== update)',
    replace: 'entry.updates',
    cases: ['lora-kind-loha'],
  },
  {
    name: 'locon-core-ignored',
    file: FILES,
    find: 'factors.mid === undefined ? down : downOf(factors)',
    replace: 'down',
    cases: ['lora-kind-locon-tucker'],
  },
  {
    name: 'names-label-emb-swapped',
    file: NAMES,
    find: "['label_emb.0.0', 'add_embedding.linear_1']",
    replace: "['label_emb.0.0', 'add_embedding.linear_2']",
    cases: ['lora-names'],
  },
  {
    name: 'names-attention-by-another-count',
    file: NAMES,
    find: "const number = Number(block) - (side === 'input' ? 1 : 0);",
    replace: 'const number = Number(block);',
    cases: ['lora-names'],
  },
  {
    name: 'kohya-xl-in-diffusers-names',
    file: KOHYA,
    find: 'if (!xl) return kohyaName(part, path);',
    replace: "if (!xl || part === 'unet') return kohyaName(part, path);",
    cases: ['lora-names'],
  },
  {
    name: 'kohya-xl-encoders-not-counted',
    file: KOHYA,
    find: ".replace('lora_te_', 'lora_te1_')",
    replace: '',
    cases: ['lora-names'],
  },
];
