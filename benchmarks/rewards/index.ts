// Percentiles of every built-in reward on the shipped model's pictures: what `rldf rewards NAME` prints. Writes them beside
// the instruments. Then the torture test of each, one table.
import { mkdirSync } from 'node:fs';
import { dirname } from 'node:path';
import { parseCaption } from '@rldf/emoji-world';
import { loadPipeline, writeJson } from '@rldf/models';
import { setThreads, UserError } from '@rldf/torch';
import { findModel, loadDetector, mean, quantile, rewards } from 'rldf';
import {
  drawGoodPictures,
  type Percentiles,
  percentilesFile,
  tortureNames,
  tortureReward,
} from 'rldf/rewards';
import type { OptionsOf } from '../shared/options.js';
import { markdownTable } from '../shared/page.js';
import { drawReference, scoreReference } from '../shared/reference-pictures.js';
import type { Result } from '../shared/rows.js';

export const options = {};

export async function run({ say }: OptionsOf<typeof options>): Promise<Result> {
  setThreads(1);
  const reference = await drawReference();
  say('drew the reference pictures');
  const measured: Record<string, Percentiles> = {};
  for (const [name, { load }] of shipped()) {
    try {
      const fits = (prompt: string) => name !== 'spatial' || parseCaption(prompt)?.relation !== undefined;
      const scores = await scoreReference(await load(), reference, fits);
      measured[name] = percentiles(scores, reference.description);
    } catch (error) {
      if (!(error instanceof UserError)) throw error;
      say(`${name}: left out: ${error.message}`);
    }
  }
  mkdirSync(dirname(percentilesFile), { recursive: true });
  writeJson(percentilesFile, measured);
  const text = Object.entries(measured).map(
    ([name, { p5, p25, p50, p75, p95, betweenPrompts }]) =>
      `${name.padEnd(24)} ${[p5, p25, p50, p75, p95].map((value) => value.toPrecision(4).padStart(8)).join(' ')}  between prompts ${(100 * betweenPrompts).toFixed(0)} %\n`,
  );
  return { data: measured, text: `${text.join('')}\n${await tortureTable(say)}` };
}

/** The rewards whose weights are here. */
const shipped = () => Object.entries(rewards).filter(([, { published }]) => !published);

/** One row a reward; each cell the difference to good pictures with its 95 % interval, bold where tortured ones are preferred. */
async function tortureTable(say: (text: string) => void): Promise<string> {
  const pipeline = loadPipeline(findModel('emoji').path);
  const good = {
    any: await drawGoodPictures(pipeline, loadDetector('detector'), 48, 'any'),
    relation: await drawGoodPictures(pipeline, loadDetector('detector'), 48, 'relation'),
  };
  say('drew the good pictures');
  const rows: string[][] = [];
  for (const [name, { load }] of shipped()) {
    const torments = await tortureReward(await load(), good[name === 'spatial' ? 'relation' : 'any']);
    const cells = tortureNames.map((torture) => {
      const torment = torments.find((one) => one.name === torture);
      if (torment === undefined) return '';
      const [low, high] = torment.ci95.map((end) => end.toPrecision(2));
      const text = `${torment.difference.toPrecision(2)} [${low}, ${high}]`;
      return torment.verdict === 'preferred' ? `**${text}**` : text;
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
