import { expect, test } from 'vitest';
import { address, parseRoute, type Route } from './route.js';

test('addresses are read back', () => {
  const routes: Exclude<Route, { view: 'unknown' }>[] = [
    { view: 'runs' },
    { view: 'run', id: 'quickstart', tab: 'curves' },
    { view: 'run', id: 'base~ddpo seed 1%', tab: 'time' },
    { view: 'compare', runs: ['a', 'b c'] },
    { view: 'searches' },
    { view: 'search', id: 's~1' },
    { view: 'tables' },
    { view: 'table', id: 't' },
    { view: 'rate', run: 'a & b', kind: 'validation' },
    { view: 'rate', run: null, kind: 'rollout' },
  ];
  for (const route of routes) expect(parseRoute(address(route))).toEqual(route);
});

test('what is not known', () => {
  expect(parseRoute('')).toEqual({ view: 'runs' });
  expect(parseRoute('#/nowhere/x')).toEqual({ view: 'unknown', path: 'nowhere/x' });
  expect(parseRoute('#/run')).toEqual({ view: 'unknown', path: 'run' });
  expect(parseRoute('#/run/a/nothing')).toEqual({ view: 'run', id: 'a', tab: 'curves' });
  expect(parseRoute('#/run/%E0%A4%A')).toEqual({ view: 'run', id: '%E0%A4%A', tab: 'curves' });
});
