/** RLDF from one picture to many: recognise the input, search the grammar's world for it, draw what was found. */

import { basename, join } from 'node:path';
import { makeFolder, readTextIfThere, replaceFile } from '@rldf/common/base/files';
import { encodePng } from '@rldf/common/drawing/png';
import { lockRun } from '@rldf/common/storage/lock';
import { UserError } from '@rldf/torch/errors';
import {
  type Followed,
  type FollowOptions,
  follow,
  isTabular,
  newSearch,
  startState,
} from '../agents/follow.js';
import { axisNamed, type SearchJudge } from '../pictures/final-pictures.js';
import type { GridWorld } from '../pictures/grid-world.js';
import type { ImageSource } from '../pictures/image-source.js';
import {
  prepareWorld,
  type RewardedOptions,
  rewardedWorld,
  type WorldOptions,
} from '../pictures/prepared-world.js';
import { Encoding } from '../world/encoding.js';
import { reportSearch, type SearchReport } from './search-report.js';

export interface SearchOptions
  extends Omit<WorldOptions, 'pictureSeed' | 'memory'>,
    Omit<RewardedOptions, 'pictureSeed'> {
  /** Draws the final pictures; default: the same. */
  drawWith?: ImageSource;
  /** Unseen by the search; measures the final pictures. */
  judge?: SearchJudge;
  follow: FollowOptions;
  /** Sentence of the state to begin at, instead of `follow.start`. */
  start?: string;
  /** Of the states' pictures; default: the agent's. */
  pictureSeed?: number;
  /** Final pictures, default 8. */
  pictures?: number;
  /** Axes to slide along. */
  slides?: readonly string[];
  /** A captioner's caption of the input, to be drawn beside: the other zero-search arm. */
  caption?: string;
  /** Goes on from the folder's `agent.json`. */
  resume?: boolean;
  /** Where the files go. */
  output: string;
  /** Folder of pictures and observations, shared by searches; default: in `output`. */
  memory?: string;
  onProgress?: (progress: { step: number; drawn: number; states: number; found: boolean }) => void;
}

/** Steps between two saves of the agent. */
const saveEvery = 500;

/**
 * The whole search. Whatever ends it early (Ctrl-C, an endpoint that fails), pictures, observations and agent are on disk,
 * and the same call with `resume` goes on.
 * @throws UserError for an input that is not recognised, a source that fails, an `agent.json` of another search, a folder that another process works in
 */
export async function search(options: SearchOptions): Promise<SearchReport> {
  for (const name of options.slides ?? []) axisNamed(new Encoding(options.grammar), name); // before anything is drawn
  makeFolder(options.output);
  const lock = lockRun(options.output);
  try {
    return await searchAlone(options);
  } finally {
    lock.release();
  }
}

async function searchAlone(options: SearchOptions): Promise<SearchReport> {
  const begun = performance.now();
  const { output, signal, onProgress } = options;
  const { seed, agent } = options.follow;
  const pictureSeed = options.pictureSeed ?? seed;
  const prepared = await prepareWorld({
    ...options,
    pictureSeed,
    memory: options.memory ?? join(output, 'memory'),
  });
  const { encoding, memory } = prepared;
  const world = rewardedWorld(prepared, { ...options, pictureSeed });
  const start =
    options.start === undefined
      ? (options.follow.start ?? startState(world, seed))
      : stateSaying(world, options.start);
  if (start === world.goal && isTabular(agent))
    throw new UserError(`--start "${world.sentence(start)}": is the goal itself — begin elsewhere`);

  const file = join(output, 'agent.json');
  replaceFile(join(output, 'input.png'), await encodePng(options.input));
  const identity = {
    agent,
    seed,
    pictureSeed,
    source: memory.source.name,
    reward: options.reward,
    bonus: world.bonus,
    gamma: world.gamma,
    axes: encoding.axes.map(({ name, meanings, order }) => [name, order.map((one) => meanings[one])]),
    goal: world.sentence(world.goal),
  };
  const followed =
    (options.resume === true ? savedSearch(file, identity) : undefined) ?? newSearch(world, options.follow);
  const save = () => {
    replaceFile(file, `${JSON.stringify({ identity, ...followed })}\n`);
    const seen = [...new Set(followed.trace.states)].map((state) => {
      const request = world.request(state);
      return [state, [request.sentence, basename(memory.file(request))]];
    });
    replaceFile(join(output, 'states.json'), `${JSON.stringify(Object.fromEntries(seen))}\n`); // for who looks at it
  };
  const secondsSoFar = () => (performance.now() - begun) / 1000;
  const foundBefore = followed.trace.firstHit >= 0;
  let untilGoal: SearchReport['cost']['untilGoal'] = null;
  try {
    for await (const { trace } of follow(world, { ...options.follow, start }, followed)) {
      const step = trace.states.length;
      if (trace.firstHit >= 0 && !foundBefore)
        untilGoal ??= { drawn: memory.cost.drawn, seconds: secondsSoFar() };
      onProgress?.({ step, drawn: memory.cost.drawn, states: world.states, found: trace.firstHit >= 0 });
      if (step % saveEvery === 0) {
        save();
        await new Promise((resolve) => setImmediate(resolve)); // remembered states do not wait: let Ctrl-C in
      }
      signal?.throwIfAborted();
    }
  } finally {
    save();
  }
  const cost = { ...memory.cost, visited: world.visited.size, seconds: secondsSoFar(), untilGoal };
  return reportSearch({ ...options, pictureSeed }, { prepared, world, followed, start, cost });
}

/** The state whose sentence this is; its controls must be silent. */
function stateSaying(world: GridWorld, sentence: string): number {
  const parsed = world.encoding.parse(sentence);
  if (parsed === undefined || world.encoding.sentence(parsed.state) !== sentence.trim()) {
    throw new UserError(
      `--start "${sentence}": no state of this world says so — such as "${world.sentence(0)}"; windows hold values near the input's`,
    );
  }
  return world.encoding.indexOf(parsed.state);
}

function savedSearch(file: string, identity: object): Followed | undefined {
  const text = readTextIfThere(file);
  if (text === undefined) return undefined;
  const saved = parsed(file, text);
  const different = Object.entries(identity)
    .filter(([key, value]) => JSON.stringify(value) !== JSON.stringify(saved.identity?.[key]))
    .map(([key]) => key);
  if (different.length > 0) {
    throw new UserError(
      `${file}: is of another search (${different.join(', ')}) — give the same options to go on, or leave --resume out to begin anew`,
    );
  }
  return { trace: saved.trace, ...(saved.table === undefined ? {} : { table: saved.table }) };
}

function parsed(file: string, text: string): Followed & { identity: Record<string, unknown> } {
  try {
    return JSON.parse(text);
  } catch (cause) {
    throw new UserError(
      `${file}: is damaged — it holds the agent that --resume goes on with. Leave --resume out to begin anew; the pictures are kept`,
      { cause },
    );
  }
}
