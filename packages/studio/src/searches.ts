/** Searches (`rldf search`): `agent.json` while they go on, `search.json` when they are over, pictures in `memory/`. */

import { join } from 'node:path';
import type { SearchDetail, SearchRow } from './api.js';
import { factsOf, type RunsFolder } from './folder.js';
import { gone, notFound } from './problem.js';
import type { Services } from './services.js';

const mostLooks = 20_000;
const mostPictures = 2000;

/** What of agent.json is read. */
interface Agent {
  identity: {
    agent: string;
    reward: string;
    gamma: number;
    axes: [name: string, values: string[]][];
    goal: string;
  };
  trace: { states: number[]; rewards: number[]; best: number };
  table?: { table: 'actions' | 'afterstates'; actions: number; q: number[]; visits: number[] };
}

/** What of search.json is read. */
interface Report {
  agent: string;
  goal: { sentence: string };
  start: { sentence: string };
  found: { sentence: string; isGoal: boolean };
  path: { sentence: string; reward: number }[];
  slides: { axis: string; values: string[]; file: string }[];
  finals: { pictures: string[]; sentences: string[] };
  files: string[];
  [more: string]: unknown;
}

/** `states.json`: the sentence of each state that was looked at, and its picture's name. */
type States = Record<string, [sentence: string, picture: string]>;

export class SearchReader {
  readonly #rows = new Map<string, { key: string; row: SearchRow }>();

  constructor(
    readonly folder: RunsFolder,
    readonly services: Services,
  ) {}

  async row(id: string): Promise<SearchRow> {
    const path = this.folder.pathOfId(id);
    const facts = await Promise.all(
      ['agent.json', 'search.json', 'lock.json'].map((file) => factsOf(join(path, file))),
    );
    if (facts[0] === undefined && facts[1] === undefined) throw gone(`${id}: the search is gone`);
    const running = facts[2] !== undefined && this.services.holderOf(path) !== undefined;
    const key = JSON.stringify([facts.slice(0, 2).map((one) => [one?.size, one?.changed]), running]);
    const known = this.#rows.get(id);
    if (known?.key === key) return known.row;
    const agent = await this.folder.json<Agent>(join(path, 'agent.json'));
    const report =
      facts[1] === undefined ? undefined : await this.folder.json<Report>(join(path, 'search.json'));
    const states = (await this.folder.json<States>(join(path, 'states.json'))) ?? {};
    const best = agent?.trace.states[agent.trace.best];
    const row: SearchRow = {
      id,
      name: id.split('~').at(-1) as string,
      state: running ? 'running' : report === undefined ? 'stopped' : 'finished',
      agent: report?.agent ?? agent?.identity.agent ?? '',
      goal: report?.goal.sentence ?? agent?.identity.goal ?? '',
      found: report?.found.sentence ?? (best === undefined ? '' : (states[best]?.[0] ?? '')),
      steps: Math.max(0, (agent?.trace.states.length ?? 1) - 1),
      isGoal: report?.found.isGoal ?? false,
      changedAt: Math.max(facts[0]?.changed ?? 0, facts[1]?.changed ?? 0),
    };
    this.#rows.set(id, { key, row });
    return row;
  }

