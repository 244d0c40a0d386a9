import { nouns } from './nouns.js';
import { canBeSeen, type Plan, placePlan } from './plan.js';
import type { HashRandom } from './random.js';
import { backgrounds, colours, relations, type Scene } from './scene.js';
import { allowedIn, planOf, type Split } from './split.js';

/** What a sibling differs in. */
export const siblingKinds = ['order', 'relation', 'noun', 'count', 'colour', 'swap', 'background'] as const;
export type SiblingKind = (typeof siblingKinds)[number];

const ATTEMPTS = 30;

/**
 * A scene that differs from `scene` in one thing that its words tell: the order of its nouns, their relation, one noun,
 * the number, a colour, the colours of two nouns, the background. Placed anew, of the same split, so that pixels do not
 * give it away. Undefined where nothing can be changed.
 */
export function siblingOf(scene: Scene, split: Split, random: HashRandom): Scene | undefined {
  const plan = planOf(scene);
  const kinds = siblingKinds.filter((kind) => change(plan, kind, random) !== undefined);
  for (let attempt = 0; kinds.length > 0 && attempt < ATTEMPTS; attempt++) {
    const changed = change(plan, random.choice(kinds), random);
    if (changed !== undefined && allowedIn(split, changed) && canBeSeen(changed))
      return placePlan(changed, random);
  }
  return undefined;
}

function change(plan: Plan, kind: SiblingKind, random: HashRandom): Plan | undefined {
  const { subjects, relation, count, background } = plan;
  const [first, second] = subjects as readonly [
    Plan['subjects'][number],
    Plan['subjects'][number] | undefined,
  ];
  const other = <T>(all: readonly T[], ...not: readonly (T | undefined)[]) =>
    random.choice(all.filter((one) => !not.includes(one)));
  const replaced = (index: number, subject: Plan['subjects'][number]): Plan => ({
    ...plan,
    subjects: subjects.map((one, i) => (i === index ? subject : one)),
  });
  switch (kind) {
    case 'order':
      return second && relation ? { ...plan, subjects: [second, first] } : undefined;
    case 'relation':
      return second && relation ? { ...plan, relation: other(relations, relation) } : undefined;
    case 'noun': {
      const index = random.integer(subjects.length);
      const animal = plan.activity !== undefined;
      const pool = nouns.filter((one) => (animal ? one.kind === 'animal' : one.kind !== 'person'));
      const names = pool.map(({ name }) => name);
      return replaced(index, { ...subjects[index], noun: other(names, first.noun, second?.noun) });
    }
    case 'count':
      return count > 1 ? { ...plan, count: other([2, 3, 4], count) } : undefined;
    case 'colour': {
      const index = random.integer(subjects.length);
      const colour = subjects[index]?.colour;
      return colour
        ? replaced(index, { ...(subjects[index] as typeof first), colour: other(colours, colour) })
        : undefined;
    }
    case 'swap':
      return second?.colour && first.colour && second.colour !== first.colour
        ? {
            ...plan,
            subjects: [
              { ...first, colour: second.colour },
              { ...second, colour: first.colour },
            ],
          }
        : undefined;
    case 'background':
      return background === 'white'
        ? undefined
        : { ...plan, background: other(backgrounds, 'white', background) };
  }
}
