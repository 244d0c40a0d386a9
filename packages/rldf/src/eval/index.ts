/** The suites of `rldf eval`. */

import { clip } from './clip.js';
import { colour } from './colour.js';
import { count } from './count.js';
import { diversity } from './diversity.js';
import { fidAndKid } from './fid.js';
import { genevalSuite } from './geneval.js';
import { pairs } from './pairs.js';
import { preference } from './preference.js';
import { rewardSuite } from './reward.js';
import { single } from './single.js';
import { spatial } from './spatial.js';
import type { Suite } from './suite.js';
import { unseen } from './unseen.js';

/** A new suite: a file, and a line here. */
export const suites: Readonly<Record<string, Suite>> = {
  single,
  spatial,
  count,
  colour,
  clip,
  preference,
  unseen,
  diversity,
  fid: fidAndKid,
  geneval: genevalSuite,
  reward: rewardSuite,
  pairs,
};
