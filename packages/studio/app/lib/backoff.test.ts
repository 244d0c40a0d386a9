import { expect, test } from 'vitest';
import { backoff } from './backoff.js';

test('doubles up to five seconds', () => {
  expect([0, 1, 2, 4, 5, 1000].map(backoff)).toEqual([250, 500, 1000, 4000, 5000, 5000]);
});
