import { expect, test } from 'vitest';
import { inTurn, lanes } from './remote.js';

/** A promise, and what settles it. */
function later<T>() {
  let settle = (_: T) => {};
  let fail = (_: Error) => {};
  const promise = new Promise<T>((resolve, reject) => {
    settle = resolve;
    fail = reject;
  });
  return { promise, settle, fail };
}

test('what was begun comes in its order, also where the last is ready first and one fails', async () => {
  const turn = inTurn();
  const works = [later<string>(), later<string>(), later<string>(), later<string>()] as const;
  const came: string[] = [];
  const all = works.map(({ promise }) =>
    turn(promise).then(
      (value) => came.push(value),
      (error: Error) => came.push(error.message),
    ),
  );
  works[3].settle('fourth');
  works[2].fail(new Error('no third'));
  await all[2]; // a failure waits for nobody
  works[1].settle('second');
  await new Promise((resolve) => setImmediate(resolve));
  expect(came).toEqual(['no third']);
  works[0].settle('first');
  await Promise.all(all);
  expect(came).toEqual(['no third', 'first', 'second', 'fourth']);
});

test('so many at once, the others in their order', async () => {
  const lane = lanes(2);
  const works = [later<void>(), later<void>(), later<void>(), later<void>()] as const;
  const begun: number[] = [];
  const all = works.map(({ promise }, i) =>
    lane(() => {
      begun.push(i);
      return promise;
    }),
  );
  expect(begun).toEqual([0, 1]);
  works[1].fail(new Error('a failure frees its lane'));
  await expect(all[1]).rejects.toThrow('frees');
  expect(begun).toEqual([0, 1, 2]);
  for (const { settle } of works) settle();
  await Promise.all([all[0], all[2], all[3]]);
  expect(begun).toEqual([0, 1, 2, 3]);
});
