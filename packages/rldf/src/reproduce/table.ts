/** The numbers of a table, from its results alone: differences after - before, paired by prompt and noise. */

import { bootstrapSeedsAndPrompts, mean, tInterval } from '@rldf/common/base/stats';
import { noiseKey, Random } from '@rldf/torch';
import type { ArmResult } from './arm-result.js';
import { type Currency, currencies, type EqualCost, equalCost } from './equal-cost.js';
import { type FusedArms, fusedArms } from './fused-arm.js';
import { resultsOfGroup } from './groups.js';
import { type PicturesToReach, picturesToReach } from './pictures-to-reach.js';
import type { EfficiencyClaim, Protocol, ScoreClaim } from './protocol.js';
import { type ValidationSummary, validationSummary } from './validation-curve.js';

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

export interface Effects {
  arms: Record<string, Record<string, Estimate>>;
  againstReference: Record<string, Record<string, Estimate>>;
}

export interface TableNumbers {
  table: string;
  question: string;
  paper: string;
  protocol: string;
  /** Arms that train nothing: sums of others. Missing where there are none. */
  fused?: FusedArms;
  /** How far each arm moved each score. */
  arms: Effects['arms'];
  /** Each arm's final scores minus the reference's, paired by seed and prompt. */
  againstReference: Effects['againstReference'];
  /** The same on groups of test prompts; missing where there are none. */
  groups?: Record<string, Effects>;
  /** Of arms with validation curves. */
  validation: Record<string, ValidationSummary>;
  cost: Record<string, { pictures: number; unetForwards: number; seconds: number; cpuHours: number }>;
  /** Arms at the cost of the cheapest one, where they have validation curves. */
  equalCost: Partial<Record<Currency, EqualCost>>;
  /** Runs that the protocol asks for and that are not here yet. */
  missing: string[];
  summary: { claims: Record<string, ClaimResult> };
}

/** @param prompts test prompts by arm, of which groups are made */
export function tableNumbers(
  protocol: Protocol,
  armResults: readonly ArmResult[],
  prompts: Readonly<Record<string, readonly string[]>> = {},
): TableNumbers {
  const names = Object.keys(protocol.arms);
  const inGroup = (name: string) => resultsOfGroup(protocol.groups[name] as string, armResults, prompts);
  const groups = mapOf(Object.keys(protocol.groups), (name) => effectsOf(protocol, inGroup(name)));
  const ran = names.filter((arm) => resultsOf(armResults, arm).length > 0);
  const done = new Set(armResults.map(({ arm, seed }) => `${arm}-seed${seed}`));
  const wanted = names.flatMap((arm) => protocol.seeds.map((seed) => `${arm}-seed${seed}`));
  const atEqualCost = (Object.keys(currencies) as Currency[]).flatMap((currency) => {
    const found = equalCost(names, armResults, currency);
    return found === undefined ? [] : [[currency, found] as const];
  });
  const summaries = ran.flatMap((arm) => {
    const summary = validationSummary(resultsOf(armResults, arm));
    return summary === undefined ? [] : [[arm, summary] as const];
  });
  const fused = fusedArms(protocol);
  const { table, question, paper, hash } = protocol;
  return {
    table,
    question,
    paper,
    protocol: hash,
    ...(Object.keys(fused).length > 0 && { fused }),
    ...effectsOf(protocol, armResults),
    ...(Object.keys(groups).length > 0 && { groups }),
    validation: Object.fromEntries(summaries),
    cost: mapOf(ran, (arm) => costOf(resultsOf(armResults, arm))),
    equalCost: Object.fromEntries(atEqualCost),
    missing: wanted.filter((name) => !done.has(name)),
    summary: {
      claims: claimsOf(protocol, (arm, group) =>
        resultsOf(group === undefined ? armResults : inGroup(group), arm),
      ),
    },
  };
}

const resultsOf = (armResults: readonly ArmResult[], arm: string) =>
  armResults.filter((armResult) => armResult.arm === arm).sort((a, b) => a.seed - b.seed);

