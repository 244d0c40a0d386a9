/** The claims of the paper's section 5, by name: each a number with an interval and a verdict. */

import { mean } from '@rldf/common/base/stats';
import type { Landscape } from './landscape.js';
import {
  type ByScenery,
  type Estimate,
  estimateMeans,
  estimateOf,
  groupKey,
  paired,
  pictures,
  reached,
} from './numbers.js';
import type { SearchProtocol } from './protocol.js';
import { armName, type TableRow } from './runs.js';
import { worldNames } from './worlds.js';

export interface Claim {
  /** Where in the paper. */
  section: string;
  /** The paper's words, shortened. */
  claim: string;
  /** What is measured, and in which arms. */
  measure: string;
  value: Estimate | null;
  verdict: Verdict;
}

/** By the interval: all of it on the claim's side, all on the other, or neither. */
export type Verdict = 'holds' | 'does not hold' | 'not shown' | 'not measured';

type Groups = ReadonlyMap<string, ByScenery>;

export function claimsOf(
  protocol: SearchProtocol,
  groups: Groups,
  landscapes: readonly Landscape[],
): Claim[] {
  const worlds = worldNames(protocol);
  const [small, large] = [worlds[0]!, worlds.at(-1)!];
  const printed = Object.keys(protocol.settings)[0]!;
  const { primary } = protocol;
  const name = (change: Partial<Parameters<typeof armName>[0]>) =>
    armName({ agent: 'q', ...primary, ...change });
  const of = (world: string, change: Partial<Parameters<typeof armName>[0]> = {}) =>
    groups.get(groupKey(name(change), world));
  const random = (world: string) => groups.get(groupKey('random', world));
  const claims: Claim[] = [];
  const claim = (section: string, words: string, measure: string, value: Estimate | null, least = 0) =>
    claims.push({ section, claim: words, measure, value, verdict: verdictOf(value, least) });
  const minus = (
    ours: ByScenery | undefined,
    others: ByScenery | undefined,
    value: (row: TableRow) => number,
    purpose: string,
  ) => paired(ours, others, value, `claim ${purpose}`, 10_000);
  const settings = [...new Set([printed, primary.setting])];

  for (const setting of settings)
    for (const world of new Set([small, large]))
      claim(
        '5.1',
        'training depends heavily on the initial position',
        `share reached from the nearer half of the starts minus the farther half, Q-learning ${setting}, ${world}`,
        nearMinusFar(of(world, { setting }), `${setting} ${world}`),
      );
  for (const setting of settings)
    claim(
      '5.1',
      '... which random initialisation treats',
      `share reached with a new start in every episode minus one start, Q-learning ${setting}, ${large}`,
      minus(of(large, { setting, sameStart: false }), of(large, { setting }), reached, `starts ${setting}`),
    );
  for (const setting of settings)
    for (const agent of ['q', 'sarsa'] as const)
      claim(
        '5.2',
        'dynamic seeds are not recommended',
        `share whose learned policy reaches the goal, one picture a state minus another at each visit, ${agent} ${setting}, ${small}`,
        dynamicDifference(
          of(small, { setting, agent }),
          of(small, { setting, agent, dynamicSeeds: true }),
          `${setting} ${agent}`,
        ),
      );
  const by = (world: string, reward: string) =>
    landscapes.filter((one) => one.world === world && one.reward === reward);
  const landscape = (reward: string, other: string, value: (one: Landscape) => number): Estimate | null => {
    const [ours, theirs] = [by(large, reward), by(large, other)];
    if (ours.length === 0 || ours.length !== theirs.length) return null;
    return estimateMeans(
      ours.map((one, i) => value(one) - value(theirs[i]!)),
      `landscape ${reward} ${other}`,
    );
  };
  claim(
    '5.3',
    'the CLIP reward gives finer guidance',
    `rank correlation of reward and nearness, CLIP minus partial, ${large}`,
    landscape('clip', 'partial', ({ guidance }) => guidance),
  );
  claim(
    '5.3',
    '... but has local optima',
    `states that pay more than all their neighbours, the goal aside, CLIP minus partial, ${large}`,
    landscape('clip', 'partial', ({ peaks }) => peaks),
  );
  for (const setting of settings)
    claim(
      '5.3',
      '... at which an agent gets stuck, unlike with the partial reward',
      `share reached, partial minus CLIP, Q-learning ${setting}, ${large}`,
      minus(
        of(large, { setting, reward: 'partial' }),
        of(large, { setting, reward: 'clip' }),
        reached,
        `clip ${setting}`,
      ),
    );
  if (small !== large)
    claim(
      '5.5',
      'a world nine times as large costs more than twice the compute',
      `pictures until the goal, ${large} divided by ${small}, Q-learning ${primary.setting}`,
      ratio(of(large), of(small), pictures, 'compute'),
      2,
    );
  claim(
    '5.5',
    '... yet the learner still finds what it looks for',
    `share reached, Q-learning ${primary.setting}, ${large}: more than half`,
    shareReached(of(large)),
    0.5,
  );
  claim(
    '5.6',
    'difficulty depends on the domain',
    `share reached by random selection, easiest minus hardest input, ${large}`,
    spread(random(large)),
  );
  for (const setting of settings) {
    claim(
      '5.7',
      'random selection is competitive in a small world',
      `share reached, random minus Q-learning ${setting}, ${small}: at least -0.1`,
      minus(random(small), of(small, { setting }), reached, `competitive ${setting}`),
      -0.1,
    );
    claim(
      '5.7',
      'in a larger world random selection falls behind',
      `share reached, Q-learning ${setting} minus random, ${large}`,
      minus(of(large, { setting }), random(large), reached, `behind ${setting}`),
    );
    claim(
      '5.7',
      '... and ends farther away',
      `final distance, random minus Q-learning ${setting}, ${large}`,
      minus(
        random(large),
        of(large, { setting }),
        ({ measures }) => measures.finalDistance,
        `away ${setting}`,
      ),
    );
  }
  const others = protocol.claims.epsilons.filter((epsilon) => epsilon !== '0.1');
  for (const setting of settings)
    for (const epsilon of others)
      claim(
        'Table 3',
        '0.1 is an optimal ε',
        `share reached, ε 0.1 minus ${epsilon}, Q-learning ${setting}, ${large}`,
        minus(
          of(large, { setting, epsilon: '0.1' }),
          of(large, { setting, epsilon }),
          reached,
          `ε ${setting} ${epsilon}`,
        ),
      );
  return claims;
}

