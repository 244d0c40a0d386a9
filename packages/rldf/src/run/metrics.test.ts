import { appendFileSync, mkdtempSync, readFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { comparableRow, MetricsWriter, readMetrics, truncateMetrics } from './metrics.js';

const newFile = () => join(mkdtempSync(join(tmpdir(), 'rldf-metrics-')), 'metrics.jsonl');

test('rows are on disk as soon as they are written, and are appended to', () => {
  const path = newFile();
  const writer = new MetricsWriter(path);
  writer.write({ step: 1, 'reward/mean': 0.1 });
  expect(readMetrics(path)).toEqual([{ step: 1, 'reward/mean': 0.1 }]);
  writer.close();
  const again = new MetricsWriter(path);
  again.write({ step: 2, 'reward/mean': Number.NaN });
  again.close();
  expect(readMetrics(path)).toEqual([
    { step: 1, 'reward/mean': 0.1 },
    { step: 2, 'reward/mean': 'NaN' },
  ]);
});

test('a torn last line is passed over and cut off on resume; kept lines keep their bytes', () => {
  const path = newFile();
  const lines = ['{"step":1,"a":1.0}', '{"step":2, "a":2}', '{"step":2,"b":2}', '{"step":3,"a":3}'];
  appendFileSync(path, `${lines.join('\n')}\n{"step":4,"a":4`);
  expect(readMetrics(path).map(({ step }) => step)).toEqual([1, 2, 2, 3]);
  truncateMetrics(path, 2);
  expect(readFileSync(path, 'utf8')).toBe(`${lines.slice(0, 3).join('\n')}\n`);
  truncateMetrics(path, 0);
  expect(readFileSync(path, 'utf8')).toBe('');
});

test('truncating a file that is not there does nothing', () => {
  expect(() => truncateMetrics(newFile(), 3)).not.toThrow();
});

test('time and memory do not count when runs are compared', () => {
  expect(comparableRow({ step: 1, 'time/seconds': 2, 'memory/tensors': 3, 'reward/time': 4 })).toEqual({
    step: 1,
    'reward/time': 4,
  });
});
