/** The numbers of a table, from its results alone: differences after - before, paired by prompt and noise. */

import { bootstrapSeedsAndPrompts, mean, tInterval } from '@rldf/common/base/stats';
import { noiseKey, Random } from '@rldf/torch';
import type { ArmResult } from './arm-result.js';
import { type Currency, currencies, type EqualCost, equalCost } from './equal-cost.js';
import { type FusedArms, fusedArms } from './fused-arm.js';
import { type PicturesToReach, picturesToReach } from './pictures-to-reach.js';
import type { EfficiencyClaim, Protocol, ScoreClaim } from './protocol.js';

export interface Estimate {
  mean: number;
  /** Over training seeds and prompts from five seeds on, Student's t over seeds below, none for one seed. */
  ci95: [lo: number, hi: number] | null;
  seeds: number;
}

/** What became of a claim. `not shown`: the interval holds 0, or the difference is smaller than was asked for. */
export type Verdict = 'shown' | 'not shown' | 'opposite';

export interface ScoreClaimResult extends ScoreClaim {
  /** Difference of the final scores, paired by seed and prompt. */
  value: number;
  ci95: Estimate['ci95'];
  seeds: number;
  verdict: Verdict;
}

export interface EfficiencyClaimResult extends EfficiencyClaim, Omit<PicturesToReach, 'ratio'> {
  /** Ratio of training pictures, paired by seed. */
  value: number;
  verdict: Verdict;
}

export type ClaimResult = ScoreClaimResult | EfficiencyClaimResult;

export interface TableNumbers {
  table: string;
  question: string;
  paper: string;
  protocol: string;
  /** Arms that train nothing: sums of others. Missing where there are none. */
  fused?: FusedArms;
  /** How far each arm moved each score. */
  arms: Record<string, Record<string, Estimate>>;
  /** Each arm's final scores minus the reference's, paired by seed and prompt. */
  againstReference: Record<string, Record<string, Estimate>>;
  cost: Record<string, { pictures: number; unetForwards: number; seconds: number; cpuHours: number }>;
  /** Arms at the cost of the cheapest one, where they have validation curves. */
  equalCost: Partial<Record<Currency, EqualCost>>;
  /** Runs that the protocol asks for and that are not here yet. */
  missing: string[];
  summary: { claims: Record<string, ClaimResult> };
}

export function tableNumbers(protocol: Protocol, armResults: readonly ArmResult[]): TableNumbers {
  const arms: TableNumbers['arms'] = {};
  const againstReference: TableNumbers['againstReference'] = {};
  const cost: TableNumbers['cost'] = {};
  const of = (arm: string) =>
    armResults.filter((armResult) => armResult.arm === arm).sort((a, b) => a.seed - b.seed);
  const reference = protocol.reference === undefined ? [] : of(protocol.reference);
  for (const arm of Object.keys(protocol.arms)) {
    const here = of(arm);
    if (here.length === 0) continue;
    const names = Object.keys((here[0] as ArmResult).scores);
    arms[arm] = mapOf(names, (name) =>
      estimate(
        here.map(({ scores }) => differences(scores[name]!.before, scores[name]!.after)),
        `${arm}/${name}`,
      ),
    );
    cost[arm] = {
      pictures: mean(here.map((armResult) => armResult.cost.pictures)),
      unetForwards: mean(here.map((armResult) => armResult.cost.unetForwards)),
      seconds: mean(here.map((armResult) => armResult.cost.seconds)),
      cpuHours: here.reduce((total, armResult) => total + armResult.cost.cpuSeconds, 0) / 3600,
    };
    if (arm === protocol.reference) continue;
    const pairs = here.flatMap((armResult) => {
      const other = reference.find(({ seed }) => seed === armResult.seed);
      return other === undefined ? [] : [[armResult, other] as const];
    });
    if (pairs.length === 0) continue;
    againstReference[arm] = mapOf(names, (name) =>
      estimate(
        pairs.map(([ours, other]) => differences(other.scores[name]!.after, ours.scores[name]!.after)),
        `${arm}/${name}/reference`,
      ),
    );
  }
  const done = new Set(armResults.map(({ arm, seed }) => `${arm}-seed${seed}`));
  const wanted = Object.keys(protocol.arms).flatMap((arm) =>
    protocol.seeds.map((seed) => `${arm}-seed${seed}`),
  );
  const atEqualCost = (Object.keys(currencies) as Currency[]).flatMap((currency) => {
    const found = equalCost(Object.keys(protocol.arms), armResults, currency);
    return found === undefined ? [] : [[currency, found] as const];
  });
  const fused = fusedArms(protocol);
  const { table, question, paper, hash } = protocol;
  return {
    table,
    question,
    paper,
    protocol: hash,
    ...(Object.keys(fused).length > 0 && { fused }),
    arms,
    againstReference,
    cost,
    equalCost: Object.fromEntries(atEqualCost),
    missing: wanted.filter((name) => !done.has(name)),
    summary: { claims: claimsOf(protocol, of) },
  };
}

