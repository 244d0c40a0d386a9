import { appendFileSync } from 'node:fs';
import { chai, expect } from 'vitest';

// `npm run test:isa` names a file: each check that a number lies within a small bound leaves a line there. What counts as
// small is up to the script that reads it.
export interface ClosenessRecord {
  file: string;
  test: string;
  /** Which of the test's closeness checks it is. */
  check: number;
  line: number;
  found: number;
  bound: number;
}

const output = process.env.RLDF_TEST_CLOSENESS;
if (output) {
  const checks = new Map<string, number>();
  const record = (error: unknown, bound: unknown) => {
    if (typeof error !== 'number' || typeof bound !== 'number' || !(bound > 0)) return;
    const { testPath: file = '', currentTestName: test = '' } = expect.getState();
    const check = checks.get(test) ?? 0;
    checks.set(test, check + 1);
    const place = new Error().stack
      ?.split('\n')
      .find((line) => line.includes(file.slice(file.lastIndexOf('/'))));
    const line = Number(/:(\d+):\d+\)?$/.exec(place ?? '')?.[1] ?? 0);
    const row: ClosenessRecord = { file, test, check, line, found: Math.abs(error), bound };
    appendFileSync(output, `${JSON.stringify(row)}\n`);
  };
  chai.use(({ Assertion }, utils) => {
    const watch = (method: string, note: (found: number, ...given: number[]) => void) =>
      utils.overwriteMethod(
        Assertion.prototype,
        method,
        (original: (...given: number[]) => void) =>
          function (this: object, ...given: number[]) {
            if (!utils.flag(this as Chai.AssertionStatic, 'negate'))
              note(utils.flag(this as never, 'object'), ...given);
            original.apply(this, given);
          },
      );
    watch('toBeLessThan', record);
    watch('toBeLessThanOrEqual', record);
    watch('toBeCloseTo', (found, expected = 0, digits = 2) => record(found - expected, 10 ** -digits / 2));
  });
}
