import type { Mutant } from './mutant.js';

const FACE = 'models/src/face-quality.ts';
const BERT = 'models/src/bert.ts';
const BLIP = 'models/src/blip-vision.ts';
const IMAGE_REWARD = 'models/src/blip-image-reward.ts';
const OPEN_CLIP = 'models/src/open-clip.ts';
const PIXELS = 'models/src/clip-pixels.ts';
const TOKENIZER = 'models/src/bert-tokenizer.ts';
const TORCH_FILE = 'torch/src/torch-file.ts';

/** Faults in the networks that score pictures, and in how pictures, prompts and weights come to them. */
export const scorerMutants: readonly Mutant[] = [
  {
    name: 'face-without-the-end-of-the-relu',
    file: FACE,
    find: '.clamp(0, 6)',
    replace: '.clamp(0)',
    cases: ['face-quality'],
  },
  {
    name: 'face-stride-of-the-third-block',
    file: FACE,
    find: '[1, 2, 1, 2, 1, 1, 2,',
    replace: '[1, 2, 2, 1, 1, 1, 2,',
    cases: ['face-quality'],
  },
  {
    name: 'face-adds-never',
    file: FACE,
    find: 'this.#adds ? branch.add(x) : branch',
    replace: 'branch',
    cases: ['face-quality'],
  },
  {
    name: 'face-norm-of-the-batch',
    file: FACE,
    find: 'const inference = { training: false }',
    replace: 'const inference = { training: true }',
    cases: ['face-quality'],
  },
  {
    name: 'blip-norm-epsilon',
    file: BLIP,
    find: 'const EPS = 1e-6',
    replace: 'const EPS = 1e-5',
    cases: ['image-reward'],
  },
  {
    name: 'blip-query-and-key-exchanged-with-value',
    file: BLIP,
    find: 'part(0), part(1), part(2)',
    replace: 'part(0), part(2), part(1)',
    cases: ['image-reward'],
  },
  {
    name: 'blip-heads-before-parts',
    file: BLIP,
    find: 'all.select(2, which)',
    replace: 'all.reshape([batch, length, this.#heads, 3, width / this.#heads]).select(3, which)',
    cases: ['image-reward'],
  },
  {
    name: 'blip-class-token-last',
    file: BLIP,
    find: 'cat([first, patches], 1)',
    replace: 'cat([patches, first], 1)',
    cases: ['image-reward'],
  },
  {
    name: 'blip-without-last-norm',
    file: BLIP,
    find: 'return this.#norm.forward(this.#blocks.reduce((x, block) => block.forward(x), embedded));',
    replace: 'return this.#blocks.reduce((x, block) => block.forward(x), embedded);',
    cases: ['image-reward'],
  },
  {
    name: 'bert-sees-padding',
    file: BERT,
    find: 'mask === undefined ? {} : { mask }',
    replace: '{}',
    cases: ['image-reward'],
  },
  {
    name: 'bert-cross-attention-first',
    file: BERT,
    find: 'this.#cross.forward(this.#self.forward(x, x, mask), patches)',
    replace: 'this.#self.forward(this.#cross.forward(x, patches), x, mask)',
    cases: ['image-reward'],
  },
  {
    name: 'bert-without-residual',
    file: BERT,
    find: 'this.#norm.forward(this.#out.forward(joined).add(x))',
    replace: 'this.#norm.forward(this.#out.forward(joined))',
    cases: ['image-reward'],
  },
  {
    name: 'bert-embeddings-not-normed',
    file: BERT,
    find: 'this.#norm.forward(embedded))',
    replace: 'embedded)',
    cases: ['image-reward'],
  },
  {
    name: 'image-reward-reads-last-token',
    file: IMAGE_REWARD,
    find: 'states.select(1, 0)',
    replace: 'states.select(1, (ids.shape[1] ?? 1) - 1)',
    cases: ['image-reward'],
  },
  {
    name: 'image-reward-not-standardised',
    file: IMAGE_REWARD,
    find: '.sub(MEAN).div(DEVIATION)',
    replace: '.sub(MEAN)',
    cases: ['image-reward'],
  },
  {
    name: 'image-reward-head-with-relu',
    file: IMAGE_REWARD,
    find: 'widths, relu: false',
    replace: 'widths, relu: true',
    cases: ['image-reward'],
  },
  {
    name: 'open-clip-key-as-query',
    file: OPEN_CLIP,
    find: "['q_proj', 'k_proj', 'v_proj']",
    replace: "['k_proj', 'q_proj', 'v_proj']",
    cases: ['open-clip'],
  },
  {
    name: 'open-clip-always-gelu',
    file: OPEN_CLIP,
    find: "config.quick_gelu === true ? 'quick_gelu' : 'gelu'",
    replace: "'gelu'",
    cases: ['open-clip-quick-gelu'],
  },
  {
    name: 'open-clip-pools-first-token',
    file: OPEN_CLIP,
    find: 'eos_token_id: vocabulary - 1',
    replace: 'eos_token_id: vocabulary + 1',
    cases: ['open-clip'],
  },
  {
    name: 'open-clip-heads-of-64',
    file: OPEN_CLIP,
    find: 'config.text_cfg?.heads ?? known?.text.heads',
    replace: '1',
    cases: ['open-clip'],
  },
  {
    name: 'resized-in-one-go',
    file: PIXELS,
    find: "if (resize === 'tensor') return",
    replace: 'if (resize.length > 0) return',
    cases: ['preprocessing-exact'],
  },
  {
    name: 'tensors-resized-as-pil',
    file: PIXELS,
    find: "if (resize === 'tensor') return",
    replace: 'if (resize.length > 9) return',
    cases: ['preprocessing'],
  },
  {
    name: 'not-rounded-to-bytes',
    file: PIXELS,
    find: 'if (!exact) return apply',
    replace: 'if (x.numel > 0) return apply',
    cases: ['preprocessing-exact'],
  },
  {
    name: 'vertically-first',
    file: PIXELS,
    find: `resampled(images01, -1, target[1], exact); // [B, 3, H, w]
  return resampled(wide, -2, target[0], exact);`,
    replace: `resampled(images01, -2, target[0], exact);
  return resampled(wide, -1, target[1], exact);`,
    cases: ['preprocessing-exact'],
  },
  {
    name: 'cubic-of-torch',
    file: PIXELS,
    find: '(1.5 * distance - 2.5) * distance * distance + 1',
    replace: '(1.25 * distance - 2.25) * distance * distance + 1',
    cases: ['preprocessing'],
  },
  {
    name: 'resized-without-antialiasing',
    file: PIXELS,
    find: 'Math.max(scale, 1)',
    replace: '1',
    cases: ['preprocessing'],
  },
  {
    name: 'longer-edge-rounded',
    file: PIXELS,
    find: 'Math.floor((size * long) / short)',
    replace: 'Math.round((size * long) / short)',
    cases: ['preprocessing'],
  },
  {
    name: 'crop-of-transformers-everywhere',
    file: PIXELS,
    find: "crop === 'floor' ? Math.floor(rest / 2) : halfToEven(rest)",
    replace: 'Math.floor(rest / 2)',
    cases: ['preprocessing'],
  },
  {
    name: 'bert-cut-one-too-late',
    file: TOKENIZER,
    find: '.slice(0, this.maxLength - 2), this.#end]',
    replace: '.slice(0, this.maxLength - 1), this.#end]',
    cases: ['bert-tokenizer'],
  },
  {
    name: 'bert-cased',
    file: TOKENIZER,
    find: 'lowercase: true',
    replace: 'lowercase: false',
    cases: ['bert-tokenizer'],
  },
  {
    name: 'bert-without-blip-tokens',
    file: TOKENIZER,
    find: 'const added = [...named, ...blip]',
    replace: 'const added = [...named]',
    cases: ['bert-tokenizer'],
  },
  {
    name: 'torch-file-ignores-strides',
    file: TORCH_FILE,
    find: 'native.call(op.asStrided, own.handle, sizes, strides)',
    replace: 'native.call(op.asStrided, own.handle, sizes, [...strides].sort((a, b) => b - a))',
    cases: ['torch-files'],
  },
  {
    name: 'torch-file-ignores-offset',
    file: TORCH_FILE,
    find: 'narrow(0, offset, last - offset + 1)',
    replace: 'narrow(0, 0, last + 1)',
    cases: ['torch-files'],
  },
];
