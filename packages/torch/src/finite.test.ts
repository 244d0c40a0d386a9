import { expect, test } from 'vitest';
import { tensor, zeros } from './factories.js';
import { firstNonFinite } from './finite.js';
import { free, liveTensors } from './scope.js';

test('the first tensor with NaN or infinity is named, of any floating type; nothing stays behind', () => {
  const good = tensor([1, -2]);
  const bad = tensor([1, Number.NaN], { dtype: 'float16' });
  const worse = tensor([Number.NEGATIVE_INFINITY], { dtype: 'bfloat16' });
  const live = liveTensors();
  expect(firstNonFinite([])).toBeUndefined();
  expect(firstNonFinite([['good', good]])).toBeUndefined();
  expect(firstNonFinite([['good', good], ['bad', bad], ['worse', worse]])).toBe('bad'); // biome-ignore format: short
  expect(firstNonFinite(new Map([['worse', worse], ['bad', bad]]))).toBe('worse'); // biome-ignore format: short
  expect(liveTensors()).toBe(live);
  free([good, bad, worse]);
});

test('sums beyond the type, infinities of both signs, whole numbers and nothing at all are no mistake', () => {
  // 4,096 halves of 60,000 sum up to infinity in half precision, two float64 of 1.7e308 in any
  const large = tensor(Array(4096).fill(60_000), { dtype: 'float16' });
  const largest = tensor([1.7e308, 1.7e308], { dtype: 'float64' });
  const whole = tensor([1, 2], { dtype: 'int64' });
  const empty = zeros([0, 3]);
  const both = tensor([Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY]);
  const named = { large, largest, whole, empty };
  expect(firstNonFinite(Object.entries(named))).toBeUndefined();
  expect(firstNonFinite(Object.entries({ ...named, both }))).toBe('both');
  free([large, largest, whole, empty, both]);
});
