/** Two nouns and a relation: VISOR's metrics (Gokhale et al. 2022, arXiv 2212.10015) and IP-RLDF's own accuracy. */

import type { Relation, SetPrompt } from '@rldf/emoji-world';
import type { Detection } from '@rldf/models';
import { type Measure, meanOf } from './measures.js';
import { type JudgedPrompt, share, suite } from './suite.js';

export interface SpatialVerdict {
  /** At least one of each noun. */
  bothPresent: boolean;
  /** Exactly one of each noun, nothing else. */
  oneEach: boolean;
  /** The best detections' centres stand as the prompt says; null if one is missing. */
  relation: boolean | null;
}

/** @throws nothing: prompts of this suite have two nouns and a relation */
export function spatialVerdict({ scene }: SetPrompt, detections: readonly Detection[]): SpatialVerdict {
  const [first, second] = scene.objects.map(({ noun }) => detections.filter(({ label }) => label === noun));
  const [a, b] = [first?.[0], second?.[0]]; // best score first
  const bothPresent = a !== undefined && b !== undefined;
  return {
    bothPresent,
    oneEach: first?.length === 1 && second?.length === 1 && detections.length === 2,
    relation: bothPresent ? stands(scene.relation as Relation, a, b) : null,
  };
}

/** By the boxes' centres, strictly, without a margin, as in both papers. */
function stands(relation: Relation, a: Detection, b: Detection): boolean {
  const [ax, ay] = centre(a);
  const [bx, by] = centre(b);
  if (relation === 'left') return ax < bx;
  if (relation === 'right') return ax > bx;
  return relation === 'above' ? ay < by : ay > by;
}

const centre = ({ box: [x0, y0, x1, y1] }: Detection): [number, number] => [(x0 + x1) / 2, (y0 + y1) / 2];

const VISOR_MOST = 4;

/**
 * - `bothPresent`: VISOR's object accuracy (OA), P(both nouns found);
 * - `visorUncond`: P(both found and the relation right); `relationGivenBoth`: VISOR cond, the same among pictures with both;
 * - `visor1` .. `visor4`: share of prompts with at least so many right pictures (as many as were drawn, at most four);
 * - `ipRldfAccuracy`: P(exactly one of each, nothing else, and the relation right), with its parts by axis, `leftRight`
 *   and `aboveBelow`, and `numberRight`, P(exactly one of each).
 */
export function spatialMeasures(judged: readonly JudgedPrompt<SpatialVerdict>[]): Record<string, Measure> {
  const each = (of: (verdict: SpatialVerdict, relation: Relation) => boolean | null) =>
    meanOf(
      judged.map(({ prompt, verdicts }) =>
        verdicts.map((verdict) => {
          const holds = of(verdict, prompt.scene.relation as Relation);
          return holds === null ? null : share(holds);
        }),
      ),
    );
  const correct = (verdict: SpatialVerdict) => verdict.oneEach && verdict.relation === true;
  const pictures = Math.min(VISOR_MOST, ...judged.map(({ verdicts }) => verdicts.length));
  const atLeast = (most: number) =>
    meanOf(
      judged.map(({ verdicts }) => {
        const right = verdicts.slice(0, VISOR_MOST).filter(({ relation }) => relation === true).length;
        return [share(right >= most)];
      }),
    );
  return {
    bothPresent: each(({ bothPresent }) => bothPresent),
    relationGivenBoth: each(({ relation }) => relation),
    visorUncond: each(({ relation }) => relation === true),
    ...Object.fromEntries(Array.from({ length: pictures }, (_, i) => [`visor${i + 1}`, atLeast(i + 1)])),
    ipRldfAccuracy: each(correct),
    leftRight: each((verdict, relation) =>
      relation === 'left' || relation === 'right' ? correct(verdict) : null,
    ),
    aboveBelow: each((verdict, relation) =>
      relation === 'above' || relation === 'below' ? correct(verdict) : null,
    ),
    numberRight: each(({ oneEach }) => oneEach),
  };
}

interface Seen extends SpatialVerdict {
  detections: readonly Detection[];
}

export const spatial = suite<Seen>({
  description: 'two nouns in a relation, pairs that no training prompt holds',
  judges: ['detector'],
  sets: [{ set: 'ip-rldf-test', pictures: 4 }],
  look: async ({ images, prompts }, judges) =>
    (await judges.detect(images)).map((detections, i) => ({
      ...spatialVerdict(prompts[i]!, detections),
      detections,
    })),
  measure: spatialMeasures,
  words: (_, { bothPresent, oneEach, relation }) =>
    !bothPresent
      ? 'not both'
      : relation !== true
        ? 'relation wrong'
        : oneEach
          ? 'right'
          : 'right, but more than two',
  boxes: ({ detections }) => detections,
});
