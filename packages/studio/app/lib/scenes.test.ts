import { expect, test } from 'vitest';
import { parseScenes, writeScenes } from './scenes.js';

test('a line a picture, with a seed or seed 0', () => {
  expect(parseScenes(' a cat #7\n\na dog\n#3\nc# is a language #1')).toEqual({
    scenes: [
      { prompt: 'a cat', seed: 7 },
      { prompt: 'a dog', seed: 0 },
      { prompt: '', seed: 3 },
      { prompt: 'c# is a language', seed: 1 },
    ],
    problem: null,
  });
  expect(parseScenes('').scenes).toEqual([]);
});

test('what is wrong is said, the rest is drawn', () => {
  expect(parseScenes('a cat #x\na dog')).toEqual({
    scenes: [{ prompt: 'a dog', seed: 0 }],
    problem: '“#x” is no seed: a whole number from 0 on, such as #7',
  });
  expect(parseScenes('a cat #9007199254740993').problem).toContain('is no seed');
  const many = parseScenes(Array.from({ length: 20 }, (_, i) => `p #${i}`).join('\n'));
  expect([many.scenes.length, many.problem]).toEqual([16, '20 lines; the first 16 are drawn']);
});

test('written and read back', () => {
  const scenes = [{ prompt: 'a cat', seed: 2 ** 53 - 1 }];
  expect(parseScenes(writeScenes(scenes)).scenes).toEqual(scenes);
});