export function verdictOf(value: Estimate | null, least = 0): Verdict {
  if (value === null) return 'not measured';
  if (value.ci95 === null) return 'not shown';
  if (value.ci95[0] > least) return 'holds';
  return value.ci95[1] < least ? 'does not hold' : 'not shown';
}

function nearMinusFar(sceneries: ByScenery | undefined, purpose: string): Estimate | null {
  if (sceneries === undefined) return null;
  const differences = [...sceneries.values()].flatMap((rows) => {
    const sorted = [...rows].sort((a, b) => a.startDistance - b.startDistance);
    const half = Math.floor(sorted.length / 2);
    if (half === 0) return [];
    return [mean(sorted.slice(0, half).map(reached)) - mean(sorted.slice(-half).map(reached))];
  });
  return differences.length === 0 ? null : estimateMeans(differences, `claim starts ${purpose}`);
}

/** The searches with dynamic seeds see all pictures of an input; they are held against the mean over its single ones. */
function dynamicDifference(
  fixed: ByScenery | undefined,
  dynamic: ByScenery | undefined,
  purpose: string,
): Estimate | null {
  if (fixed === undefined || dynamic === undefined) return null;
  const learned = ({ learned: yes }: TableRow) => Number(yes);
  const single = [...fixed.values()].flat();
  const differences = [...dynamic.values()].map((rows) => {
    const same = single.filter(({ input }) => input === rows[0]!.input);
    return mean(same.map(learned)) - mean(rows.map(learned));
  });
  return estimateMeans(differences, `claim dynamic ${purpose}`);
}

function ratio(
  ours: ByScenery | undefined,
  others: ByScenery | undefined,
  value: (row: TableRow) => number,
  purpose: string,
): Estimate | null {
  if (ours === undefined || others === undefined) return null;
  const ratios = [...ours].flatMap(([scenery, rows]) => {
    const theirs = others.get(scenery);
    return theirs === undefined ? [] : [mean(rows.map(value)) / mean(theirs.map(value))];
  });
  return ratios.length === 0 ? null : estimateMeans(ratios, `claim ${purpose}`);
}

function shareReached(sceneries: ByScenery | undefined): Estimate | null {
  if (sceneries === undefined) return null;
  return estimateOf(
    [...sceneries.values()].map((rows) => rows.map(reached)),
    'claim share',
  );
}

/** The easiest and the hardest input, found on every other agent seed and measured on the rest. */
function spread(sceneries: ByScenery | undefined): Estimate | null {
  if (sceneries === undefined) return null;
  const inputs = new Map<number, number[][]>();
  for (const rows of sceneries.values()) {
    const halves = inputs.get(rows[0]!.input) ?? [[], []];
    for (const [i, row] of rows.entries()) halves[i % 2]!.push(reached(row));
    inputs.set(rows[0]!.input, halves);
  }
  const sorted = [...inputs.values()]
    .filter((halves) => halves.every(({ length }) => length > 0))
    .sort((a, b) => mean(a[0]!) - mean(b[0]!));
  if (sorted.length < 2) return null;
  const [hardest, easiest] = [sorted[0]![1]!, sorted.at(-1)![1]!];
  const count = Math.min(hardest.length, easiest.length);
  return estimateMeans(
    Array.from({ length: count }, (_, i) => easiest[i]! - hardest[i]!),
    'claim spread',
  );
}
