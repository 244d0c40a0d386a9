/** Who judges a table's test pictures: instruments that share nothing with what trains, or any reward. */

import { loadWorldClip } from '@rldf/common/instruments/frozen-clip';
import { judgeOnly, loadDetector } from '@rldf/common/instruments/instruments';
import { clipScore } from '../rewards/clip-score.js';
import { count, presence, spatial } from '../rewards/detection.js';
import { loadReward } from '../rewards/index.js';
import type { Reward } from '../rewards/reward.js';
import { loadPreference } from '../rewards/scorers.js';

/** By name in a protocol. No recipe can take one of them as its reward. */
const independent: Record<string, () => Reward> = {
  'judge-spatial': () => spatial(loadDetector(judgeOnly('judge-detector'))),
  'judge-presence': () => presence(loadDetector(judgeOnly('judge-detector'))),
  'judge-count': () => count(loadDetector(judgeOnly('judge-detector'))),
  'judge-clip': () => clipScore(loadWorldClip(judgeOnly('clip-2'))),
  'judge-preference': () => loadPreference(judgeOnly('judge-preference')),
};

/** @throws UserError for unknown names, and for a judge whose card says that it may also train */
export async function loadTableJudge(name: string): Promise<Reward> {
  const load = Object.hasOwn(independent, name) ? independent[name] : undefined;
  return load === undefined ? loadReward(name) : load();
}
