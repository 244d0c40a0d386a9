import { afterEach, beforeEach } from 'vitest';

// Tensors that nothing refers to are freed whenever the garbage collector runs. In the middle of a test that counts live
// tensors that would be luck; so nothing is collected here unless a test asks for it (`vitest.config.ts`). What would have
// been collected is remembered instead: a test that fails does not get to free what it made, so it is freed here.
interface Freeable {
  free(): void;
}
const made = new Set<Freeable>();
const isTensor = (value: WeakKey): value is Freeable =>
  typeof value === 'object' && 'handle' in value && 'free' in value;

const { register } = FinalizationRegistry.prototype;
FinalizationRegistry.prototype.register = function (this: FinalizationRegistry<unknown>, ...given) {
  if (process.env.RLDF_TEST_COLLECTION === 'on') register.apply(this, given);
  else if (isTensor(given[0])) made.add(given[0]);
};

beforeEach(() => made.clear()); // what the file made for all its tests stays
afterEach(({ task }) => {
  if (task.result?.state === 'fail') for (const tensor of made) tensor.free();
});
