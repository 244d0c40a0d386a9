import type { Mutant } from './mutant.js';

const VAE = 'models/src/autoencoder-kl.ts';
const DDIM = 'models/src/schedulers/ddim.ts';
const DPM = 'models/src/schedulers/dpm-solver-multistep.ts';
const EULER = 'models/src/schedulers/euler-discrete.ts';
const PNDM = 'models/src/schedulers/pndm.ts';
const LMS = 'models/src/schedulers/lms-discrete.ts';
const SPACING = 'models/src/schedulers/timestep-spacing.ts';
const SCHEDULE = 'models/src/schedulers/noise-schedule.ts';
const TOKENIZER = 'models/src/clip-tokenizer.ts';
const LORA = 'models/src/lora.ts';
const LORA_CONFIG = 'models/src/lora-config.ts';
const LORA_FILES = 'models/src/lora-files.ts';
const PIPELINE = 'models/src/pipeline.ts';
const LAYERS = 'torch/src/nn/layers.ts';

/** Faults in schedulers, tokenizer, LoRA, guidance and pipeline. */
export const samplingMutants: readonly Mutant[] = [
  {
    name: 'ddim-eta-not-squared',
    file: DDIM,
    find: 'eta ** 2',
    replace: 'eta',
    cases: ['scheduler-ddim-eta-half'],
  },
  {
    name: 'ddim-variance-not-relative',
    file: DDIM,
    find: '((1 - previousAlphaBar) / (1 - alphaBar))',
    replace: '(1 - previousAlphaBar)',
    cases: ['scheduler-ddim-sd-eta1', 'ddim-table'],
  },
  {
    name: 'ddim-noise-factor-without-variance',
    file: DDIM,
    find: 'Math.sqrt(1 - previousAlphaBar - variance)',
    replace: 'Math.sqrt(1 - previousAlphaBar)',
    cases: ['scheduler-ddim-sd-eta1'],
  },
  {
    name: 'ddim-ends-at-alpha-one',
    file: DDIM,
    find: '(config.set_alpha_to_one ?? true) ? 1',
    replace: 'config ? 1',
    cases: ['scheduler-ddim-sd'],
  },
  {
    name: 'ddim-without-clip-sample',
    file: DDIM,
    find: 'predicted.original.clamp(-range, range)',
    replace: 'predicted.original',
    cases: ['scheduler-ddim-linear-clip'],
  },
  {
    name: 'leading-without-steps-offset',
    file: SPACING,
    find: 'i * stride + (config.steps_offset ?? 0)',
    replace: 'i * stride',
    cases: ['scheduler-ddim-sd'],
  },
  {
    name: 'trailing-off-by-one',
    file: SPACING,
    find: '/ steps) - 1',
    replace: '/ steps) - 2',
    cases: ['scheduler-ddim-trailing-v'],
  },
  {
    name: 'v-prediction-sign',
    file: SCHEDULE,
    find: 'sample.mul(signal).sub(modelOutput.mul(scale))',
    replace: 'sample.mul(signal).add(modelOutput.mul(scale))',
    cases: ['scheduler-ddim-trailing-v'],
  },
  {
    name: 'velocity-target-sign',
    file: SCHEDULE,
    find: 'noise.mul(signal).sub(original.mul(scale))',
    replace: 'original.mul(scale).sub(noise.mul(signal))',
    cases: ['scheduler-ddim-sd'],
  },
  {
    name: 'betas-scaled-after-squaring',
    file: SCHEDULE,
    find: 'line(Math.sqrt(start), Math.sqrt(end), i) ** 2',
    replace: 'line(start, end, i)',
    cases: ['scheduler-ddim-sd', 'ddim-table'],
  },
  {
    name: 'ddpm-fixed-small-is-large',
    file: 'models/src/schedulers/ddpm.ts',
    find: "variance_type === 'fixed_large' ? beta : posterior",
    replace: "variance_type === 'fixed_large' ? beta : beta",
    cases: ['scheduler-ddpm-sd'],
  },
  {
    name: 'dpm-solver-first-order',
    file: DPM,
    find: 'config.solver_order === 1 ||',
    replace: 'true ||',
    cases: ['scheduler-dpm-sd-5'],
  },
  {
    name: 'dpm-solver-half-extrapolation',
    file: DPM,
    find: '(2 * ratio)',
    replace: 'ratio',
    cases: ['scheduler-dpm-sd-20'],
  },
  {
    name: 'dpm-solver-always-lower-final-order',
    file: DPM,
    find: 'config.lower_order_final !== false && steps < 15',
    replace: 'config.lower_order_final !== false',
    cases: ['scheduler-dpm-sigma-min'],
  },
  {
    name: 'euler-input-not-scaled',
    file: EULER,
    find: 'return sample.div(Math.hypot(this.#sigma(stepIndex), 1))',
    replace: 'return sample.div(1)',
    cases: ['scheduler-euler'],
  },
  {
    name: 'euler-initial-noise-scale',
    file: EULER,
    find: 'Math.hypot(largest, 1) : largest',
    replace: 'largest : largest',
    cases: ['scheduler-euler-sd'],
  },
  {
    name: 'pndm-first-step-not-again',
    file: PNDM,
    find: '[first, second, second, ...rest]',
    replace: '[first, second, ...rest]',
    cases: ['scheduler-pndm-sd-10'],
  },
  {
    name: 'pndm-third-order',
    file: PNDM,
    find: 'if (this.#answers.length > 4)',
    replace: 'if (this.#answers.length > 3)',
    cases: ['scheduler-pndm-sd-10', 'scheduler-pndm-prk-9'],
  },
  {
    name: 'pndm-runge-kutta-weights',
    file: PNDM,
    find: '[1 / 6, 1 / 3, 1 / 3, 1 / 6]',
    replace: '[1 / 4, 1 / 4, 1 / 4, 1 / 4]',
    cases: ['scheduler-pndm-prk-4'],
  },
  {
    name: 'pndm-ends-at-alpha-one',
    file: PNDM,
    find: 'config.set_alpha_to_one === true ? 1',
    replace: 'config ? 1',
    cases: ['scheduler-pndm-sd-10'],
  },
  {
    name: 'lms-third-order',
    file: LMS,
    find: 'const ORDER = 4',
    replace: 'const ORDER = 3',
    cases: ['scheduler-lms-sd-10'],
  },
  {
    name: 'lms-one-point-integral',
    file: LMS,
    find: 'basis(middle - half / Math.sqrt(3))',
    replace: 'basis(middle)',
    cases: ['scheduler-lms-sd-3'],
  },
  {
    name: 'tokenizer-cuts-end-token',
    file: TOKENIZER,
    find: 'ids.push(this.endId);',
    replace: 'ids.push(ids.length === room ? this.padId : this.endId);',
    cases: ['tokenizer-24'],
  },
  {
    name: 'tokenizer-keeps-upper-case',
    file: TOKENIZER,
    find: "{ type: 'Lowercase' },",
    replace: '',
    cases: ['tokenizer-77'],
  },
  {
    name: 'tokenizer-pads-with-end-token',
    file: TOKENIZER,
    find: 'ids.push(this.padId);\n    return { ids, words }',
    replace: 'ids.push(this.endId);\n    return { ids, words }',
    cases: ['tokenizer-24'],
  },
  {
    name: 'tokenizer-without-contractions',
    file: TOKENIZER,
    find: "'s|'t|",
    replace: "'t|",
    cases: ['tokenizer-77'],
  },
  {
    name: 'lora-ignores-alpha',
    file: LORA,
    find: 'branch.scale = (strength * alpha) / rank',
    replace: 'branch.scale = strength',
    cases: ['lora'],
  },
  {
    name: 'lora-alpha-not-over-rank',
    file: LORA,
    find: 'branch.scale = (strength * alpha) / rank',
    replace: 'branch.scale = strength * alpha',
    cases: ['lora'],
  },
  {
    name: 'lora-merges-without-scale',
    file: LORA,
    find: 'weight.add(update.reshape(weight.shape), scale)',
    replace: 'weight.add(update.reshape(weight.shape))',
    cases: ['lora-diffusers'],
  },
  {
    name: 'lora-branch-without-scale',
    file: LAYERS,
    find: 'y.add(F.linear(F.linear(x, down), up), scale)',
    replace: 'y.add(F.linear(F.linear(x, down), up))',
    cases: ['lora'],
  },
  {
    name: 'lora-ignores-alpha-in-metadata',
    file: LORA_FILES,
    find: 'layer.alpha ?? configAlpha(configs, part, path, rank)',
    replace: 'layer.alpha ?? rank',
    cases: ['lora-diffusers'],
  },
  {
    name: 'lora-ignores-alpha-of-kohya',
    file: LORA_FILES,
    find: 'layer.alpha ?? configAlpha(configs, part, path, rank)',
    replace: 'configAlpha(configs, part, path, rank)',
    cases: ['lora-kohya'],
  },
  {
    name: 'peft-patterns-are-ends-of-names',
    file: LORA_CONFIG,
    find: 'fits(where, key, pattern, names)) return value',
    replace: 'names.some((name) => name.endsWith(pattern))) return value',
    cases: ['lora-peft'],
  },
  {
    name: 'rslora-ignored',
    file: LORA_CONFIG,
    find: 'alpha * Math.sqrt(rank)',
    replace: 'alpha',
    cases: ['lora-peft'],
  },
  {
    name: 'guidance-halves-swapped',
    file: 'models/src/guidance.ts',
    find: 'const [unconditional, conditional]',
    replace: 'const [conditional, unconditional]',
    cases: ['pipeline'],
  },
  {
    name: 'guidance-scale-off-by-one',
    file: 'models/src/guidance.ts',
    find: 'difference.mul(guidanceScale)',
    replace: 'difference.mul(guidanceScale + 1)',
    cases: ['pipeline'],
  },
  {
    name: 'negative-prompts-ignored',
    file: PIPELINE,
    find: '...(negatives ?? [])',
    replace: "...(negatives ?? []).map(() => '')",
    cases: ['pipeline-negative'],
  },
  {
    name: 'vae-scaling-factor-inverted',
    file: VAE,
    find: 'latents.div(this.scalingFactor)',
    replace: 'latents.mul(this.scalingFactor)',
    cases: ['pipeline-guidance-1'],
  },
  {
    name: 'network-sees-next-timestep',
    file: PIPELINE,
    find: 'predictGuided(pipeline.unet, input, timestep,',
    replace: 'predictGuided(pipeline.unet, input, timesteps[step + 1] ?? 0,',
    cases: ['pipeline-guidance-5'],
  },
  {
    name: 'picture-bytes-cut-not-rounded',
    file: PIPELINE,
    find: '.mul(255).round()',
    replace: '.mul(255)',
    cases: ['pipeline-guidance-1'],
  },
];
