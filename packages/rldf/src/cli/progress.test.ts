import { expect, test } from 'vitest';
import { duration } from '../base/duration.js';
import { bar, Estimate, Progress } from './progress.js';

function recorder(isTTY: boolean) {
  const written: string[] = [];
  return {
    written,
    isTTY,
    columns: 40,
    write: (text: string | Uint8Array) => written.push(String(text)) > 0,
  };
}

test('on a terminal one line is written over, and cut to its width', () => {
  const output = recorder(true);
  const progress = new Progress(output);
  progress.update('one');
  progress.update('one');
  progress.update('x'.repeat(100));
  progress.print('stays');
  expect(output.written).toEqual([
    '\r\u001b[2Kone',
    `\r\u001b[2K${'x'.repeat(39)}`,
    '\r\u001b[2K',
    'stays\n',
  ]);
});

test('elsewhere lines are plain and not too many', () => {
  const output = recorder(false);
  let now = 0;
  const progress = new Progress(output, () => now);
  for (now = 0; now < 25_000; now += 1000) progress.update(`at ${now}`);
  expect(output.written).toEqual(['at 0\n', 'at 10000\n', 'at 20000\n']);
});

test('the remaining time follows the pace since the start, also of a resumed run', () => {
  let now = 0;
  const estimate = new Estimate(() => now);
  expect(estimate.left(0.5)).toBe('');
  now = 60_000;
  expect(estimate.left(0.75)).toBe('about 60 s left');
});

test('durations and bars', () => {
  expect([duration(4.4), duration(89), duration(100), duration(7500)]).toEqual([
    '4 s',
    '89 s',
    '2 min',
    '2 h 5 min',
  ]);
  expect(bar(0.5, 4)).toBe('[##..]');
  expect(bar(2, 4)).toBe('[####]');
});
