import { tokenizerFolder } from '@rldf/common/instruments/models';
import type { Scene } from '@rldf/emoji-world';
import { CLIPTokenizer } from '@rldf/models';
import { scope, setThreads, tensor } from '@rldf/torch';
import { expect, test } from 'vitest';
import { LayoutHead, layoutOf, layoutTable } from './layout.js';

setThreads(1);

const tokenizer = CLIPTokenizer.load(tokenizerFolder);
const pair: Scene = {
  objects: [
    { noun: 'cat', size: 32, x: 0, y: 16 },
    { noun: 'dog', size: 32, x: 32, y: 16 },
  ],
  background: 'white',
  relation: 'left',
};
const read = (scene: Scene, caption: string) => {
  const ids = tokenizer.encode([caption]).ids[0] as number[];
  const layout = layoutOf(scene, ids, tokenizer);
  if (layout === undefined) return undefined;
  const [noun] = tokenizer.encode(['dog']).ids as [number[]];
  return { ...layout, isDog: ids[layout.token] === noun[1] };
};

test('the last noun says where it stands, in whichever order the caption tells it', () => {
  const right = read(pair, 'a cat to the left of a dog');
  expect(right).toMatchObject({ target: [1, 0, 0], isDog: true }); // the dog is to the right
  const left = read(pair, 'a dog to the right of a cat');
  expect(left).toMatchObject({ target: [-1, 0, 0], isDog: false });
  expect(left?.token).toBeGreaterThan(4);
  const above = read({ ...pair, relation: 'above' }, 'a photo of a cat above a dog');
  expect(above).toMatchObject({ target: [0, 1, 0], isDog: true });
});

test('numbers are told at the plural; a caption without either tells nothing', () => {
  const dogs: Scene = { objects: Array(4).fill({ noun: 'dog', size: 32, x: 0, y: 0 }), background: 'white' };
  expect(read(dogs, 'four dogs')?.target).toEqual([0, 0, 1]);
  const { relation: _, ...loose } = pair;
  expect(read(loose, 'a cat and a dog')).toBeUndefined();
  expect(read({ ...pair, objects: pair.objects.slice(0, 1) }, 'a cat')).toBeUndefined();
});

test('the loss is the mean square over what was told and heard', () => {
  scope(() => {
    const head = new LayoutHead(2, 1);
    for (const parameter of head.parameters.entries.values()) parameter.detach().zero_(); // says 0 to everything
    const table = layoutTable([{ token: 1, target: [1, 0, 0] }, undefined, { token: 0, target: [0, -1, 1] }]);
    const states = tensor(
      Array.from({ length: 12 }, (_, i) => i),
      { shape: [3, 2, 2], dtype: 'float32' },
    );
    const rows = tensor([0, 1, 2], { dtype: 'int64' });
    const loss = (heard: number[]) => head.loss(states, table, rows, tensor(heard, { shape: [3, 1] })).item();
    expect(loss([1, 1, 1])).toBeCloseTo((1 + 2) / 6, 5);
    expect(loss([1, 1, 0])).toBeCloseTo(1 / 3, 5);
    expect(loss([0, 0, 0])).toBe(0);
  });
});
