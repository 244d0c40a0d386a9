/** What a search found, in numbers and pictures. */

import { join } from 'node:path';
import { replaceFile } from '@rldf/common/base/files';
import { contactSheet, type GridCell } from '@rldf/common/drawing/grid';
import { type Followed, measureTrace, type TraceMeasures } from '../agents/follow.js';
import { actionValues, policyPath, tablePolicy } from '../agents/tabular.js';
import {
  diverseRequests,
  drawSet,
  measureSet,
  plainRequests,
  type SetMeasures,
  slide,
} from '../pictures/final-pictures.js';
import type { GridWorld } from '../pictures/grid-world.js';
import { type MemoryCost, PictureMemory } from '../pictures/memory.js';
import type { PreparedWorld } from '../pictures/prepared-world.js';
import type { Locality } from '../world/locality.js';
import { type Observation, type RewardName, semanticHits, semanticReward } from '../world/rewards.js';
import { changeLabel, type StripStep, shownSteps, trajectoryStrip, valueMap } from './drawings.js';
import type { SearchOptions } from './search.js';

/** What a search prints with --json, and writes as search.json. */
export interface SearchReport {
  /** What is recognised in the input, by axis, with its confidence. */
  recognised: Record<string, { meaning: string; confidence: number }>;
  world: { states: number; axes: Record<string, string[]>; locality: Record<string, Locality> };
  agent: string;
  reward: { name: RewardName; bonus: number; gamma: number };
  goal: { sentence: string; meanings: Record<string, string> };
  start: { sentence: string; meanings: Record<string, string> };
  found: { sentence: string; meanings: Record<string, string>; isGoal: boolean; reward: number };
  /** The way that was found, from the start. */
  path: { sentence: string; reward: number }[];
  /** The learned policy leads from the start to the goal; null for agents that learn none. */
  learned: boolean | null;
  measures: TraceMeasures;
  /** Distinct pictures that (number of states + 1)/2 of enumeration take on average. */
  enumerationPictures: number;
  plateaus: number;
  /**
   * Of the search alone, without what the report draws. `visited`: distinct states that the agent looked at. `untilGoal`: up to
   * the first look at the goal; null where this call did not find it.
   */
  cost: MemoryCost & {
    seconds: number;
    visited: number;
    untilGoal: { drawn: number; seconds: number } | null;
  };
  /** Drawing what was recognised, or a caption, at once. */
  zeroSearch: {
    arm: 'recognised' | 'caption';
    sentence: string;
    pictures: number;
    reward: number;
    matches: boolean;
  }[];
  finals: {
    pictures: string[];
    sentences: string[];
    balance: Record<string, Record<string, number>>;
    diverse: SetMeasures;
    reseeded: SetMeasures;
    /** Style of the input by the judge; the found sentence never names one. */
    inputStyle: string | null;
  };
  slides: { axis: string; values: string[]; moved: number | null; held: number; file: string }[];
  files: string[];
}

/** A search that is over. */
export interface Finished {
  prepared: PreparedWorld;
  world: GridWorld;
  followed: Followed;
  start: number;
  cost: SearchReport['cost'];
}

