import { expect, test } from 'vitest';
import { pairWords } from './doctor.js';

test('a pair of Node and PyTorch is told as tested only if both are', () => {
  const tested = { testedNode: [20, 22], testedTorch: ['2.13.0', '2.15.0'] };
  expect(pairWords('22.3.1', '2.13.0', tested)).toBe('Node 22.3.1 with PyTorch 2.13.0: tested');
  expect(pairWords('20.19.0', '2.13.0+cu129', tested)).toMatch(/: tested$/);
  expect(pairWords('20.19.0', '2.15.0', tested)).toMatch(/: tested$/);
  for (const [node, torch] of [
    ['21.0.0', '2.13.0'],
    ['2.0.0', '2.13.0'],
    ['20.19.0', '2.14.0'],
    ['22.3.1', '2.15.0'], // each alone
  ] as const) {
    expect(pairWords(node, torch, tested)).toContain(
      `Node ${node} with PyTorch ${torch}: NOT TESTED; tested are Node 20, 22 with PyTorch 2.13.0, and PyTorch 2.13.0, 2.15.0 with Node 20`,
    );
  }
});
