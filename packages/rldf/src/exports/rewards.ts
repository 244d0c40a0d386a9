/** `rldf/rewards`: cards, instruments and torture pictures of the rewards. For benchmarks and tests; it may change with any version. */

export { type FrozenClip, idsOf, loadWorldClip } from '@rldf/common/instruments/frozen-clip';
export { cards, type Percentiles, percentilesFile } from '../rewards/cards.js';
export { loadPreference } from '../rewards/scorers.js';
export { drawGoodPictures, tortureNames, tortureReward } from '../rewards/torture.js';
