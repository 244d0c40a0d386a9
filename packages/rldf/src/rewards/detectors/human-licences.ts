/** The detectors of @vladmandic/human by what they find, and the licences of their weights. */

import { cocoLabels } from './coco.js';

/** What each finds. */
export const humanNames = {
  human: cocoLabels,
  'human-faces': ['face'],
  'human-hands': ['hand'],
} as const satisfies Record<string, readonly string[]>;

export type HumanName = keyof typeof humanNames;

/** Of the weight files that each uses; the package itself is under the MIT licence. */
export const humanLicences: Readonly<Record<HumanName, string>> = {
  human: 'MIT (package); its centernet comes without a licence from 610265158/mobilenetv3_centernet',
  'human-faces': 'Apache-2.0 (blazeface and facemesh, of MediaPipe), MIT (package)',
  'human-hands':
    'Apache-2.0 (handtrack, of victordibia/handtracking; handlandmark-lite, of MediaPipe), MIT (package)',
};
