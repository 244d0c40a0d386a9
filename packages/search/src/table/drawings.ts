/** Figure 6 of the paper, as means over all searches: distance from the goal by steps; and who has reached it when. */

import { mean } from '@rldf/common/base/stats';
import { type CurvePoint, curveSvg } from '@rldf/common/drawing/curve';
import { groupKey, groupRows, reachedBy } from './numbers.js';
import type { SearchProtocol } from './protocol.js';
import { armName, type TableRow, tracePoints } from './runs.js';
import { worldNames } from './worlds.js';

/** By file name. */
export async function tracesSvg(
  protocol: SearchProtocol,
  rows: readonly TableRow[],
): Promise<Record<string, string>> {
  const groups = groupRows(rows);
  const { primary, settings } = protocol;
  const printed = Object.keys(settings)[0]!;
  const drawings: Record<string, string> = {};
  for (const world of worldNames(protocol)) {
    const cap = rows.find((row) => row.world === world)?.cap;
    if (cap === undefined) continue;
    const figure6 = protocol.rewards.includes('partial') ? 'partial' : primary.reward;
    const steps = Array.from({ length: tracePoints / 6 + 1 }, (_, i) => 6 * i);
    const shown = (arm: string) => [...(groups.get(groupKey(arm, world))?.values() ?? [])].flat();
    const line = (series: string, arm: string, value: (rows: TableRow[], point: number) => number) => {
      const found = shown(arm);
      return found.length === 0
        ? []
        : steps.map(
            (point): CurvePoint => ({
              step: Math.round((point * cap) / tracePoints),
              value: value(found, point),
              series,
            }),
          );
    };
    const distance = (found: TableRow[], point: number) => mean(found.map(({ trace }) => trace[point]!));
    const share = (found: TableRow[], point: number) => reachedBy(found, (point * cap) / tracePoints);
    const learner = (agent: 'q' | 'sarsa', setting: string, reward = primary.reward) =>
      armName({ agent, ...primary, setting, reward });
    drawings[`distance-${world}.svg`] = await curveSvg(
      [
        ...[printed, primary.setting].flatMap((setting) =>
          (['q', 'sarsa'] as const).flatMap((agent) =>
            line(`${agent}, ${setting}`, learner(agent, setting, figure6), distance),
          ),
        ),
        ...line('random', 'random', distance),
      ],
      {
        title: `${world}: distance from the goal, ${figure6} reward, ε ${primary.epsilon}`,
        xTitle: 'steps',
        yTitle: 'steps to the goal, mean',
      },
    );
    drawings[`reached-${world}.svg`] = await curveSvg(
      [
        ...Object.keys(settings).flatMap((setting) => line(`q, ${setting}`, learner('q', setting), share)),
        ...line(`sarsa, ${primary.setting}`, learner('sarsa', primary.setting), share),
        ...line('random', 'random', share),
        ...line('enumeration', 'enumeration', share),
      ],
      {
        title: `${world}: share of searches that reached the goal, ${primary.reward} reward, ε ${primary.epsilon}`,
        xTitle: 'steps',
        yTitle: 'share',
      },
    );
  }
  return drawings;
}