/** Draws and writes world.png, trajectory.png, q-values.png, pictures.png, slide-AXIS.png and search.json. */
export async function reportSearch(
  options: SearchOptions & { pictureSeed: number },
  { prepared, world, followed, start, cost }: Finished,
): Promise<SearchReport> {
  const { output, signal, judge, pictureSeed, pictures: count = 8 } = options;
  const { encoding, locality, input, memory } = prepared;
  const { trace, table } = followed;
  const { agent, seed } = options.follow;
  const files: string[] = [];
  const write = (name: string, data: Buffer | string) => {
    replaceFile(join(output, name), data);
    files.push(join(output, name));
    return join(output, name);
  };
  const found = trace.states[trace.best]!;
  const meanings = encoding.meaningsOf(encoding.stateOf(found));

  const greedy =
    table === undefined || agent === 'random'
      ? undefined
      : policyPath(world, tablePolicy(world, table), start);
  const learned = greedy === undefined ? null : greedy.at(-1) === world.goal;
  const path = learned === true ? greedy! : walked(trace.states, trace.episodes, trace.best);
  const scenes = encoding.axes.filter(({ role }) => role === 'scene').map(({ name }) => name);
  const semantic = semanticReward(options.reward, input, { ...options.rewardConstants, scenes });
  const seen = new Map<number, Observation>(); // of every state that was looked at; all are remembered
  for (const state of new Set([...path, ...trace.states]))
    seen.set(state, (await memory.observe([world.request(state)], signal))[0]!);
  const rewards = path.map((state) => semantic.of(seen.get(state)!));
  const steps: StripStep[] = [];
  let before: Record<string, string> | undefined;
  for (const index of shownSteps(path.length)) {
    const state = path[index]!;
    const picture = await memory.picture(world.request(state), signal);
    const distance = world.grid.distance(state, world.goal);
    const after = encoding.meaningsOf(encoding.stateOf(state));
    steps.push({ picture, label: changeLabel(before, after), reward: rewards[index]!, distance });
    before = after;
  }
  write('world.png', await worldSheet(world, memory));
  const title = `${agent}: from "${world.sentence(path[0]!)}" in ${path.length - 1} steps`;
  write('trajectory.png', await trajectoryStrip(options.input, steps, title));
  if (greedy !== undefined)
    write('q-values.png', await valueMap(world, actionValues(world, table!), `Q values of ${agent}`));

  const matches = semanticHits(input, scenes);
  const zeroSearch: SearchReport['zeroSearch'] = [];
  const arms = [
    { arm: 'recognised' as const, request: world.request(world.goal) },
    ...(options.caption === undefined
      ? []
      : [{ arm: 'caption' as const, request: plainRequests(options.caption, 1, pictureSeed)[0]! }]),
  ];
  for (const { arm, request } of arms) {
    const [drawn] = (await memory.observe([request], signal)) as [Observation];
    const { fine, coarse } = matches(drawn);
    zeroSearch.push({
      arm,
      sentence: request.sentence,
      pictures: 1,
      reward: semantic.of(drawn),
      matches: fine && coarse,
    });
  }

  const finalMemory =
    options.drawWith === undefined
      ? memory
      : new PictureMemory(memory.folder, options.drawWith, options.recogniser);
  const { requests, balance, drawn } = diverseRequests(encoding, encoding.stateOf(found), count, seed);
  const diverse = await drawSet(finalMemory, requests, signal);
  const reseeded = await drawSet(finalMemory, plainRequests(world.sentence(found), count, seed), signal);
  const object = encoding.axes.find(({ role }) => role === 'object')?.name;
  const label = object === undefined ? undefined : meanings[object];
  const pictureFiles = diverse.pictures.map((_, i) => finalMemory.file(requests[i]!));
  if (count > 0) {
    const cells = [diverse, reseeded].flatMap((set, row) =>
      set.pictures.map((picture, i) => ({
        pictures: [picture],
        label: row === 0 ? drawn[i]! : 'another seed',
        detail: row === 0 ? 'controls drawn' : 'only',
      })),
    );
    write(
      'pictures.png',
      await contactSheet(cells, { title: world.sentence(found), columns: count, pictureSize: 160 }),
    );
  }
  const slides: SearchReport['slides'] = [];
  for (const name of options.slides ?? []) {
    const moved = await slide(encoding, encoding.stateOf(found), name, seed, finalMemory, {
      ...(judge === undefined ? {} : { judge }),
      ...(signal === undefined ? {} : { signal }),
    });
    const cells = moved.pictures.map((picture, i) => ({
      pictures: [picture],
      label: moved.values[i]!,
      detail: moved.requests[i]!.sentence,
    }));
    const sheet = await contactSheet(cells, { title: `along ${name}`, columns: Math.min(cells.length, 10) });
    const written = write(`slide-${name.replace(/\W+/g, '-')}.png`, sheet);
    slides.push({ axis: name, values: moved.values, moved: moved.moved, held: moved.held, file: written });
  }
  const numbers = join(output, 'search.json');
  const result: SearchReport = {
    recognised: Object.fromEntries(
      encoding.axes.map(({ name }) => [
        name,
        { meaning: input.meanings[name]!, confidence: input.confidence[name] ?? 1 },
      ]),
    ),
    world: {
      states: world.states,
      axes: Object.fromEntries(
        encoding.axes.map(({ name, meanings: all, order }) => [name, order.map((i) => all[i]!)]),
      ),
      locality,
    },
    agent,
    reward: { name: options.reward, bonus: world.bonus, gamma: world.gamma },
    goal: {
      sentence: world.sentence(world.goal),
      meanings: encoding.meaningsOf(encoding.stateOf(world.goal)),
    },
    start: { sentence: world.sentence(start), meanings: encoding.meaningsOf(encoding.stateOf(start)) },
    found: {
      sentence: world.sentence(found),
      meanings,
      isGoal: found === world.goal,
      reward: trace.rewards[trace.best]!,
    },
    path: path.map((state, i) => ({ sentence: world.sentence(state), reward: rewards[i]! })),
    learned,
    measures: measureTrace(world, trace, (state) => matches(seen.get(state)!)),
    enumerationPictures: (world.states + 1) / 2,
    plateaus: trace.plateaus,
    cost,
    zeroSearch,
    finals: {
      pictures: pictureFiles,
      sentences: requests.map(({ sentence }) => sentence),
      balance,
      diverse: await measureSet(diverse, label, judge),
      reseeded: await measureSet(reseeded, label, judge),
      inputStyle: judge === undefined ? null : (await judge.styles([options.input]))[0]!,
    },
    slides,
    files: [...files, numbers],
  };
  replaceFile(numbers, `${JSON.stringify(result, null, 2)}\n`);
  return result;
}

/** The goal and the states one step from it, as far as they are drawn: pictures may cost money. */
async function worldSheet(world: GridWorld, memory: PictureMemory): Promise<Buffer> {
  const meaningsOf = (state: number) => world.encoding.meaningsOf(world.encoding.stateOf(state));
  const cells: GridCell[] = [];
  for (const state of [world.goal, ...world.grid.neighbours(world.goal)]) {
    const request = world.request(state);
    if (state !== world.goal && !memory.knows(request)) continue;
    const label = state === world.goal ? 'the goal' : changeLabel(meaningsOf(world.goal), meaningsOf(state));
    cells.push({ pictures: [await memory.picture(request)], label });
  }
  return contactSheet(cells, {
    title: 'The goal and the states one step from it',
    columns: 8,
    pictureSize: 128,
  });
}

/** The part of a walk from its episode's beginning to a look. */
function walked(states: readonly number[], episodes: readonly number[], until: number): number[] {
  const from = episodes.findLast((start) => start <= until) ?? 0;
  return states.slice(from, until + 1);
}
