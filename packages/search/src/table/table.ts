/** `rldf reproduce` of a table of searches: draws what is not recorded yet, searches in what is, and writes the page. */

import { execFileSync } from 'node:child_process';
import { dirname, join } from 'node:path';
import { makeFolder, readTextIfThere, replaceFile } from '@rldf/common/base/files';
import { type Budget, protocolCommit } from '@rldf/common/base/protocol-file';
import { type Claim, claimsOf } from './claims.js';
import { tracesSvg } from './drawings.js';
import { type Landscape, landscapeOf, type MeanLandscape, meanLandscapes } from './landscape.js';
import { type ArmNumbers, armNumbers, type Estimate, groupRows } from './numbers.js';
import { tableMarkdown } from './page.js';
import type { SearchProtocol } from './protocol.js';
import { type Instruments, type RecordedPictures, readRecording, recordPictures } from './recording.js';
import { armName, RewardCache, runArm, sceneries, type TableArm, type TableRow, tableArms } from './runs.js';
import { worldNames } from './worlds.js';

export interface SearchTableOptions {
  protocol: SearchProtocol;
  /** `smoke`: the small world, one picture seed, two agent seeds, below `runs`. */
  budget: Budget;
  /** Folder of all runs; pictures are kept there. */
  runs: string;
  /** Opened only if a picture is missing. */
  instruments: () => Instruments;
  /** Draw nothing: the table of what is recorded. */
  recordedOnly?: boolean;
  signal?: AbortSignal;
}

export interface SearchTableNumbers {
  table: string;
  question: string;
  paper: string;
  statistic: string;
  tuning: string;
  /** SHA-256 of the protocol. */
  protocol: string;
  inputs: { scene: string; goal: Record<string, string> }[];
  /** Share of the pictures that show what their sentence says, by picture seed and as recognised. */
  asAsked: { pictureSeed: number; pictures: number; objects: number; scenes: number }[];
  arms: ArmNumbers[];
  landscapes: MeanLandscape[];
  claims: Claim[];
  /** The goals. */
  summary: Summary;
  /** Worlds that the protocol asks for and that are not drawn yet. */
  missing: string[];
}

export interface Summary {
  /** Primary arms in the largest world: share of searches that reach the goal, minus that of random selection. */
  qBeatsRandomCi95: [number, number] | null;
  sarsaBeatsRandomCi95: [number, number] | null;
  /** Steps to the first look at the goal, primary Q-learning in the smallest world; and the best of these searches. */
  medianFirstHit480: number | null;
  bestFirstHit480: number | null;
  /** The same with unseen states valued by their axes, if the protocol has that setting. */
  medianFirstHit480Axes: number | null;
  /** From clone.json beside the page; null while there is none. */
  cloneTop1: number | null;
  cloneTop1Ci95: [number, number] | null;
  ceilingTop1: number | null;
}

export type SearchTableEvent =
  | { kind: 'progress'; text: string; share: number }
  | { kind: 'recorded'; path: string }
  | { kind: 'table'; path: string; numbers: SearchTableNumbers };

/** @throws UserError when the protocol is not committed, or was changed since its first picture */
export async function* searchTable(options: SearchTableOptions): AsyncGenerator<SearchTableEvent, void> {
  const { budget, signal } = options;
  const smoke = budget === 'smoke';
  const whole = options.protocol;
  protocolCommit(whole);
  const protocol: SearchProtocol = smoke
    ? {
        ...whole,
        worlds: Object.fromEntries(Object.entries(whole.worlds).slice(0, 1)),
        inputs: { ...whole.inputs, scenes: whole.inputs.scenes.slice(0, 1) },
        pictures: { ...whole.pictures, seeds: whole.pictures.seeds.slice(0, 1) },
        agentSeeds: whole.agentSeeds.slice(0, 2),
      }
    : whole;
  const runs = join(options.runs, 'reproduce', `${protocol.table}-${budget}`);
  const results = smoke ? join(runs, 'results') : resultsFolder(protocol);
  const recordings = join(results, protocol.table);
  const recorded = () =>
    protocol.pictures.seeds.flatMap((seed) => readRecording(recordings, seed, protocol) ?? []);
  const complete = () =>
    recorded().filter(({ objects }) => !objects.includes(-1)).length === protocol.pictures.seeds.length;
  if (options.recordedOnly !== true && !complete()) {
    const folders = { memory: join(runs, 'memory'), recordings };
    for await (const event of recordPictures(protocol, options.instruments(), folders, signal))
      if (event.kind === 'recorded') yield event;
      else
        yield {
          kind: 'progress',
          text: `picture ${event.done} of ${event.total} (seed ${event.pictureSeed})`,
          share: event.done / event.total,
        };
  }
  const rows: TableRow[] = [];
  const landscapes: Landscape[] = [];
  const missing: string[] = [];
  const here = recorded();
  for await (const event of searches(protocol, here, { rows, landscapes, missing }, signal)) yield event;
  const numbers = numbersOf(protocol, here, rows, landscapes, missing, join(results, 'clone.json'));
  makeFolder(results);
  const path = join(results, `${protocol.table}.md`);
  const drawings = await tracesSvg(protocol, rows);
  for (const [name, svg] of Object.entries(drawings)) replaceFile(join(recordings, name), svg);
  const command = `rldf reproduce ${protocol.table} --budget ${budget}`;
  replaceFile(join(results, `${protocol.table}.json`), `${JSON.stringify(numbers, rounded, 1)}\n`);
  replaceFile(path, tableMarkdown(protocol, numbers, command, Object.keys(drawings)));
  yield { kind: 'table', path, numbers };
}

