// How the cost of drawing grows with batch, steps, width of the network and threads, and where the time goes. Writes its
// section of docs/performance.md and the plots beside it.
import { spawnSync } from 'node:child_process';
import { mkdirSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { type Conditioning, generate, loadPipeline, type Pipeline, UNet2DConditionModel } from '@rldf/models';
import {
  free,
  noGrad,
  noiseKey,
  normal,
  Parameters,
  scope,
  setThreads,
  tensor,
  threads as threadCount,
} from '@rldf/torch';
import { findModel } from 'rldf';
import { unetConfig } from 'rldf/pretrain';
import { curveSvg } from 'rldf/run';
import { flag, type OptionsOf } from '../shared/options.js';
import { markdownTable, pageFile, provenance, writeSection } from '../shared/page.js';
import { median, type Result } from '../shared/rows.js';

interface Point {
  x: number;
  /** Seconds of each repetition. */
  seconds: number[];
  perSecond: number;
}

interface Growth {
  name: 'batch' | 'steps' | 'width' | 'threads';
  title: string;
  xTitle: string;
  yTitle: string;
  points: Point[];
}

const now = () => Number(process.hrtime.bigint()) / 1e9;

async function timed(times: number, run: () => Promise<void> | void): Promise<number[]> {
  await run(); // warms up
  const seconds: number[] = [];
  for (let i = 0; i < times; i++) {
    const start = now();
    await run();
    seconds.push(now() - start);
  }
  return seconds;
}

const drawing = (pipeline: Pipeline, batch: number, steps: number) => async () => {
  const prompts = Array<string>(batch).fill('a cat');
  free(await generate(pipeline, { prompts, seeds: prompts.map((_, i) => i), steps }));
};

const point = (x: number, count: number, seconds: number[]): Point => ({
  x,
  seconds,
  perSecond: count / median(seconds),
});

async function growths(pipeline: Pipeline, threads: number, say: (text: string) => void): Promise<Growth[]> {
  const batch: Point[] = [];
  for (const x of [1, 2, 4, 8, 16, 32, 64])
    batch.push(point(x, x, await timed(x < 16 ? 5 : 3, drawing(pipeline, x, 14))));
  say('bench: steps');
  const steps: Point[] = [];
  for (const x of [1, 2, 5, 10, 14, 20, 30]) steps.push(point(x, 4, await timed(3, drawing(pipeline, 4, x))));
  say('bench: width');
  const width: Point[] = [];
  for (const x of [32, 64, 96, 128, 192, 256]) width.push(point(x, 4, await timed(3, evaluation(x))));
  say('bench: threads');
  const byThreads: Point[] = [];
  for (let x = 1; x <= threads; x *= 2) {
    setThreads(x);
    byThreads.push(point(x, 4, await timed(4, drawing(pipeline, 4, 14))));
  }
  setThreads(threads);
  const pictures = 'pictures/s';
  return [
    { name: 'batch', title: 'Pictures at once', xTitle: 'batch (14 steps)', yTitle: pictures, points: batch },
    { name: 'steps', title: 'Denoising steps', xTitle: 'steps (batch 4)', yTitle: pictures, points: steps },
    {
      name: 'width',
      title: 'Width of the U-Net',
      xTitle: 'channels of the first level, those of the second 4/3 of it',
      yTitle: 'network evaluations/s, batch 4',
      points: width,
    },
    {
      name: 'threads',
      title: 'Threads',
      xTitle: 'threads (batch 4, 14 steps)',
      yTitle: pictures,
      points: byThreads,
    },
  ];
}

/** One evaluation of the built-in U-Net at another width, four pictures. */
function evaluation(width: number): () => void {
  const config = {
    ...unetConfig,
    block_out_channels: [width, (width / 3) * 4].map((channels) => 16 * Math.round(channels / 16)),
    attention_head_dim: [2, 2],
  };
  const parameters = Parameters.random(0);
  const unet = new UNet2DConditionModel(config, parameters.at());
  const latents = normal([noiseKey(0, 'latents')], [4, config.in_channels as number, 8, 8]).squeeze(0);
  const conditioning: Conditioning = {
    hiddenStates: normal([noiseKey(0, 'text')], [4, 32, config.cross_attention_dim as number]).squeeze(0),
  };
  const timesteps = tensor([1, 300, 600, 999], { dtype: 'int64' });
  return () => void noGrad(() => scope(() => void unet.forward(latents, timesteps, conditioning)));
}

interface Profile {
  milliseconds: number;
  operators: { name: string; calls: number; milliseconds: number }[];
}

function profile(batch: number, threads: number): Profile {
  const script = fileURLToPath(new URL('./profile.ts', import.meta.url));
  const words = [...process.execArgv, script, `${batch}`, `${threads}`];
  const { stdout, stderr, status } = spawnSync(process.execPath, words, { encoding: 'utf8' });
  if (status !== 0) throw new Error(stderr);
  return JSON.parse(stdout) as Profile;
}

function profileText(batch: number, { milliseconds, operators }: Profile): string {
  const inside = operators.reduce((sum, operator) => sum + operator.milliseconds, 0);
  const calls = operators.reduce((sum, operator) => sum + operator.calls, 0);
  const share = (part: number) => `${((100 * part) / milliseconds).toFixed(1)} %`;
  const lines = operators
    .sort((a, b) => b.milliseconds - a.milliseconds)
    .slice(0, 12)
    .map((one) => [
      `\`${one.name}\``,
      one.calls.toFixed(0),
      one.milliseconds.toFixed(1),
      share(one.milliseconds),
    ]);
  return (
    `Batch ${batch}: ${milliseconds.toFixed(0)} ms, ${calls.toFixed(0)} operator calls; ${share(inside)} inside operators, ` +
    `${share(milliseconds - inside)} in JavaScript around them.\n\n` +
    markdownTable(['operator', 'calls', 'ms', 'share'], lines)
  );
}

function growthText({ title, xTitle, yTitle, points, name }: Growth): string {
  const lines = points.map(({ x, perSecond, seconds }) => [
    `${x}`,
    perSecond.toPrecision(3),
    `${(1000 * Math.min(...seconds)).toFixed(1)} to ${(1000 * Math.max(...seconds)).toFixed(1)}`,
  ]);
  return `### ${title}\n\n![${title}](performance/${name}.svg)\n\n${markdownTable([xTitle, yTitle, 'ms, least to most'], lines)}`;
}

export const options = { page: flag('writes the section of docs/performance.md, and its curves') };

export async function run({ page, say }: OptionsOf<typeof options>): Promise<Result> {
  const threads = threadCount();
  const pipeline = loadPipeline(findModel('emoji').path);
  say('bench: batch');
  const measured = await growths(pipeline, threads, say);
  say('bench: profile');
  const profiles = [1, 16].map((batch) => ({ batch, ...profile(batch, threads) }));
  const text = [
    provenance(threads),
    ...measured.map(growthText),
    '### Where the time goes',
    ...profiles.map((one) => profileText(one.batch, one)),
  ].join('\n\n');
  if (page) {
    writeSection('growth', text);
    const folder = join(dirname(pageFile), 'performance');
    mkdirSync(folder, { recursive: true });
    for (const { name, title, xTitle, yTitle, points } of measured) {
      const values = points.map(({ x, perSecond }) => ({ step: x, value: perSecond, series: 'rldf' }));
      writeFileSync(
        join(folder, `${name}.svg`),
        await curveSvg(values, { title, xTitle, yTitle, width: 480, height: 240 }),
      );
    }
  }
  return { data: { threads, growths: measured, profiles }, text: `${text}\n` };
}
