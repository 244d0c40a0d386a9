import { expect, test } from 'vitest';
import { parityCases, rows } from './cases.js';

test.each(parityCases().map((parityCase) => [parityCase.name, parityCase] as const))(
  '%s agrees with the reference implementation',
  async (_, parityCase) => {
    const failed = (await rows(parityCase)).filter(({ passes }) => !passes);
    expect(failed).toEqual([]);
  },
);
