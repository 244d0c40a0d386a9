// What the fuzz campaign found in recipes (npm run campaign -- fuzz --kind recipes), each as its smallest case.
import { expect, test } from 'vitest';
import { parseRecipe, RecipeError } from './load.js';

const good = 'method: ddpo\nprompts: [a cat]\nreward: jpeg-compressibility\ntrain: { clipNats: 1 }\n';

test.each([
  ['method: { toString: 1 }\n', 'unknown method {"toString":1}'],
  [
    `${good}sample: { promptsPerEpoch: 1000000, picturesPerPrompt: 1000000 }\n`,
    'at most 1000000 fit into an epoch',
  ],
  [`${good}sample: { promptsPerEpoch: 1.0e+9 }\n`, 'must be at most 1000000, got 1000000000'],
  [`${good}evaluate: { picturesPerPrompt: 1.0e+6 }\n`, 'must be at most 1000, got 1000000'],
  [`${good}device: { toString: 1 }\n`, 'expected text, got {"toString":1}'],
  [`${good}version: { toString: 1 }\n`, 'version'],
  ['a: &a [*a]\n', ''],
  [`a: ${'['.repeat(20_000)}`, 'not valid YAML'],
  [`${good}seed: [${'1,'.repeat(500_000)}1]\n`, 'at most 200000. Put long lists of prompts into a file'],
  [`${good}name: *missing\n`, 'Unresolved alias'],
])('case %# is explained', (text, message) => {
  let found: unknown;
  try {
    parseRecipe(text, 'r.yaml');
  } catch (error) {
    found = error;
  }
  expect(found).toBeInstanceOf(RecipeError);
  expect((found as Error).message).toContain(message);
});