/** The claims whose arms have run with common seeds. */
function claimsOf(
  { claims }: Protocol,
  of: (arm: string) => readonly ArmResult[],
): Record<string, ClaimResult> {
  const results = Object.entries(claims).flatMap(([name, claim]) => {
    const result = 'judge' in claim ? scoreClaim(name, claim, of) : efficiencyClaim(claim, of);
    return result === undefined ? [] : [[name, result] as const];
  });
  return Object.fromEntries(results);
}

function scoreClaim(
  name: string,
  claim: ScoreClaim,
  of: (arm: string) => readonly ArmResult[],
): ScoreClaimResult | undefined {
  const rows = of(claim.arm).flatMap((ours) => {
    const other = of(claim.against).find(({ seed }) => seed === ours.seed);
    const [after, against] = [ours, other].map((armResult) => armResult?.scores[claim.judge]?.after);
    return after === undefined || against === undefined ? [] : [differences(against, after)];
  });
  if (rows.length === 0) return undefined;
  const { mean: value, ci95, seeds } = estimate(rows, `claim ${name}`);
  return { ...claim, value, ci95, seeds, verdict: verdictOf(value, ci95, claim.least) };
}

function efficiencyClaim(
  claim: EfficiencyClaim,
  of: (arm: string) => readonly ArmResult[],
): EfficiencyClaimResult | undefined {
  const found = picturesToReach(of(claim.arm), of(claim.against));
  if (found === undefined) return undefined;
  const { ratio, ...more } = found;
  return { ...claim, ...more, value: ratio, verdict: ratioVerdict(ratio, more.ci95, claim.picturesAtMost) };
}

/** The verdict on a ratio that is claimed to lie below 1. */
export function ratioVerdict(value: number, ci95: Estimate['ci95'], most: number): Verdict {
  if (ci95 !== null && ci95[0] > 1) return 'opposite';
  return ci95 !== null && ci95[1] < 1 && value <= most ? 'shown' : 'not shown';
}

export function verdictOf(value: number, ci95: Estimate['ci95'], least: number): Verdict {
  if (ci95 !== null && ci95[1] < 0) return 'opposite';
  return ci95 !== null && ci95[0] > 0 && value >= least ? 'shown' : 'not shown';
}

/** @param rows one a seed, one entry a prompt */
function estimate(rows: readonly (readonly number[])[], purpose: string): Estimate {
  const seeds = rows.length;
  const means = rows.map(mean);
  if (seeds === 1) return { mean: means[0] as number, ci95: null, seeds };
  const { mean: centre, interval } =
    seeds < 5
      ? tInterval(means)
      : bootstrapSeedsAndPrompts(rows, { random: new Random(noiseKey(0, `table ${purpose}`)) });
  return { mean: centre, ci95: interval, seeds };
}

const differences = (before: readonly number[], after: readonly number[]) =>
  after.map((value, i) => value - (before[i] as number));

const mapOf = <T>(names: readonly string[], of: (name: string) => T): Record<string, T> =>
  Object.fromEntries(names.map((name) => [name, of(name)]));

