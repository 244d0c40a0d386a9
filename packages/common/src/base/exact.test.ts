import { expect, test } from 'vitest';
import { parse, stringify } from 'yaml';
import { jsonText, parseYaml } from './exact.js';

const seed = 6687881544318117707n;

test('JSON keeps every digit, and everything else as it is', () => {
  const value = { seed, small: 7, text: `${seed}`, list: [1.5, null, -seed] };
  expect(jsonText(value)).toBe(
    '{"seed":6687881544318117707,"small":7,"text":"6687881544318117707","list":[1.5,null,-6687881544318117707]}',
  );
  expect(jsonText({ seed }, 1)).toBe('{\n "seed": 6687881544318117707\n}');
});

test('YAML keeps every digit, there and back, and small numbers stay numbers', () => {
  const text = `seed: ${seed}\nedge: 9007199254740991\nover: 9007199254740992\nlist: [1, { a: 2.5, b: -3, c: text }]\n`;
  const value = {
    seed,
    edge: 9007199254740991,
    over: 9007199254740992n,
    list: [1, { a: 2.5, b: -3, c: 'text' }],
  };
  expect(parseYaml(text)).toEqual(value);
  expect(parseYaml(stringify(value))).toEqual(value);
  expect(parse('seed: 6687881544318117707').seed).not.toBe(seed); // what it is for
});