  async detail(id: string): Promise<SearchDetail> {
    const row = await this.row(id);
    const path = this.folder.pathOfId(id);
    const agent = await this.folder.json<Agent>(join(path, 'agent.json'));
    if (agent?.trace === undefined || agent.identity === undefined)
      throw notFound(`${id}: agent.json is missing or half-written — try again in a moment`);
    const report = await this.folder.json<Report>(join(path, 'search.json'));
    const states = (await this.folder.json<States>(join(path, 'states.json'))) ?? {};
    const axes = agent.identity.axes.map(([name, values]) => ({ name, values }));
    const size = axes.reduce((product, { values }) => product * values.length, 1);
    const file = async (name: string) => {
      const full = join(path, name);
      return (await factsOf(full)) === undefined ? null : this.folder.idOfFile(full);
    };
    const pictureOf = (state: number) => {
      const [sentence, picture] = states[state] ?? [];
      if (sentence === undefined || picture === undefined || /[/\\]/.test(picture)) return undefined;
      return { sentence, file: this.folder.idOfFile(join(path, 'memory', 'pictures', picture)) };
    };
    const bySentence = new Map(
      Object.entries(states).map(([state, [sentence]]) => [sentence, Number(state)]),
    );
    const goal = bySentence.get(agent.identity.goal);
    const { trace } = agent;
    const from = Math.max(0, trace.states.length - mostLooks);
    const { q, visits } = bestOfStates(agent, size);
    const best = trace.states[trace.best];
    const slides = await Promise.all(
      (report?.slides ?? []).map(async ({ axis, values, file: sheet }) => ({
        axis,
        values,
        files: [] as (string | null)[],
        sheet: await file(sheet.split(/[/\\]/).at(-1) as string),
      })),
    );
    const sheets = await Promise.all(
      ['world', 'trajectory', 'q-values', 'pictures'].map(async (name) => ({
        name,
        file: await file(`${name}.png`),
      })),
    );
    const { path: way, slides: _slides, finals, files: _files, ...measures }: Partial<Report> = report ?? {};
    return {
      ...row,
      input: await file('input.png'),
      rewardName: agent.identity.reward,
      gamma: agent.identity.gamma,
      axes,
      states: size,
      start: trace.states[0] ?? 0,
      goalState: goal ?? null,
      trace: trace.states.slice(from).map((state, i) => ({ state, reward: trace.rewards[from + i] ?? 0 })),
      q,
      visits,
      path: (way ?? []).map(({ sentence, reward }) => {
        const state = bySentence.get(sentence);
        return { sentence, reward, file: state === undefined ? null : (pictureOf(state)?.file ?? null) };
      }),
      pictures: Object.fromEntries(
        Object.keys(states)
          .slice(0, mostPictures)
          .flatMap((state) => {
            const found = pictureOf(Number(state));
            return found === undefined ? [] : [[state, found] as const];
          }),
      ),
      slides: slides.length > 0 ? slides : slidesFrom(axes, best, pictureOf),
      finals: (finals?.pictures ?? []).flatMap((picture, i) => {
        const name = picture.split(/[/\\]/).at(-1) as string;
        const place = join(path, 'memory', 'pictures', name);
        return [{ file: this.folder.idOfFile(place), sentence: finals?.sentences[i] ?? '' }];
      }),
      measures: report === undefined ? null : measures,
      sheets: sheets.flatMap(({ name, file: id }) => (id === null ? [] : [{ name, file: id }])),
    };
  }
}

/** Of each state the best Q of its actions, null where no entry was ever updated, and how often its entries were. */
export function bestOfStates({ table, trace }: Pick<Agent, 'table' | 'trace'>, size: number) {
  const visits = new Array<number>(size).fill(0);
  if (table === undefined) {
    for (const state of trace.states) if (state < size) visits[state] = (visits[state] ?? 0) + 1;
    return { q: [] as (number | null)[], visits };
  }
  const width = table.table === 'actions' ? table.actions : 1;
  const q = new Array<number | null>(size).fill(null);
  for (let state = 0; state < size; state++) {
    for (let action = 0; action < width; action++) {
      const entry = state * width + action;
      const count = table.visits[entry] ?? 0;
      if (count === 0) continue;
      visits[state] = (visits[state] as number) + count;
      const value = table.q[entry] as number;
      const known = q[state];
      if (known === null || known === undefined || value > known) q[state] = value;
    }
  }
  return { q, visits };
}

/** Along each axis through the best state: what was drawn of it. Strides: the last axis fastest. */
function slidesFrom(
  axes: SearchDetail['axes'],
  state: number | undefined,
  pictureOf: (state: number) => { file: string } | undefined,
): SearchDetail['slides'] {
  if (state === undefined) return [];
  return axes.map(({ name, values }, i) => {
    const stride = axes.slice(i + 1).reduce((product, axis) => product * axis.values.length, 1);
    const place = Math.floor(state / stride) % values.length;
    const files = values.map((_, value) => pictureOf(state + (value - place) * stride)?.file ?? null);
    return { axis: name, values, files, sheet: null };
  });
}
