/** What is known of the rewards that look at photographs by packages that users install. */

import type { RewardCard } from './cards.js';
import { humanLicences } from './detectors/human-licences.js';

export const lookingCards = {
  geneval: {
    description:
      'GenEval’s verdict by a detector: 1 where objects, numbers, colours and places are as the prompt file says',
    unit: '',
    differentiable: false,
    range: '0 or 1',
    hacks:
      'one large, plain, typical object each; the detector’s mistakes; everything that is not asked for is not looked at',
    licence: humanLicences.human,
  },
  composition: {
    description: 'the share of what GenEval’s prompt file asks for that a detector finds',
    unit: '',
    differentiable: false,
    range: '0 to 1',
    hacks: 'as of geneval',
    licence: humanLicences.human,
  },
  face: {
    description:
      'how sure a detector is of the faces in the picture, on average, or what a quality network says of them',
    unit: '',
    differentiable: false,
    range: '0 to 1; 0 without a face',
    hacks: 'one large frontal face in every picture; the prompt is not looked at',
    licence: humanLicences['human-faces'],
  },
  hand: {
    description: 'how sure a detector is of the hands in the picture, on average',
    unit: '',
    differentiable: false,
    range: '0 to 1; 0 without a hand',
    hacks:
      'one large, plain hand in every picture; the number of fingers hardly counts; the prompt is not looked at',
    licence: humanLicences['human-hands'],
  },
  text: {
    description: 'how near the text that is read in the picture is to the text that the prompt quotes',
    unit: '',
    differentiable: false,
    range: '0 to 1; 1 is the same letters and digits, in any case',
    hacks: 'black letters on white that fill the picture; what else the prompt says is not looked at',
    licence: 'Apache-2.0 (tesseract.js and its data)',
  },
} as const satisfies Record<string, RewardCard>;
