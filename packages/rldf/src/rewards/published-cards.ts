/** What is known of the rewards that are published with weights of their own; what is said of values is the literature's. */

import type { RewardCard } from './cards.js';

export const publishedCards = {
  imagereward: {
    description:
      'ImageReward itself (Xu et al. 2023), from its own weights: what people preferred of pictures for a prompt scores high',
    unit: '',
    differentiable: true,
    range: 'about -2.3 to 2.0; 0 is the mean of its training pictures, 1 a standard deviation better',
    hacks:
      'blurred, glossy pictures of one style; people’s taste in pictures of 2022; reads 35 tokens of a prompt',
    licence: 'Apache-2.0 (code and weights)',
  },
  'hpsv2.1': {
    description:
      'HPSv2.1 (Wu et al. 2023), a CLIP ViT-H/14 tuned on people’s choices: the cosine of picture and prompt',
    unit: '',
    differentiable: true,
    range: 'about 0.2 to 0.35 on photographs; scores of versions 2.0 and 2.1 do not compare',
    hacks: 'saturated, high-contrast pictures with much fine detail; duplicated objects',
    licence: 'Apache-2.0 (code and weights)',
  },
  hpsv2: {
    description:
      'HPSv2.0 (Wu et al. 2023), a CLIP ViT-H/14 tuned on people’s choices: the cosine of picture and prompt',
    unit: '',
    differentiable: true,
    range: 'about 0.25 to 0.33 on photographs; scores of versions 2.0 and 2.1 do not compare',
    hacks: 'as of hpsv2.1',
    licence: 'Apache-2.0 (code and weights)',
  },
  pickscore: {
    description:
      'PickScore (Kirstain et al. 2023), a CLIP ViT-H/14 tuned on people’s choices: exp(logit_scale) x cosine',
    unit: '',
    differentiable: true,
    range: 'about 18 to 24 on photographs; differences count, zero means nothing',
    hacks: 'as of hpsv2.1; what users of one website chose',
    licence: 'MIT (code); its weights are published without a licence',
  },
  'laion-aesthetic': {
    description:
      'LAION’s aesthetic predictor (Schuhmann et al. 2022): an MLP on the unit vectors of CLIP ViT-L/14',
    unit: 'of 10',
    differentiable: true,
    range: 'about 1 to 10; most pictures 4 to 7',
    hacks: 'the prompt is not looked at: painterly pictures of one kind score best whatever is asked for',
    licence:
      'Apache-2.0 (code and head), MIT (code of the CLIP); taught in part by ratings for research (AVA)',
    commercial: 'conditions',
  },
} as const satisfies Record<string, RewardCard>;
