/** The page of a table of searches, as Markdown. */

import type { MeanLandscape } from './landscape.js';
import type { ArmNumbers, Estimate } from './numbers.js';
import type { SearchProtocol } from './protocol.js';
import { armName, tableArms } from './runs.js';
import type { SearchTableNumbers } from './table.js';
import { worldNames } from './worlds.js';

/** @param drawings names of the SVG files beside the recordings */
export function tableMarkdown(
  protocol: SearchProtocol,
  numbers: SearchTableNumbers,
  command: string,
  drawings: readonly string[],
): string {
  const { table, summary, missing, claims, landscapes } = numbers;
  const worlds = worldNames(protocol).filter((world) => numbers.arms.some((arm) => arm.world === world));
  return [
    `# ${table}: ${numbers.question}`,
    '',
    `Made by \`${command}\`: all searches, from what was recognised in the pictures (\`${table}/*.json.gz\` beside this page), by the`,
    `[protocol](../../recipes/reproduce/${table}/protocol.yaml) with SHA-256 \`${numbers.protocol.slice(0, 12)}\`. How the method works: [docs/methods/rldf.md](../methods/rldf.md).`,
    '',
    `The paper: ${numbers.paper}`,
    '',
    ...(missing.length === 0
      ? []
      : [`**Not drawn yet:** ${missing.join('; ')}. The same command draws them and goes on.`, '']),
    '## Goals',
    '',
    ...rows(
      ['goal', 'value', 'reached'],
      goals(protocol, numbers).map(({ goal, value, reached }) => [goal, value, reached]),
    ),
    cloneWords(summary),
    '',
    '## What was searched',
    '',
    ...rows(
      ['input', 'recognised: the goal'],
      numbers.inputs.map(({ scene, goal }) => [scene, Object.values(goal).join(', ')]),
    ),
    ...rows(
      ['picture seed', 'pictures', 'show the object', 'show the scene'],
      numbers.asAsked.map(({ pictureSeed, pictures, objects, scenes }) => [
        String(pictureSeed),
        String(pictures),
        percent(objects),
        percent(scenes),
      ]),
    ),
    `Each world: ${worlds.map((world) => `\`${world}\` ${statesOf(protocol, numbers, world)}`).join(', ')} states; a search may take as many steps. ${protocol.agentSeeds.length} agent seeds a world, each with a start of its own, the same for`,
    `all agents. ${numbers.statistic}`,
    '',
    '**Measures.** *Reached*: share of searches that looked at the goal. *First hit*: steps until then; half of the searches took no more than the',
    'median, and "-" says that too few got there. *Pictures*: distinct states looked at until then, or in all: enumeration without replacement',
    'needs half of the states on average. *Learned*: share whose greedy path, after training, leads from the start to the goal. A learner stops',
    'when that is so. D_f, D_max, D_min, ρ, σ²: final, largest, smallest distance from the goal over all looks, its deviation and variance, in steps',
    'of the grid; *fine* and *coarse*: looks at pictures with every object of the input, and with its scene. All are means over searches.',
    '',
    ...Object.entries(protocol.settings).map(
      ([name, { table: kind, initialQ, alpha, gamma }]) =>
        `- \`${name}\`: table of ${kind}, Q from ${initialQ}, α ${alpha}, γ ${gamma}`,
    ),
    '',
    ...worlds.flatMap((world) => worldSection(protocol, numbers, world, drawings)),
    '## Claims of section 5',
    '',
    'A claim holds when its whole 95 % interval lies on its side. 5.4 (distance is no reward) and 5.8 (a design idea) claim nothing that can be',
    'measured here.',
    '',
    ...rows(
      ['', 'claim', 'measured', 'value', 'verdict'],
      claims.map(({ section, claim, measure, value, verdict }) => [
        section,
        claim,
        measure,
        shown(value),
        verdict,
      ]),
    ),
    '## Rewards as landscapes, and what could be had',
    '',
    'Without any agent. *Peaks*: states other than the goal that pay more than all their neighbours. *Flat*: share of states whose neighbours all pay the',
    'same. *Climbs*: share of states from which climbing to the best-paid neighbour ends at the goal. *Guidance*: rank correlation of reward and',
    'nearness. *Optimum*: value iteration with the bonus: share of states from which its policy reaches the goal, and its mean steps.',
    '*Zero search*: share of goals whose own picture, drawn at once from the recognised sentence, shows the input’s objects and scene: 1 picture.',
    '',
    ...rows(
      ['world', 'reward', 'peaks', 'flat', 'climbs', 'guidance', 'goal pays most', 'optimum', 'zero search'],
      landscapes.map(landscapeRow),
    ),
    '## Tuning',
    '',
    numbers.tuning,
    '',
  ].join('\n');
}

