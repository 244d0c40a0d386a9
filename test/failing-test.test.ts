import { liveTensors, ones, scope } from '@rldf/torch';
import { expect, test } from 'vitest';

const shared = ones([1]);
const before = liveTensors();

test.fails('a test that fails in the middle', () => {
  const tensor = ones([2]);
  const sum = scope(() => tensor.add(1));
  expect(sum.toNumbers()).toEqual([3, 3]);
  sum.free();
  tensor.free();
});

test('has its tensors freed, so that the next test counts its own only', () => {
  expect(liveTensors()).toBe(before);
  expect(shared.toNumbers()).toEqual([1]);
});