function costOf(here: readonly ArmResult[]): TableNumbers['cost'][string] {
  return {
    pictures: mean(here.map((armResult) => armResult.cost.pictures)),
    unetForwards: mean(here.map((armResult) => armResult.cost.unetForwards)),
    seconds: mean(here.map((armResult) => armResult.cost.seconds)),
    cpuHours: here.reduce((total, armResult) => total + armResult.cost.cpuSeconds, 0) / 3600,
  };
}

function effectsOf(protocol: Protocol, armResults: readonly ArmResult[]): Effects {
  const arms: Effects['arms'] = {};
  const againstReference: Effects['againstReference'] = {};
  const reference = protocol.reference === undefined ? [] : resultsOf(armResults, protocol.reference);
  for (const arm of Object.keys(protocol.arms)) {
    const here = resultsOf(armResults, arm);
    if (here.length === 0) continue;
    const names = Object.keys((here[0] as ArmResult).scores);
    arms[arm] = mapOf(names, (name) =>
      estimate(
        here.map(({ scores }) => differences(scores[name]!.before, scores[name]!.after)),
        `${arm}/${name}`,
      ),
    );
    if (arm === protocol.reference) continue;
    const pairs = here.flatMap((armResult) => {
      const other = reference.find(({ seed }) => seed === armResult.seed);
      return other === undefined ? [] : [[armResult, other] as const];
    });
    const shared = names.filter((name) => pairs.every(([, other]) => name in other.scores));
    if (pairs.length === 0) continue;
    againstReference[arm] = mapOf(shared, (name) =>
      estimate(
        pairs.map(([ours, other]) => differences(other.scores[name]!.after, ours.scores[name]!.after)),
        `${arm}/${name}/reference`,
      ),
    );
  }
  return { arms, againstReference };
}

/** The claims whose arms have run with common seeds. */
function claimsOf(
  { claims }: Protocol,
  of: (arm: string, group?: string) => readonly ArmResult[],
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
  of: (arm: string, group?: string) => readonly ArmResult[],
): ScoreClaimResult | undefined {
  const { arm, against, group, judge } = claim;
  const rows = of(arm, group).flatMap((ours) => {
    const before =
      against === undefined
        ? ours.scores[judge]?.before
        : of(against, group).find(({ seed }) => seed === ours.seed)?.scores[judge]?.after;
    const after = ours.scores[judge]?.after;
    return before === undefined || after === undefined ? [] : [differences(before, after)];
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
  const shown = (value: Estimate | undefined) => {
    if (value === undefined) return '';
    const signed = (x: number) => `${x >= 0 ? '+' : ''}${x.toPrecision(3)}`;
    const interval = value.ci95 === null ? '' : ` [${value.ci95.map(signed).join(', ')}]`;
    return `${signed(value.mean)}${interval}`;
  };
  const rows = (title: string, values: Effects['arms']) => {
    const metrics = [...new Set(Object.values(values).flatMap((row) => Object.keys(row)))];
    return Object.keys(values).length === 0
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
  };
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
    ...Object.entries(numbers.groups ?? {}).flatMap(([name, effects]) => [
      `The same change on the test prompts of the group \`${name}\`:`,
      '',
      ...rows('arm', effects.arms),
    ]),
    ...claimLines(numbers, shown),
    ...validationLines(numbers),
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
            `${arm} − ${against ?? 'untrained'}, ${claim.judge}${claim.group === undefined ? '' : `, ${claim.group}`}`,
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

/** The best of many noisy evaluations is too good; it stands beside the last one, which the test pictures were drawn with. */
function validationLines({ validation }: TableNumbers): string[] {
  const lines = Object.entries(validation).map(
    ([arm, { before, last, best, bestPictures }]) =>
      `| ${[arm, ...[before, last, best].map((value) => value.toPrecision(3)), bestPictures.toFixed(0)].join(' | ')} |`,
  );
  if (lines.length === 0) return [];
  return [
    'Validation reward, mean over seeds; the best one of each seed is chosen among noisy values, and is too good:',
    '',
    '| arm | before | last | best | pictures at the best |',
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
