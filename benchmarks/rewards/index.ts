// Percentiles of every built-in reward on the shipped model's pictures: what `rldf rewards NAME` prints. Writes them beside
// the instruments. Then the torture test of each, one table.
import { existsSync, mkdirSync } from 'node:fs';
import { dirname } from 'node:path';
import { parseCaption } from '@rldf/emoji-world';
import { loadPipeline, readJson, writeJson } from '@rldf/models';
import { setThreads, UserError } from '@rldf/torch';
import { findModel, loadDetector, loadReward, mean, quantile, type Reward, rewards } from 'rldf';
import {
  drawGoodPictures,
  type Percentiles,
  percentilesFile,
  tortureNames,
  tortureReward,
} from 'rldf/rewards';
import { type OptionsOf, text } from '../shared/options.js';
import { markdownTable } from '../shared/page.js';
import { drawReference, scoreReference } from '../shared/reference-pictures.js';
import type { Result } from '../shared/rows.js';

export const options = {
  reward: text('NAME', 'only this one, which is published with weights of its own, such as imagereward'),
  weights: text('PATH', 'of --reward: a file, a folder, a repository in the cache, or tiny'),
  clip: text('PATH', 'of --reward laion-aesthetic: its CLIP ViT-L/14'),
};

type Chosen = [name: string, load: () => Promise<Reward>][];

/** All rewards whose weights are here, or the one that is asked for. */
function chosenRewards(name: string | undefined, weights?: string, clip?: string): Chosen {
  if (name === undefined)
    return Object.entries(rewards).flatMap(([own, { needs, load }]) => (needs ? [] : [[own, () => load()]]));
  const spec = { name, ...(weights && { weights }), ...(clip && { clip }) };
  return [[name, async () => (await loadReward(spec as Parameters<typeof loadReward>[0])) as Reward]];
}

export async function run({ say, reward, weights, clip }: OptionsOf<typeof options>): Promise<Result> {
  setThreads(1);
  const chosen = chosenRewards(reward, weights, clip);
  const reference = await drawReference();
  say('drew the reference pictures');
  const measured: Record<string, Percentiles> = {};
  for (const [name, load] of chosen) {
    try {
      const fits = (prompt: string) => name !== 'spatial' || parseCaption(prompt)?.relation !== undefined;
      const scores = await scoreReference(await load(), reference, fits);
      measured[name] = percentiles(scores, reference.description);
    } catch (error) {
      if (!(error instanceof UserError)) throw error;
      say(`${name}: left out: ${error.message}`);
    }
  }
  if (weights !== 'tiny') {
    const others = reward !== undefined && existsSync(percentilesFile) ? readJson(percentilesFile) : {};
    mkdirSync(dirname(percentilesFile), { recursive: true });
    writeJson(percentilesFile, { ...others, ...measured });
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
    const torments = await tortureReward(await load(), good[name === 'spatial' ? 'relation' : 'any']);
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

/** @param scores one list a prompt */
function percentiles(scores: readonly number[][], reference: string): Percentiles {
  const all = scores.flat();
  const sorted = [...all].sort((a, b) => a - b);
  const squares = (values: readonly number[]) => {
    const middle = mean(values);
    return values.reduce((sum, value) => sum + (value - middle) ** 2, 0);
  };
  const total = squares(all);
  const within = scores.reduce((sum, own) => sum + squares(own), 0);
  const at = (probability: number) => Number(quantile(sorted, probability).toPrecision(5));
  return {
    reference,
    count: all.length,
    p5: at(0.05),
    p25: at(0.25),
    p50: at(0.5),
    p75: at(0.75),
    p95: at(0.95),
    betweenPrompts: total === 0 ? 0 : Number((1 - within / total).toFixed(3)),
  };
}