/** The goals of the table, with verdicts; also those that were missed. */
/** Of the classifiers in clone.json. */
function cloneWords({ cloneTop1, cloneTop1Ci95, ceilingTop1 }: SearchTableNumbers['summary']): string {
  const percent = (share: number | null) => (share === null ? 'null' : `${(100 * share).toFixed(1)} %`);
  if (cloneTop1 === null) return '`cloneTop1` null (no clone.json beside this page), `ceilingTop1` null.';
  const interval =
    cloneTop1Ci95 === null ? '' : ` [${cloneTop1Ci95.map((one) => (100 * one).toFixed(1)).join(', ')}]`;
  return `\`cloneTop1\` ${percent(cloneTop1)}${interval}, \`ceilingTop1\` ${percent(ceilingTop1)}, on real held-out scenes: [the clone's table](clone.md).`;
}

export function goals(
  protocol: SearchProtocol,
  { arms, summary }: SearchTableNumbers,
): { goal: string; value: string; reached: string }[] {
  const worlds = worldNames(protocol);
  const [small, large] = [worlds[0]!, worlds.at(-1)!];
  const { primary } = protocol;
  const of = (agent: 'q' | 'sarsa', world: string) =>
    arms.find((one) => one.world === world && one.arm === armName({ agent, ...primary }));
  const enumeration = arms.find(({ arm, world }) => arm === 'enumeration' && world === large);
  const beats = (agent: 'q' | 'sarsa', ci95: [number, number] | null) => ({
    goal: `${agent} (${primary.setting}, ${primary.reward}, ε ${primary.epsilon}) beats random selection in \`${large}\`: share that reaches the goal`,
    value: shown(of(agent, large)?.reachedMinusRandom ?? null),
    reached: ci95 === null ? 'not measured' : ci95[0] > 0 ? 'yes' : 'no',
  });
  const pictures = of('q', large)?.pictures;
  const random = arms.find(({ arm, world }) => arm === 'random' && world === small);
  return [
    beats('q', summary.qBeatsRandomCi95),
    beats('sarsa', summary.sarsaBeatsRandomCi95),
    {
      goal: `... distinct pictures until then, beside enumeration, \`${large}\``,
      value:
        pictures === undefined || enumeration === undefined
          ? '-'
          : `q ${pictures.toFixed(0)}, enumeration ${enumeration.pictures.toFixed(0)}`,
      reached: pictures === undefined || enumeration === undefined ? 'not measured' : 'stated',
    },
    {
      goal: `best first hit in \`${small}\` within 100 steps; the median`,
      value: [
        `best ${summary.bestFirstHit480 ?? '-'}, median ${summary.medianFirstHit480 ?? '-'}`,
        ...(summary.medianFirstHit480Axes === null
          ? []
          : [`with \`axes\` median ${summary.medianFirstHit480Axes}`]),
        `random selection: best ${random?.firstHit.best ?? '-'}, median ${random?.firstHit.median ?? '-'}`,
      ].join('; '),
      reached:
        summary.bestFirstHit480 === null ? 'not measured' : summary.bestFirstHit480 <= 100 ? 'yes' : 'no',
    },
  ];
}

