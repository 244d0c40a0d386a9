/** Who judges a table's test pictures: instruments that share nothing with what trains, or any reward. */

import { UserError } from '../errors.js';
import { instrumentCard, loadDetector } from '../instruments.js';
import { clipScore } from '../rewards/clip-score.js';
import { spatial } from '../rewards/detection.js';
import { loadReward } from '../rewards/index.js';
import type { Reward } from '../rewards/reward.js';
import { loadPreference, loadWorldClip } from '../rewards/scorers.js';

/** Name in a protocol -> instrument, and what it says of a picture. No recipe can take one of them as its reward. */
const independent: Record<string, [instrument: string, load: () => Reward]> = {
  'judge-spatial': ['judge-detector', () => spatial(loadDetector('judge-detector'))],
  'judge-clip': ['clip-2', () => clipScore(loadWorldClip('clip-2'))],
  'judge-preference': ['judge-preference', () => loadPreference('judge-preference')],
};

/** @throws UserError for unknown names, and for a judge whose card says that it may also train */
export async function loadTableJudge(name: string): Promise<Reward> {
  if (!Object.hasOwn(independent, name)) return loadReward(name);
  const [instrument, load] = independent[name]!;
  const { role } = instrumentCard(instrument);
  if (role === 'judge') return load();
  throw new UserError(
    `judges: ${name} is by the instrument ${instrument}, whose role is ${role} — only a judge, which trains nothing, may judge. Restore its card`,
  );
}
