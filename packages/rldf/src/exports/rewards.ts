/** `rldf/rewards`: cards, instruments and torture pictures of the rewards. For benchmarks and tests; it may change with any version. */

export { cards, type Percentiles, percentilesFile } from '../rewards/cards.js';
export { type FrozenClip, idsOf } from '../rewards/frozen-clip.js';
export { loadPreference, loadWorldClip } from '../rewards/scorers.js';
export { drawGoodPictures, tortureNames, tortureReward } from '../rewards/torture.js';
