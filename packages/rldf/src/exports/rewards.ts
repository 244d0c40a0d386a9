/** `rldf/rewards`: cards, instruments and torture pictures of the rewards. For benchmarks and tests; it may change with any version. */

export { type FrozenClip, idsOf, loadWorldClip } from '@rldf/common/instruments/frozen-clip';
export { cards } from '../rewards/cards.js';
export {
  keepPercentiles,
  modelReference,
  ownReference,
  type Percentiles,
  percentiles,
  percentilesFile,
  type Reference,
  scoreReference,
} from '../rewards/percentiles.js';
export { loadPreference } from '../rewards/scorers.js';
export { drawGoodPictures, goodPicturesOf, tortureNames, tortureReward } from '../rewards/torture.js';
