import { mkdtempSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Detection } from '@rldf/models';
import { noiseKey, Random } from '@rldf/torch';
import { beforeAll, expect, test } from 'vitest';
import { readRewardFile } from '../recipe/reward-paths.js';
import { cocoLabels } from '../rewards/detectors/coco.js';
import type { HttpRewardRequest } from '../rewards/remote/http.js';
import { serve } from '../rewards/remote/server.fixture.js';
import { saveTinyModel } from '../train/tiny-run.fixture.js';
import { evaluate } from './evaluate.js';
import { genevalMeasures } from './geneval.js';
import type { LoadedJudges } from './judges.js';
import { metricOf } from './measures.js';
import type { EvalPrompt } from './suite.js';

const folder = mkdtempSync(join(tmpdir(), 'rldf-eval-'));
let model: string;
beforeAll(() => {
  model = saveTinyModel(join(folder, 'model'));
});

const tasks = [
  { tag: 'single_object', include: [{ class: 'dog', count: 1 }], prompt: 'a photo of a dog' },
  { tag: 'single_object', include: [{ class: 'cat', count: 1 }], prompt: 'a photo of a cat' },
  {
    tag: 'two_object',
    include: [
      { class: 'cat', count: 1 },
      { class: 'dog', count: 1 },
    ],
    prompt: 'a cat and a dog',
  },
  { tag: 'two_object', include: [{ class: 'unicorn', count: 1 }], prompt: 'a photo of a unicorn' },
];

/** Sees a dog in every picture. */
const judges = (): LoadedJudges => {
  const found: Detection[] = [{ label: 'dog', score: 0.9, box: [0, 0, 4, 4] }];
  const detect = async (images: { shape: readonly number[] }) =>
    Array.from({ length: images.shape[0]! }, () => found);
  const detector = { labels: cocoLabels, detect };
  return { judges: { detector, detect } as never, by: { detector: 'always dogs' }, missing: {} };
};

test('geneval: each task counts alike, however many prompts it has', () => {
  const prompt = (i: number) =>
    ({
      prompt: tasks[i]!.prompt,
      meta: tasks[i],
      group: '',
      scene: { objects: [] },
    }) as unknown as EvalPrompt;
  const right = { correct: true, share: 1 };
  const wrong = { correct: false, share: 0.5 };
  const measures = genevalMeasures([
    { prompt: prompt(0), verdicts: [right, right] },
    { prompt: prompt(1), verdicts: [right, wrong] },
    { prompt: prompt(2), verdicts: [wrong, wrong] },
  ]);
  const value = (name: string) => metricOf(measures[name]!, new Random(noiseKey(0, 'x'))).value;
  expect(value('genevalSingleObject')).toBe(0.75);
  expect(value('genevalTwoObject')).toBe(0);
  expect(value('geneval')).toBeCloseTo(0.375, 12);
  expect(value('genevalShare')).toBeCloseTo(4.5 / 6, 12);
});

test('geneval: a prompt file, any detector; prompts that it cannot judge are left out and told', async () => {
  const prompts = join(folder, 'evaluation_metadata.jsonl');
  writeFileSync(prompts, tasks.map((task) => `${JSON.stringify(task)}\n`).join(''));
  const notices: string[] = [];
  const options = {
    arms: [{ model }] as const,
    suites: ['geneval'],
    pictures: 1,
    steps: 2,
    prompts,
    judges: judges(),
  };
  const { suites } = await evaluate({
    ...options,
    detector: 'human',
    onNotice: (line) => notices.push(line),
  });
  const metrics = suites.geneval!.metrics;
  expect(metrics.genevalSingleObject?.value).toBe(0.5);
  expect(metrics.genevalTwoObject?.value).toBe(0);
  expect(metrics.geneval?.value).toBe(0.25);
  expect(suites.geneval!.sets[0]).toMatchObject({
    prompts: 3,
    set: 'evaluation_metadata.jsonl, as far as the detector knows',
  });
  expect(notices).toContain(
    'geneval: 3 of 4 prompts name only what the detector knows; the others are left out',
  );
  const { prompts: _, ...without } = options;
  await expect(evaluate(without)).rejects.toThrow(
    /suite geneval: no prompt file is given .* Name it by --prompts/,
  );
});

test('spatial with another detector asks only of what that knows', async () => {
  const options = { arms: [{ model }] as const, pictures: 1, steps: 2, maxPrompts: 2, judges: judges() };
  const { suites } = await evaluate({ ...options, suites: ['spatial'], detector: 'human' });
  expect(suites.spatial!.sets[0]!.prompts).toBe(2);
  expect(suites.spatial!.judges).toEqual(['always dogs']);
  await expect(evaluate({ ...options, suites: ['spatial'], detector: 'human-faces' })).rejects.toThrow(
    /suite spatial: none of its 400 prompts names only what the detector knows \(face, \.\.\.\)/,
  );
});

test('reward: any reward judges, also one behind a server, from a file', async () => {
  const { address } = await serve<HttpRewardRequest>(({ body, method }) =>
    method === 'GET' ? {} : { scores: body.pictures.map(({ prompt }) => prompt.length) },
  );
  const file = join(folder, 'mine.yaml');
  writeFileSync(file, `http: ${address}\nas: length\n`);
  const prompts = join(folder, 'prompts.txt');
  writeFileSync(prompts, 'a cat\na dog!\n');
  const options = { arms: [{ model }] as const, suites: ['reward'], pictures: 2, steps: 2, prompts };
  const { suites } = await evaluate({ ...options, reward: readRewardFile(file) });
  expect(suites.reward!.metrics.reward).toMatchObject({ value: 5.5, n: 4 });
  expect(suites.reward!.judges).toEqual(['length']);
  await expect(evaluate(options)).rejects.toThrow(/suite reward: no reward is given .*--reward/);
  writeFileSync(file, 'htp: x\n');
  expect(() => readRewardFile(file)).toThrow(/reward .*mine\.yaml: /);
});
