// Drawing with the shipped model beside diffusers: the same libtorch, threads, steps, guidance and initial latents,
// float32, from prompts to bytes, in turns. The best of diffusers' ways is the peer.
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { nounOf, paperAnimals } from '@rldf/emoji-world';
import { initialNoiseKeys } from '@rldf/models';
import { free, normal, UserError, writeSafetensors } from '@rldf/torch';
import { findModel } from 'rldf';
import { largestDifference } from '../shared/differences.js';
import { pythonEnvironment } from '../shared/environments.js';
import { flag, type OptionsOf, python, wholes, words } from '../shared/options.js';
import { type Answer, Peer } from '../shared/peer.js';
import { median, type Row, speedRatio, table } from '../shared/rows.js';

const allWays = ['eager', 'channels_last', 'compile'];
const steps = 14;
const guidance = 3;
/** Repetitions in turns: as many as fit into the seconds, within the bounds. */
const repetitions = { least: 5, most: 40, seconds: 20 };
/** The first drawing, which compiles; a way that takes longer is given up. */
const compileSeconds = 120;

interface Side {
  process: Peer;
  seconds: number;
  pictures: string;
}

/** Starts one side and lets it draw once. */
async function start(process: Peer, question: object): Promise<Side> {
  const late = new Promise<Answer>((resolve) => {
    setTimeout(
      () => resolve({ error: `the first drawing took more than ${compileSeconds} s` }),
      compileSeconds * 1000,
    ).unref();
  });
  const answer = await Promise.race([process.ask({ ask: 'prepare', ...question }), late]);
  if (answer.error === undefined)
    return { process, seconds: answer.seconds as number, pictures: answer.pictures as string };
  void process.kill();
  throw new Error(answer.error);
}

const draw = async (side: Side): Promise<number> => {
  const { seconds, error } = await side.process.ask({ ask: 'run' });
  if (error !== undefined) throw new Error(error);
  return seconds as number;
};

/** Which of diffusers' ways is fastest at a batch, and what each took: the least of three drawings after the first. */
async function fastestWay(
  python: string,
  ways: readonly string[],
  question: object,
  say: (text: string) => void,
): Promise<string> {
  const taken: [seconds: number, way: string][] = [];
  for (const way of ways) {
    try {
      const side = await start(new Peer(python, 'sample_peer.py'), { ...question, way });
      const seconds = [await draw(side), await draw(side), await draw(side)];
      side.process.end();
      taken.push([Math.min(...seconds), way]);
      say(
        `bench:   diffusers ${way}: ${Math.min(...seconds).toFixed(3)} s, the first time ${side.seconds.toFixed(1)} s`,
      );
    } catch (error) {
      say(`bench:   diffusers ${way} does not run here: ${(error as Error).message}`);
    }
  }
  taken.sort(([a], [b]) => a - b);
  return taken[0]?.[1] ?? 'eager';
}

/** Largest difference of two pictures' bytes, as a share of 255. */
const difference = (ours: string, theirs: string) =>
  largestDifference(readFileSync(ours), readFileSync(theirs)) / 255;

async function measure(
  python: string,
  ways: readonly string[],
  batch: number,
  folder: string,
  base: object,
  say: (text: string) => void,
): Promise<Row[]> {
  const prompts = Array.from({ length: batch }, (_, i) => {
    const { article, singular } = nounOf((paperAnimals[i % paperAnimals.length] as { name: string }).name);
    return `${article} ${singular}`;
  });
  const latents = join(folder, `latents-${batch}.safetensors`);
  const noise = normal(initialNoiseKeys(prompts.map((_, i) => i)), [32, 8, 8]);
  writeSafetensors(latents, new Map([['latents', noise]]));
  free(noise);
  const question = { ...base, prompts, latents };
  say(`bench: batch ${batch}`);
  const way = await fastestWay(python, ways, question, say);
  const peerName = `diffusers ${way}`;
  const sides = await Promise.all([
    start(new Peer(process.execPath, '../sample/ours.ts', process.execArgv), question),
    start(new Peer(python, 'sample_peer.py'), { ...question, way }),
  ]);
  const [ours, theirs] = sides;
  const taken: [ours: number[], peer: number[]] = [[], []];
  const each = (await draw(ours)) + (await draw(theirs)); // both warm
  const count = Math.min(
    repetitions.most,
    Math.max(repetitions.least, Math.floor(repetitions.seconds / each)),
  );
  for (let i = 0; i < count; i++) {
    taken[0].push(await draw(ours));
    taken[1].push(await draw(theirs));
  }
  const [mine, other] = await Promise.all(
    sides.map(async (side) => (await side.process.ask({ ask: 'memory' })).peak as number),
  );
  for (const side of sides) side.process.end();
  const perSecond = (seconds: readonly number[]) => batch / median(seconds);
  return [
    {
      case: `batch ${batch}`,
      ours: perSecond(taken[0]),
      peer: perSecond(taken[1]),
      peerName,
      unit: 'pictures/s',
      ...speedRatio(...taken),
      difference: difference(ours.pictures, theirs.pictures),
    },
    {
      case: `batch ${batch}, peak memory`,
      ours: (mine as number) / 2 ** 20,
      peer: (other as number) / 2 ** 20,
      peerName,
      unit: 'MiB',
      ratio: (other as number) / (mine as number),
    },
  ];
}

export const options = {
  python,
  batches: wholes('pictures drawn at once; default: 1,4,16,64'),
  ways: words('WAY', 'of diffusers: those to try; the fastest counts'),
  page: flag('writes the section of docs/performance.md'),
};

export async function run(given: OptionsOf<typeof options>): Promise<Row[]> {
  const { say, batches = [1, 4, 16, 64], ways = allWays } = given;
  const python = pythonEnvironment('diffusers', { python: given.python, say });
  const folder = mkdtempSync(join(tmpdir(), 'rldf-bench-'));
  const peer = new Peer(python, 'sample_peer.py');
  try {
    const { threads, error } = await peer.ask({ ask: 'hello' });
    if (error !== undefined)
      throw new UserError(`bench: ${python} does not answer (${error}) — it needs diffusers.`);
    const base = { model: findModel('emoji').path, steps, guidance, threads };
    const rows: Row[] = [];
    for (const batch of batches) {
      const measured = await measure(python, ways, batch, folder, base, say);
      say(table(measured));
      rows.push(...measured);
    }
    return rows;
  } finally {
    peer.end();
    rmSync(folder, { recursive: true, force: true });
  }
}
