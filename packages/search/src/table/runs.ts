/** All searches of a table, in recorded pictures. */

import type { AgentName } from '../agents/follow.js';
import { type SearchArm, type SearchRow, sweep } from '../agents/sweep.js';
import { Encoding } from '../world/encoding.js';
import { Grid } from '../world/environment.js';
import { RecordedWorld, type Recording, recordedRewards } from '../world/recorded-world.js';
import { type Observation, type RewardName, type SemanticReward, semanticReward } from '../world/rewards.js';
import type { SearchProtocol, Setting } from './protocol.js';
import { inputOf, observationsFor, type RecordedPictures } from './recording.js';
import { worldAround, worldGrammar, worldNames } from './worlds.js';

/** What is searched: a world around an input, in one picture of every state. */
export interface Scenery {
  world: string;
  /** Index among the protocol's inputs. */
  input: number;
  /** Null: dynamic seeds, any of the pictures at every visit. */
  pictureSeed: number | null;
  seen: Observation;
  recording: Recording;
}

/** The worlds of one input by picture seed, if all is drawn; last, if there are several, the one with all pictures. */
export function sceneries(
  protocol: SearchProtocol,
  recorded: readonly RecordedPictures[],
  world: string,
  input: number,
): Scenery[] {
  const [first] = recorded;
  if (first === undefined) return [];
  const large = new Encoding(worldGrammar(protocol, worldNames(protocol).at(-1)!), first.orders);
  const seen = inputOf(first, input);
  const encoding = worldAround(worldGrammar(protocol, world), first.orders, seen.meanings, input);
  const goal = encoding.indexOf(encoding.encode(seen.meanings));
  const grid = new Grid(encoding.axes.map(({ order }) => order.length));
  const sentences = Array.from({ length: encoding.size }, (_, state) =>
    encoding.sentence(encoding.stateOf(state)),
  );
  const pictures = recorded.map((one) => {
    const observations = observationsFor(one, large, input);
    return sentences.map((sentence) => observations.get(sentence));
  });
  const drawn = recorded.flatMap(({ pictureSeed }, i) => {
    const whole = pictures[i]!.flatMap((seenThere) => seenThere ?? []);
    return whole.length === encoding.size ? [{ pictureSeed, pictures: whole }] : [];
  });
  const scenery = (pictureSeed: number | null, ofState: (state: number) => Observation[]): Scenery => ({
    world,
    input,
    pictureSeed,
    seen,
    recording: { encoding, grid, goal, pictures: sentences.map((_, state) => ofState(state)) },
  });
  return [
    ...drawn.map((one) => scenery(one.pictureSeed, (state) => [one.pictures[state]!])),
    ...(drawn.length > 1 ? [scenery(null, (state) => drawn.map((one) => one.pictures[state]!))] : []),
  ];
}

/** A column of the table: one agent with its settings. */
export interface TableArm {
  /** Unique; what rows are grouped by. */
  name: string;
  agent: AgentName;
  reward: RewardName;
  epsilon: string;
  setting: string;
  settings: Setting;
  sameStart: boolean;
  dynamicSeeds: boolean;
  continueAfterGoal: boolean;
}

export interface TableRow extends Omit<SearchRow, keyof SearchArm | 'distances' | 'seed'> {
  arm: string;
  world: string;
  input: number;
  pictureSeed: number | null;
  agentSeed: number;
  /** Most steps that it may have taken: as many as the world has states. */
  cap: number;
  /** Steps from the goal at evenly spaced looks. */
  trace: number[];
}

