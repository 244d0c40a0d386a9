import { expect, test } from 'vitest';
import { captionOf } from './caption.js';
import { HashRandom } from './random.js';
import { sampleScene } from './sample.js';
import { type Scene, validateScene } from './scene.js';
import { siblingOf } from './sibling.js';
import { allowedIn, planOf } from './split.js';

const pair: Scene = {
  objects: [
    { noun: 'fox', colour: 'red', size: 32, x: 0, y: 16 },
    { noun: 'car', colour: 'blue', size: 32, x: 32, y: 16 },
  ],
  background: 'white',
  relation: 'left',
};

test('a sibling is a true scene of the same split whose caption differs in one thing', () => {
  const differences = new Set<string>();
  for (let i = 0; i < 400; i++) {
    const scene = sampleScene('train', 3, i);
    const sibling = siblingOf(scene, 'train', new HashRandom(3, i));
    if (sibling === undefined) continue;
    validateScene(sibling);
    expect(captionOf(sibling)).not.toBe(captionOf(scene));
    const [before, after] = [planOf(scene), planOf(sibling)];
    expect(allowedIn('train', after)).toBe(true);
    const fields = [...new Set([...Object.keys(before), ...Object.keys(after)])] as (keyof typeof before)[];
    const changed = fields.filter((field) => JSON.stringify(before[field]) !== JSON.stringify(after[field]));
    expect(changed).toHaveLength(1);
    differences.add(changed[0] as string);
  }
  expect([...differences].sort()).toEqual(['background', 'count', 'relation', 'subjects']);
});

test('two coloured nouns: order, relation, noun, colour and swapped colours all come', () => {
  const captions = new Set<string>();
  for (let i = 0; i < 300; i++) {
    const sibling = siblingOf(pair, 'train', new HashRandom(1, i));
    if (sibling !== undefined) captions.add(captionOf(sibling));
  }
  expect(captions).toContain('a blue car to the left of a red fox');
  expect(captions).toContain('a red fox to the right of a blue car');
  expect(captions).toContain('a blue fox to the left of a red car');
  expect([...captions].some((caption) => /^a red fox to the left of a blue (?!car)/.test(caption))).toBe(
    true,
  );
});

test('a scene with nothing to change but its noun changes that', () => {
  const single: Scene = { objects: [{ noun: 'cat', size: 48, x: 8, y: 8 }], background: 'white' };
  const sibling = siblingOf(single, 'train', new HashRandom(1)) as Scene;
  expect(sibling.objects).toHaveLength(1);
  expect(sibling.objects[0]?.noun).not.toBe('cat');
});
