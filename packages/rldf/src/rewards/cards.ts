/** What is known of each built-in reward besides its code; percentiles are measured (percentiles.ts). */

import type { Commercial } from '@rldf/common/base/licences';

export interface RewardCard {
  /** What scores high, in one line. */
  description: string;
  unit: string;
  differentiable: boolean;
  /** Which values it can take. */
  range: string;
  /** Ways to raise it without better pictures. */
  hacks: string;
  licence: string;
  /** What that says of commercial use, where its text alone does not tell. */
  commercial?: Commercial;
}

const ours = 'Apache-2.0';

export const cards = {
  'jpeg-compressibility': {
    description: 'minus the size as a JPEG file of quality 95: smooth, plain pictures score high',
    unit: 'kB',
    differentiable: false,
    range: 'below 0; of 64 x 64 pixels about -6 (noise) to -0.6 (one colour)',
    hacks: 'an empty picture scores best; the prompt is not looked at',
    licence: ours,
  },
  'jpeg-incompressibility': {
    description: 'the size as a JPEG file of quality 95: busy, detailed pictures score high',
    unit: 'kB',
    differentiable: false,
    range: 'above 0; of 64 x 64 pixels about 0.6 (one colour) to 6 (noise)',
    hacks: 'noise and grids score best; the prompt is not looked at',
    licence: ours,
  },
  'jpeg-estimate': {
    description:
      'jpeg-compressibility with a gradient: the file size estimated from the cosine coefficients of the picture’s blocks',
    unit: 'kB',
    differentiable: true,
    range: 'as of jpeg-compressibility, which it follows within a few per cent',
    hacks: 'as of jpeg-compressibility: an empty picture scores best; the prompt is not looked at',
    licence: ours,
  },
  'clip-score': {
    description:
      '100 x cosine between picture and prompt, by a frozen CLIP: pictures that show the prompt score high',
    unit: '',
    differentiable: true,
    range: '-100 to 100',
    hacks: 'patterns that no person sees as the prompt; sharpness and the order of objects hardly count',
    licence: ours,
  },
  preference: {
    description:
      'PickScore’s form, a CLIP tuned on rankings: the right objects, drawn sharp, whole and in contrast, score high',
    unit: '',
    differentiable: true,
    range: 'minus to plus exp(logit_scale); differences count, zero means nothing',
    hacks: 'as of clip-score, though later; it saw no grids and no loud colours when it was tuned',
    licence: ours,
  },
  'image-reward': {
    description:
      'ImageReward’s form, text tokens that attend to patches: the right objects, drawn sharp and whole, score high',
    unit: 'deviations',
    differentiable: true,
    range: 'unbounded; 0 is an ordinary picture of its training, 1 a standard deviation better',
    hacks: 'pictures unlike its training can score anything, being scored by a free MLP',
    licence: ours,
  },
  aesthetic: {
    description:
      'LAION’s form, an MLP on CLIP embeddings: sharp, clean, whole pictures in contrast score high',
    unit: 'of 10',
    differentiable: true,
    range: 'about 1 to 8',
    hacks: 'the prompt is not looked at: one well-scored picture for all prompts is best',
    licence: ours,
  },
  spatial: {
    description:
      'IP-RLDF’s verdict by a detector: 1 for exactly one box of each of two nouns, their centres as the prompt says',
    unit: '',
    differentiable: false,
    range: '0 or 1',
    hacks: 'half objects that the detector takes for whole ones; only prompts with a relation can be scored',
    licence: ours,
  },
  count: {
    description: 'minus the objects too many or too few, by a detector: 0 is right',
    unit: 'objects',
    differentiable: false,
    range: 'whole numbers from 0 downwards',
    hacks: 'half objects that the detector takes for whole ones; other objects are not looked at',
    licence: ours,
  },
  presence: {
    description: '1 if a detector finds every noun of the prompt, however often and wherever; otherwise 0',
    unit: '',
    differentiable: false,
    range: '0 or 1',
    hacks: 'copies of the objects, and half ones that the detector takes for whole; places are not looked at',
    licence: ours,
  },
  'detector-confidence': {
    description:
      'how sure a detector is of each noun of the prompt, on average: plain, typical objects score high',
    unit: '',
    differentiable: false,
    range: '0 to 1',
    hacks: 'one prototype of each noun for all pictures; copies of the object do no harm',
    licence: ours,
  },
} as const satisfies Record<string, RewardCard>;