/** Random selection walks alike whatever it is paid, and enumeration has no ε: they are run once. */
export function tableArms(protocol: SearchProtocol): TableArm[] {
  const { settings, primary, remedies, claims, beside } = protocol;
  const printed = Object.values(settings)[0]!;
  const arm = (change: Partial<TableArm> & Pick<TableArm, 'agent'>): TableArm => {
    const one = {
      reward: primary.reward,
      epsilon: primary.epsilon,
      setting: primary.setting,
      settings: settings[primary.setting] ?? remedies[change.setting ?? ''] ?? printed,
      sameStart: true,
      dynamicSeeds: false,
      continueAfterGoal: false,
      ...change,
    };
    return { ...one, name: change.name ?? armName(one) };
  };
  const learners = protocol.agents.filter((agent) => agent !== 'random');
  const of = (setting: string) => ({ setting, settings: settings[setting] ?? remedies[setting]! });
  const table = Object.keys(settings).flatMap((setting) =>
    learners.flatMap((agent) =>
      protocol.rewards.flatMap((reward) =>
        protocol.epsilons.map((epsilon) => arm({ agent, reward, epsilon, ...of(setting) })),
      ),
    ),
  );
  const compared = [...new Set([Object.keys(settings)[0]!, primary.setting])];
  const all = [
    arm({ agent: 'random', name: 'random' }),
    ...table,
    ...Object.keys(remedies).flatMap((remedy) => learners.map((agent) => arm({ agent, ...of(remedy) }))),
    ...beside.flatMap((agent) =>
      agent === 'hill-climber'
        ? protocol.rewards.map((reward) => arm({ agent, reward, name: `${agent} ${reward}` }))
        : [arm({ agent, name: agent })],
    ),
    ...beside
      .filter((agent) => agent.startsWith('gradient'))
      .map((agent) => arm({ agent, continueAfterGoal: true, name: `${agent} on after the goal` })),
    ...compared.flatMap((setting) =>
      claims.epsilons.map((epsilon) => arm({ agent: 'q', epsilon, ...of(setting) })),
    ),
    ...compared.flatMap((setting) =>
      learners.flatMap((agent) => [
        ...(claims.randomStarts ? [arm({ agent, sameStart: false, ...of(setting) })] : []),
        ...(claims.dynamicSeeds ? [arm({ agent, dynamicSeeds: true, ...of(setting) })] : []),
      ]),
    ),
  ];
  return [...new Map(all.map((one) => [one.name, one])).values()];
}

export function armName(
  arm: Pick<TableArm, 'agent' | 'reward' | 'epsilon' | 'setting'> & Partial<TableArm>,
): string {
  const { agent, reward, epsilon, setting, sameStart = true, dynamicSeeds = false } = arm;
  return [
    ...[setting, agent, reward, epsilon],
    ...(sameStart ? [] : ['random starts']),
    ...(dynamicSeeds ? ['dynamic seeds'] : []),
  ].join(' ');
}

/** Points of a trace. */
export const tracePoints = 60;

/** Rows of one arm in one scenery, one a seed. As many steps as states; a learner that knows the way stops. */
export async function runArm(
  { world, input, pictureSeed, seen, recording }: Scenery,
  arm: TableArm,
  agentSeeds: readonly number[],
  rewards: RewardCache,
  signal?: AbortSignal,
): Promise<TableRow[]> {
  const { gamma, ...settings } = arm.settings;
  const { reward, values } = rewards.of(recording, seen, arm.reward);
  const worldOf = (_: SearchArm, seed: number) =>
    new RecordedWorld(recording, {
      reward,
      rewards: values,
      gamma,
      ...(arm.dynamicSeeds ? { dynamicSeed: seed } : {}),
    });
  const { agent, epsilon, sameStart, continueAfterGoal } = arm;
  const one: SearchArm = { agent, reward: arm.reward, epsilon, sameStart, continueAfterGoal, ...settings };
  const rows: TableRow[] = [];
  const cap = recording.encoding.size;
  const options = { arms: [one], seeds: agentSeeds, steps: cap, ...(signal === undefined ? {} : { signal }) };
  for await (const row of sweep(worldOf, seen, options)) {
    const { seed, distances, startDistance, measures, learned, path, distanceAfterGoal, plateaus } = row;
    rows.push({
      ...{ arm: arm.name, world, input, pictureSeed, agentSeed: seed, cap, startDistance, measures },
      ...{ learned, path, distanceAfterGoal, plateaus },
      trace: Array.from(
        { length: tracePoints + 1 },
        (_, i) => distances[Math.min(distances.length - 1, Math.round((i * cap) / tracePoints))]!,
      ),
    });
  }
  return rows;
}

/** Rewards of a recording, computed once. */
export class RewardCache {
  readonly #known = new WeakMap<
    Recording,
    Map<RewardName, { reward: SemanticReward; values: readonly (readonly number[])[] }>
  >();

  of(recording: Recording, seen: Observation, name: RewardName) {
    const known = this.#known.get(recording) ?? new Map();
    this.#known.set(recording, known);
    if (!known.has(name)) {
      const reward = semanticReward(name, seen, { scenes: sceneAxes(recording.encoding) });
      known.set(name, { reward, values: recordedRewards(recording, reward) });
    }
    return known.get(name)! as { reward: SemanticReward; values: readonly (readonly number[])[] };
  }
}

export function sceneAxes(encoding: Encoding): string[] {
  return encoding.axes.filter(({ role }) => role === 'scene').map(({ name }) => name);
}