function worldSection(
  protocol: SearchProtocol,
  numbers: SearchTableNumbers,
  world: string,
  drawings: readonly string[],
): string[] {
  const arms = tableArms(protocol);
  const of = (name: string) => numbers.arms.find((one) => one.arm === name && one.world === world);
  const section = (names: readonly { label: string[]; name: string }[]) =>
    names.flatMap(({ label, name }) => {
      const found = of(name);
      return found === undefined ? [] : [[...label, ...columns(found)]];
    });
  const table3 = arms.filter(
    ({ name, setting, sameStart, dynamicSeeds, agent, epsilon }) =>
      name !== 'random' &&
      setting in protocol.settings &&
      sameStart &&
      !dynamicSeeds &&
      (agent === 'q' || agent === 'sarsa') &&
      protocol.epsilons.includes(epsilon),
  );
  const rest = arms.filter((arm) => arm.name !== 'random' && !table3.includes(arm));
  const head = [
    'reached',
    '− random',
    'first hit: best, quartile, median',
    'pictures',
    'learned',
    'D_f',
    'D_max',
    'D_min',
    'ρ',
    'σ²',
    'fine',
    'coarse',
  ];
  const results = numbers.table;
  return [
    `## ${world}`,
    '',
    `The paper's Table 3 (setting, agent, reward, ε). Random selection does the same whatever the reward and ε: one row stands for all six.`,
    '',
    ...rows(
      ['setting', 'agent', 'reward', 'ε', ...head],
      section([
        { label: ['', 'random', 'all', 'all'], name: 'random' },
        ...table3.map(({ name, setting, agent, reward, epsilon }) => ({
          label: [setting, agent, reward, epsilon],
          name,
        })),
      ]),
    ),
    ...[`distance-${world}.svg`, `reached-${world}.svg`]
      .filter((name) => drawings.includes(name))
      .flatMap((name) => [`![${name.replace('.svg', '').replace('-', ', ')}](${results}/${name})`, '']),
    'Beside them: searches that learn nothing, the remedies one at a time, and the arms of the claims.',
    '',
    ...rows(['arm', ...head], section(rest.map(({ name }) => ({ label: [name], name })))),
    ...gradients(numbers.arms.filter((arm) => arm.world === world && arm.arm.startsWith('gradient'))),
  ];
}

function gradients(arms: readonly ArmNumbers[]): string[] {
  if (arms.length === 0) return [];
  return [
    'The noisy diffusion gradient’s failures: steps that left the grid point as it was (plateaus), and where it is after it has been at the goal.',
    '',
    ...rows(
      ['arm', 'plateaus, mean', 'mean distance after the goal'],
      arms.map(({ arm, plateaus, afterGoal }) => [
        arm,
        plateaus.toFixed(1),
        afterGoal === null ? '-' : afterGoal.toFixed(2),
      ]),
    ),
  ];
}

function columns(arm: ArmNumbers): string[] {
  const { firstHit } = arm;
  const hit = (value: number | null) => (value === null ? '-' : String(Math.round(value)));
  return [
    shown(arm.reached),
    shown(arm.reachedMinusRandom),
    `${hit(firstHit.best)}, ${hit(firstHit.lowerQuartile)}, ${hit(firstHit.median)}`,
    arm.pictures.toFixed(0),
    arm.learned === null ? '' : arm.learned.mean.toFixed(2),
    ...[arm.final, arm.largest, arm.smallest, arm.deviation, arm.variance].map((value) => value.toFixed(1)),
    arm.fineHits.toFixed(0),
    arm.coarseHits.toFixed(0),
  ];
}

function landscapeRow(one: MeanLandscape): string[] {
  return [
    one.world,
    one.reward,
    one.peaks.toFixed(1),
    percent(one.flat),
    percent(one.climbs),
    one.guidance.toFixed(2),
    percent(one.goalPaysMost),
    `${percent(one.optimumReaches)}, ${one.optimumSteps.toFixed(1)} steps`,
    percent(one.zeroSearch),
  ];
}

function statesOf(protocol: SearchProtocol, numbers: SearchTableNumbers, world: string): string {
  const found = numbers.arms.find((arm) => arm.world === world);
  return found === undefined ? protocol.worlds[world]! : String(found.cap);
}

const percent = (share: number) => `${(100 * share).toFixed(0)} %`;

function shown(value: Estimate | null): string {
  if (value === null) return '';
  const digits = Math.abs(value.mean) >= 10 ? 0 : 2;
  const number = (x: number) => x.toFixed(digits);
  return value.ci95 === null
    ? number(value.mean)
    : `${number(value.mean)} [${value.ci95.map(number).join(', ')}]`;
}

function rows(head: readonly string[], body: readonly (readonly string[])[]): string[] {
  if (body.length === 0) return [];
  return [
    `| ${head.join(' | ')} |`,
    `|${'---|'.repeat(head.length)}`,
    ...body.map((cells) => `| ${cells.join(' | ')} |`),
    '',
  ];
}