/** The table as Markdown. */
export function tableMarkdown(numbers: TableNumbers, command: string, curve?: string): string {
  const { arms, againstReference, cost, missing, fused = {} } = numbers;
  const metrics = [...new Set(Object.values(arms).flatMap((row) => Object.keys(row)))];
  const shown = (value: Estimate | undefined) => {
    if (value === undefined) return '';
    const signed = (x: number) => `${x >= 0 ? '+' : ''}${x.toPrecision(3)}`;
    const interval = value.ci95 === null ? '' : ` [${value.ci95.map(signed).join(', ')}]`;
    return `${signed(value.mean)}${interval}`;
  };
  const rows = (title: string, values: TableNumbers['arms']) =>
    Object.keys(values).length === 0
      ? []
      : [
          `| ${[title, 'seeds', ...metrics].join(' | ')} |`,
          `|${'---|'.repeat(metrics.length + 2)}`,
          ...Object.entries(values).map(
            ([arm, row]) =>
              `| ${[arm, String(Object.values(row)[0]?.seeds), ...metrics.map((name) => shown(row[name]))].join(' | ')} |`,
          ),
          '',
        ];
  return [
    `# ${numbers.table}: ${numbers.question}`,
    '',
    `Made by \`${command}\` from the results beside this page, by the protocol with SHA-256 \`${numbers.protocol.slice(0, 12)}\`.`,
    `The paper: ${numbers.paper}`,
    '',
    ...(missing.length === 0 ? [] : [`Not run yet: ${missing.join(', ')}.`, '']),
    'Change of each score on test prompts by training (after - before, same noise), with 95 % intervals:',
    '',
    ...rows('arm', arms),
    ...Object.entries(fused).map(
      ([arm, names]) =>
        `\`${arm}\` is the sum of ${names.join(' and ')} of the same seed: it trained nothing, and cost what they cost together.\n`,
    ),
    ...(Object.keys(againstReference).length === 0
      ? []
      : [
          'Final scores minus those of the reference arm, paired by seed and prompt:',
          '',
          ...rows('arm', againstReference),
        ]),
    ...claimLines(numbers, shown),
    ...(curve === undefined ? [] : [`![Reward by training pictures](${curve})`, '']),
    '| arm | pictures | U-Net forwards | seconds | CPU hours, all seeds |',
    '|---|---|---|---|---|',
    ...Object.entries(cost).map(
      ([arm, { pictures, unetForwards, seconds, cpuHours }]) =>
        `| ${arm} | ${pictures} | ${unetForwards} | ${seconds.toFixed(0)} | ${cpuHours.toFixed(2)} |`,
    ),
    '',
    ...equalCostMarkdown(numbers, shown),
  ].join('\n');
}

/** Each claim with its difference and its verdict. */
function claimLines(
  { summary: { claims } }: TableNumbers,
  shown: (value: Estimate | undefined) => string,
): string[] {
  const lines = Object.values(claims).map((claim) => {
    const { says, arm, against, value, ci95, seeds, verdict } = claim;
    const [compared, found, asked] =
      'judge' in claim
        ? [
            `${arm} − ${against}, ${claim.judge}`,
            shown({ mean: value, ci95, seeds }),
            claim.least === 0 ? 'above 0' : `at least ${claim.least}, above 0`,
          ]
        : [
            `pictures of ${arm} / ${against}, to a validation reward ${claim.target.toPrecision(3)} higher (reached by ${claim.reached.join(' and ')} of ${seeds})`,
            `${value.toPrecision(3)}${ci95 === null ? '' : ` [${ci95.map((x) => x.toPrecision(3)).join(', ')}]`}`,
            `at most ${claim.picturesAtMost}, below 1`,
          ];
    return `| ${says} | ${compared} | ${found} | ${asked} | **${verdict}** |`;
  });
  if (lines.length === 0) return [];
  return [
    'Claims, as the protocol fixed them: shown if the interval lies above 0 (of ratios: below 1) and the value reaches what was asked for; opposite if it lies on the other side.',
    '',
    '| claim | what is compared | value | asked for | verdict |',
    '|---|---|---|---|---|',
    ...lines,
    '',
  ];
}

function equalCostMarkdown(
  { arms, equalCost }: TableNumbers,
  shown: (value: Estimate | undefined) => string,
): string[] {
  const columns = (Object.keys(currencies) as Currency[]).flatMap((currency) => {
    const found = equalCost[currency];
    return found === undefined
      ? []
      : [{ title: `${Math.round(found.budget)} ${currencies[currency]}`, ...found }];
  });
  if (columns.length === 0) return [];
  return [
    'At equal cost: gain of the validation reward when an arm has spent what the cheapest arm spends in all (a forward with',
    'its backward counts three; between evaluations, straight lines), with 95 % intervals over seeds:',
    '',
    `| arm | ${columns.map(({ title }) => title).join(' | ')} |`,
    `|${'---|'.repeat(columns.length + 1)}`,
    ...Object.keys(arms)
      .filter((arm) => columns.some(({ gains }) => arm in gains))
      .map((arm) => `| ${[arm, ...columns.map(({ gains }) => shown(gains[arm]))].join(' | ')} |`),
    '',
  ];
}
