import { spawnSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { expect, test } from 'vitest';
import { UserError } from '../errors.js';
import { eye } from '../factories.js';
import { aten, refusedOperators } from '../ops.js';
import { Tensor } from '../tensor.js';

const child = fileURLToPath(new URL('./child.ts', import.meta.url));

test('10,000 random calls never end the process, nor leak', () => {
  const seed = 20260101;
  const { status, signal, stdout, stderr } = spawnSync(
    process.execPath,
    ['--conditions=rldf-source', '--import', 'tsx', child, String(seed), '10000'],
    { encoding: 'utf8', maxBuffer: 1 << 26 },
  );
  expect({ status, signal, stderr: status === 0 ? '' : stderr.slice(-2000) }).toEqual({
    status: 0,
    signal: null,
    stderr: '',
  });
  const tally = JSON.parse(stdout.trim().split('\n').at(-1) as string);
  expect(tally.done).toBe(10_000);
  expect(tally.after).toEqual(tally.before);
  expect(tally.strange).toEqual([]); // whatever is thrown is an Error with a message
  // the calls are not all nonsense: many reach a kernel, over most of the targets
  expect(tally.succeeded).toBeGreaterThan(2000);
  expect(tally.refused).toBeGreaterThan(2000);
  expect(tally.names.length).toBeGreaterThan(0.6 * tally.targets);
});

test('operators that end the process are refused with the evidence', () => {
  for (const [full, evidence] of Object.entries(refusedOperators)) {
    expect(evidence.length).toBeGreaterThan(10);
    const [name, overload] = full.split('.');
    expect(() => aten(name as string, overload)).toThrow(UserError);
  }
  const power = aten('linalg_matrix_power');
  expect(power(eye(2), -1)).toBeInstanceOf(Tensor);
  expect(() => power(eye(2), -(2n ** 63n))).toThrow(/would never end/);
  expect(() => aten('resize_')).toThrow(/changes a tensor's layout in place/);
});
