// Percentiles of every built-in reward whose weights or packages are here: what `rldf rewards NAME` prints. Writes them beside
// the instruments, those of published weights into the cache of this machine. Then the torture test of each, one table.
import { loadPipeline } from '@rldf/models';
import { setThreads, UserError } from '@rldf/torch';
import { findModel, loadDetector, loadReward, type Reward, rewards } from 'rldf';
import {
  drawGoodPictures,
  goodPicturesOf,
  keepPercentiles,
  ownReference,
  type Percentiles,
  percentiles,
  percentilesFile,
  scoreReference,
  tortureNames,
  tortureReward,
} from 'rldf/rewards';
import { type OptionsOf, text } from '../shared/options.js';
import { markdownTable } from '../shared/page.js';
import { drawReference } from '../shared/reference-pictures.js';
import type { Result } from '../shared/rows.js';

export const options = {
  reward: text('NAME', 'only this one, which is published with weights of its own, such as imagereward'),
  weights: text('PATH', 'of --reward: a file, a folder, a repository in the cache, or tiny'),
  clip: text('PATH', 'of --reward laion-aesthetic: its CLIP ViT-L/14'),
};

type Chosen = [name: string, load: () => Promise<Reward>][];

/** All rewards that ship whole or whose package is here, or the one that is asked for. */
function chosenRewards(name: string | undefined, weights?: string, clip?: string): Chosen {
  if (name === undefined)
    return Object.entries(rewards).flatMap(([own, { needs, load }]) =>
      needs === undefined || needs === 'package' ? [[own, () => load()]] : [],
    );
  const spec = weights || clip ? { name, ...(weights && { weights }), ...(clip && { clip }) } : name;
  return [[name, async () => (await loadReward(spec as Parameters<typeof loadReward>[0])) as Reward]];
}

export async function run({ say, reward, weights, clip }: OptionsOf<typeof options>): Promise<Result> {
  setThreads(1);
  const chosen: Chosen = [];
  const measured: Record<string, Percentiles> = {};
  for (const [name, load] of chosenRewards(reward, weights, clip)) {
    try {
      const loaded = await load();
      await loaded.ready?.();
      chosen.push([name, load]);
      if (name === 'hand') continue; // no packaged photograph shows one
      const reference = (await ownReference(name)) ?? (await drawReference());
      measured[name] = percentiles(await scoreReference(loaded, reference), reference.description);
      say(`${name} measured`);
    } catch (error) {
      if (!(error instanceof UserError)) throw error;
      say(`${name}: left out: ${error.message}`);
    }
  }
  if (weights !== 'tiny') {
    for (const [name, own] of Object.entries(measured))
      keepPercentiles(name, own, rewards[name]?.needs === 'weights' ? undefined : percentilesFile);
  }
  const lines = Object.entries(measured).map(
    ([name, { p5, p25, p50, p75, p95, betweenPrompts }]) =>
      `${name.padEnd(24)} ${[p5, p25, p50, p75, p95].map((value) => value.toPrecision(4).padStart(8)).join(' ')}  between prompts ${(100 * betweenPrompts).toFixed(0)} %\n`,
  );
  return { data: measured, text: `${lines.join('')}\n${await tortureTable(chosen, say)}` };
}

/** One row a reward; each cell the difference to good pictures with its 95 % interval, bold where tortured ones are preferred. */
async function tortureTable(chosen: Chosen, say: (text: string) => void): Promise<string> {
  const pipeline = loadPipeline(findModel('emoji').path);
  const good = {
    any: await drawGoodPictures(pipeline, loadDetector('detector'), 48, 'any'),
    relation: await drawGoodPictures(pipeline, loadDetector('detector'), 48, 'relation'),
  };
  say('drew the good pictures');
  const rows: string[][] = [];
  for (const [name, load] of chosen) {
    const own = await goodPicturesOf(name, 48);
    const torments = await tortureReward(await load(), own ?? good[name === 'spatial' ? 'relation' : 'any']);
    const cells = tortureNames.map((torture) => {
      const torment = torments.find((one) => one.name === torture);
      if (torment === undefined) return '';
      const [low, high] = torment.ci95.map((end) => end.toPrecision(2));
      const cell = `${torment.difference.toPrecision(2)} [${low}, ${high}]`;
      return torment.verdict === 'preferred' ? `**${cell}**` : cell;
    });
    rows.push([`\`${name}\``, ...cells]);
    say(`${name} tortured`);
  }
  return markdownTable(['reward', ...tortureNames], rows);
}