/** Every arm in every world whose pictures are all there; world by world, so that little is held at once. */
async function* searches(
  protocol: SearchProtocol,
  recorded: readonly RecordedPictures[],
  found: { rows: TableRow[]; landscapes: Landscape[]; missing: string[] },
  signal?: AbortSignal,
): AsyncGenerator<SearchTableEvent, void> {
  const arms = tableArms(protocol);
  const { settings, primary } = protocol;
  const worlds = worldNames(protocol);
  const wanted = worlds.flatMap((world) => protocol.inputs.scenes.map((_, input) => ({ world, input })));
  const drawn = new Set<string>();
  for (const [done, { world, input }] of wanted.entries()) {
    const rewards = new RewardCache();
    for (const scenery of sceneries(protocol, recorded, world, input)) {
      const dynamic = scenery.pictureSeed === null;
      const text = `${world}, ${protocol.inputs.scenes[input]}, ${dynamic ? 'dynamic seeds' : `picture seed ${scenery.pictureSeed}`}`;
      yield { kind: 'progress', text, share: done / wanted.length };
      if (!dynamic) {
        drawn.add(`${world} ${scenery.pictureSeed}`);
        for (const reward of protocol.rewards)
          found.landscapes.push(landscapeOf(scenery, reward, settings[primary.setting]!.gamma));
      }
      for (const arm of arms.filter(({ dynamicSeeds }) => dynamicSeeds === dynamic)) {
        found.rows.push(...(await runArm(scenery, arm, protocol.agentSeeds, rewards, signal)));
        await new Promise((resolve) => setImmediate(resolve)); // lets Ctrl-C in
        signal?.throwIfAborted();
      }
    }
  }
  for (const world of worlds)
    for (const seed of protocol.pictures.seeds)
      if (!drawn.has(`${world} ${seed}`)) found.missing.push(`${world}, picture seed ${seed}`);
}

function numbersOf(
  protocol: SearchProtocol,
  recorded: readonly RecordedPictures[],
  rows: readonly TableRow[],
  landscapes: readonly Landscape[],
  missing: string[],
  clone: string,
): SearchTableNumbers {
  const groups = groupRows(rows);
  const worlds = worldNames(protocol);
  const arms = worlds.flatMap((world) =>
    tableArms(protocol).flatMap(({ name }: TableArm) => armNumbers(name, world, groups) ?? []),
  );
  const { table, question, paper, statistic, tuning, hash, inputs } = protocol;
  return {
    ...{ table, question, paper, statistic, tuning, protocol: hash },
    inputs: inputs.scenes.map((scene, i) => ({ scene, goal: { ...recorded[0]?.inputs[i]?.meanings } })),
    asAsked: recorded.map(({ pictureSeed, asAsked, objects }) => ({
      pictureSeed,
      pictures: objects.filter((bits) => bits >= 0).length,
      ...asAsked,
    })),
    arms,
    landscapes: meanLandscapes(landscapes),
    claims: claimsOf(protocol, groups, landscapes),
    summary: summaryOf(protocol, arms, clone),
    missing,
  };
}

function summaryOf(protocol: SearchProtocol, arms: readonly ArmNumbers[], clone: string): Summary {
  const worlds = worldNames(protocol);
  const of = (world: string, agent: 'q' | 'sarsa', setting = protocol.primary.setting) =>
    arms.find((one) => one.world === world && one.arm === armName({ agent, ...protocol.primary, setting }));
  const [small, large] = [worlds[0]!, worlds.at(-1)!];
  const ci = (value: Estimate | null | undefined) => value?.ci95 ?? null;
  const cloned = JSON.parse(readTextIfThere(clone) ?? '{}') as {
    summary?: Record<'cloneTop1' | 'ceilingTop1', { mean: number; ci95: [number, number] | null }>;
  };
  return {
    qBeatsRandomCi95: ci(of(large, 'q')?.reachedMinusRandom),
    sarsaBeatsRandomCi95: ci(of(large, 'sarsa')?.reachedMinusRandom),
    medianFirstHit480: of(small, 'q')?.firstHit.median ?? null,
    bestFirstHit480: of(small, 'q')?.firstHit.best ?? null,
    medianFirstHit480Axes: of(small, 'q', 'axes')?.firstHit.median ?? null,
    cloneTop1: cloned.summary?.cloneTop1.mean ?? null,
    cloneTop1Ci95: cloned.summary?.cloneTop1.ci95 ?? null,
    ceilingTop1: cloned.summary?.ceilingTop1.mean ?? null,
  };
}

/** Four digits are enough to read and keep the file small. */
function rounded(_: string, value: unknown): unknown {
  return typeof value === 'number' && !Number.isInteger(value) ? Number(value.toPrecision(4)) : value;
}

/** `docs/results` of the repository that holds the protocol. */
function resultsFolder({ file }: SearchProtocol): string {
  const top = execFileSync('git', ['rev-parse', '--show-toplevel'], { cwd: dirname(file), encoding: 'utf8' });
  return join(top.trim(), 'docs', 'results');
}
