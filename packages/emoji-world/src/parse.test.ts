import fc from 'fast-check';
import { expect, test } from 'vitest';
import { captionOf } from './caption.js';
import { parseCaption } from './parse.js';
import type { Plan } from './plan.js';
import { sampleScene, sceneKinds } from './sample.js';
import type { Relation } from './scene.js';
import { planOf } from './split.js';

const scenes = fc
  .record({
    seed: fc.integer(),
    index: fc.nat(),
    variant: fc.integer({ min: 1 }),
    kind: fc.constantFrom(...sceneKinds),
  })
  .map(({ seed, index, variant, kind }) => ({
    scene: sampleScene('train', seed, index, { kinds: { [kind]: 1 } }),
    variant,
  }));

test('parsing a canonical caption gives the plan back', () => {
  fc.assert(
    fc.property(scenes, ({ scene }) => {
      expect(parseCaption(captionOf(scene))).toEqual(planOf(scene));
    }),
    { numRuns: 1500 },
  );
});

const opposite: Record<Relation, Relation> = { left: 'right', right: 'left', above: 'below', below: 'above' };

/** The same two objects, named the other way round. */
function turned(plan: Plan): Plan {
  const subjects = [...plan.subjects].reverse();
  return plan.relation === undefined
    ? { ...plan, subjects }
    : { ...plan, subjects, relation: opposite[plan.relation] };
}

test('so does parsing a paraphrase, up to which of two objects is named first', () => {
  fc.assert(
    fc.property(scenes, ({ scene, variant }) => {
      const plan = planOf(scene);
      const caption = captionOf(scene, variant, { partial: false });
      expect([plan, turned(plan)]).toContainEqual(parseCaption(caption));
    }),
    { numRuns: 1500 },
  );
});

test('other words for a relation, and looser writing', () => {
  const expected = { subjects: [{ noun: 'cat' }, { noun: 'wine glass' }], count: 1, background: 'white' };
  expect(parseCaption('A photo of a cat on the left of a wine glass.')).toEqual({
    ...expected,
    relation: 'left',
  });
  expect(parseCaption('a cat  under the wine glass')).toEqual({ ...expected, relation: 'below' });
  expect(parseCaption('skis')).toEqual({ subjects: [{ noun: 'skis' }], count: 1, background: 'white' });
});

test.each([
  '',
  'a unicorn',
  'a cat above',
  'two cat',
  'a cat and a dog and a cow',
  'a cat and a cat',
  'five cats',
])('"%s" is no sentence of this world', (text) => {
  expect(parseCaption(text)).toBeUndefined();
});
