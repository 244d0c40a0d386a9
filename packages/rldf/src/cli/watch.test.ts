import { expect, test, vi } from 'vitest';
import { minimalRecipe } from '../methods/minimal-recipes.fixture.js';
import type { RunEvent } from '../train/train.js';
import type { Progress } from './progress.js';
import { unitOf, watch } from './watch.js';

const lines: string[] = [];
const progress = {
  print: (line: string) => void lines.push(line),
  update: (line: string) => void lines.push(line),
  clear: () => {},
} as unknown as Progress;

async function* events(): AsyncGenerator<RunEvent> {
  yield { kind: 'resumed', step: 2, skipped: [] };
  yield { kind: 'evaluating', done: 0, total: 4, what: 'base' };
  yield { kind: 'progress', phase: 'drawing', share: 0.5, interruptible: true, step: 2, steps: 11 };
  yield { kind: 'step', step: 3, steps: 11, row: { step: 3, 'reward/mean': 0.5, 'time/step': 1 } };
  yield { kind: 'interrupted', step: 3, steps: 11 };
}

test.each([
  ['ddpo', 'epoch'],
  ['ip-rldf', 'step'],
])('%s: a step of the run is called %s', async (method, unit) => {
  lines.length = 0;
  const found = await unitOf(minimalRecipe(method));
  expect(found).toBe(unit);
  const watching = watch(events(), progress, { name: 'mine', folder: 'runs/mine', unit: found, json: false });
  await expect(watching).rejects.toThrow(`interrupted behind ${unit} 3 of 11`);
  expect(lines[0]).toBe(`continuing behind ${unit} 2`);
  expect(lines[1]).toMatch(/^drawing base pictures 0\/4/);
  expect(lines[2]).toContain(`${unit} 3/11`);
  expect(lines[3]).toMatch(new RegExp(`^${unit}  3/11  reward 0.500`));
  const other = unit === 'step' ? 'epoch' : ' step ';
  expect(lines.join()).not.toContain(other);
  vi.restoreAllMocks();
});
