import { mkdtempSync, readFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { savePipeline, tinyPipeline } from '@rldf/models';
import { noiseKey, Random, setThreads } from '@rldf/torch';
import { beforeAll, expect, test } from 'vitest';
import { type SingleReward, singleRewardSchema } from '../config/fields.js';
import { type ChatBody, limits, pngsOf, said, serve } from '../rewards/remote/server.fixture.js';
import { type EvaluateOptions, evaluate } from './evaluate.js';
import { metricOf } from './measures.js';
import { pairsOverSeeds } from './over-seeds.js';
import { writeEvaluation } from './page.js';
import { pairMeasures, pairVerdict, remarkOnJudge } from './pairs.js';

setThreads(1);
const folder = mkdtempSync(join(tmpdir(), 'rldf-pairs-test-'));
const models = ['one', 'two'].map((name) => join(folder, name)) as [string, string];

beforeAll(() => {
  for (const [i, model] of models.entries()) {
    const pipeline = tinyPipeline(i + 1);
    savePipeline(pipeline, model);
    for (const parameters of Object.values(pipeline.parameters)) parameters.free();
  }
});

const judge = (endpoint: string, more: Partial<SingleReward & object> = {}) =>
  singleRewardSchema.parse({
    vision: 'preference',
    endpoint,
    model: 'tiny',
    cache: mkdtempSync(join(folder, 'cache-')),
    retries: 0,
    ...more,
  });
const optionsOf = (reward: SingleReward, more: Partial<EvaluateOptions> = {}): EvaluateOptions => ({
  suites: ['pairs'],
  arms: [{ model: models[0] }, { model: models[1] }],
  maxPrompts: 3,
  pictures: 2,
  steps: 1,
  reward,
  ...more,
});
/** Prefers whichever picture has the greater bytes, wherever it stands. */
const consistent = ({ body }: { body: ChatBody | undefined }) => {
  if (body === undefined) return {}; // asked whether it is there
  const [a, b] = pngsOf(body) as [string, string];
  return said(a > b ? 'A' : 'B');
};

test('a pair is won only in both orders; equal pictures are a tie that nobody is asked about', () => {
  const verdict = (shownFirst: number, shownSecond: number) =>
    pairVerdict({ shownFirst, shownSecond }).better;
  expect([verdict(0.9, 0.6), verdict(0.4, 0.1), verdict(1, 0), verdict(0, 1), verdict(0.5, 0.9)]).toEqual([
    'first',
    'second',
    'neither',
    'neither',
    'neither',
  ]);
  expect(pairVerdict(undefined)).toEqual({ better: 'neither' });
});

test('measures by hand: win rate with ties counted half, and the liking for a place', () => {
  const of = (shownFirst: number, shownSecond: number) => pairVerdict({ shownFirst, shownSecond });
  const measures = pairMeasures([
    { prompt: { prompt: 'a', group: '', scene: {} as never }, verdicts: [of(0.9, 0.7), of(0.8, 0.4)] },
    { prompt: { prompt: 'b', group: '', scene: {} as never }, verdicts: [pairVerdict(undefined), null] },
    { prompt: { prompt: 'c', group: '', scene: {} as never }, verdicts: [of(0.3, 0.1), of(1, 1)] },
  ]);
  const metric = (name: string) => metricOf(measures[name]!, new Random(noiseKey(0, 'x')));
  expect(metric('pairWinRate')).toMatchObject({ value: (1 + 0.5 + 0.5 + 0 + 1) / 5, n: 5, prompts: 3 });
  expect(['pairWins', 'pairTies', 'pairLosses'].map((name) => metric(name).value)).toEqual([0.4, 0.4, 0.2]);
  expect(metric('pairPreference').value).toBeCloseTo((0.8 + 0.6 + 0.5 + 0.2 + 1) / 5, 12);
  // the places chosen first: 0.9 and 0.3; 0.8 and 0.6; 0.3 and 0.9; 1 and 0
  expect(metric('pairFirstPlace').value).toBeCloseTo((0.6 + 0.7 + 0.6 + 0.5) / 4, 12);
});

test('the better of two models by a judge; equal ones are a tie; a repeated command asks nothing', async () => {
  const { address, asked } = await serve<ChatBody>(consistent);
  const reward = judge(address);
  const notices: string[] = [];
  const evaluation = await evaluate(optionsOf(reward, { onNotice: (line) => notices.push(line) }));
  expect(asked.length).toBe(12); // 3 prompts, 2 pictures, both orders
  expect(notices).toContainEqual(
    expect.stringMatching(/^preference: at most 12 calls of tiny at 127.* for 6 pairs in both orders$/),
  );
  const { metrics, against, judges } = evaluation.suites.pairs!;
  expect(against).toBeUndefined();
  expect(judges).toEqual(['preference of tiny']);
  expect(metrics.pairTies!.value).toBe(0);
  expect(metrics.pairFirstPlace!.value).toBe(0.5);
  expect(metrics.pairWins!.value! + metrics.pairLosses!.value!).toBe(1);
  expect(remarkOnJudge(metrics)).toBeUndefined();

  // with the models exchanged, wins are losses; and all of it is known
  const arms = [{ model: models[1] }, { model: models[0] }] as const;
  const turned = await evaluate(optionsOf(reward, { arms, batchSize: 1 }));
  expect(asked.length).toBe(12);
  expect(turned.suites.pairs!.metrics.pairWins!.value).toBe(metrics.pairLosses!.value);
  const same = await evaluate(optionsOf(reward, { arms: [{ model: models[0] }, { model: models[0] }] }));
  expect(asked.length).toBe(12);
  expect(same.suites.pairs!.metrics.pairTies!.value).toBe(1);
  expect(remarkOnJudge(same.suites.pairs!.metrics)).toMatch(/drew equal pictures: nobody was asked/);

  const output = join(folder, 'out');
  const { numbers, page } = await writeEvaluation(output, evaluation);
  expect(numbers.metrics.pairWinRate).toMatchObject({ n: 6, prompts: 3 });
  expect(readFileSync(page, 'utf8')).toContain('pairWinRate');
  const lines = readFileSync(join(output, 'pictures.jsonl'), 'utf8').trim().split('\n');
  expect(lines.length).toBe(6);
  const first = JSON.parse(lines[0]!);
  expect(Object.keys(first)).toEqual(['suite', 'prompt', 'number', 'seed', 'verdict']);
  expect(first.verdict.asked).toEqual(
    first.verdict.better === 'first' ? { shownFirst: 1, shownSecond: 1 } : { shownFirst: 0, shownSecond: 0 },
  );
  expect(pairsOverSeeds([evaluation, turned]).pairWinRate!.value).toBeCloseTo(0.5, 12);
});

test('a judge that always likes the first place tells nothing, and that is said', async () => {
  const { address } = await serve<ChatBody>(() => said('A', { A: 0.9, B: 0.1 }));
  const { suites } = await evaluate(optionsOf(judge(address)));
  const { metrics } = suites.pairs!;
  expect([metrics.pairWinRate!.value, metrics.pairTies!.value]).toEqual([0.5, 1]);
  expect(metrics.pairFirstPlace!.value).toBeCloseTo(0.9, 12);
  expect(remarkOnJudge(metrics)).toBe(
    'pairs: the judge chose the picture shown first in 90 % of its answers; 100 % of the pairs are ties: it tells little about these models. A pair counts only where both orders agree.',
  );
});

test('a server that stalls ends the work soon; run again, only what is missing is asked', async () => {
  let stalls = true;
  const { address, asked } = await serve<ChatBody>(
    (one, count) => (stalls && count > 4 ? limits.expire() : consistent(one)), // never answers
  );
  const reward = judge(address, { timeout: 0.15, parallel: 1 });
  await expect(evaluate(optionsOf(reward))).rejects.toThrow(
    /^reward preference: .* gave no answer within 0.15 s, for two pictures of ".*" — a score is needed/,
  );
  const before = asked.length;
  expect(before).toBeLessThanOrEqual(6); // the others in the queue are not waited for one by one
  stalls = false;
  const { suites } = await evaluate(optionsOf(reward));
  expect(suites.pairs!.metrics.pairWinRate!.n).toBe(6);
  expect(asked.length).toBe(before + 8);
});

test('a budget ends the asking, and the answers count the next time', async () => {
  const { address, asked } = await serve<ChatBody>(consistent);
  const cache = join(folder, 'budget');
  const notices: string[] = [];
  const options = optionsOf(judge(address, { cache, budget: 5 }), { onNotice: (line) => notices.push(line) });
  await expect(evaluate(options)).rejects.toThrow(/the budget of 5 calls is spent — no more is asked/);
  expect(asked.length).toBe(5);
  expect(notices[0]).toMatch(/the budget of 5 ends the work before — raise it to 12/);
  await evaluate(optionsOf(judge(address, { cache, budget: 7 })));
  expect(asked.length).toBe(12);
});

test('answers that are none end the work; where the recipe allows, such a pair does not count', async () => {
  let lied: string | undefined;
  /** Never understands one pair, in one order. */
  const confused = (one: { body: ChatBody | undefined }) => {
    if (one.body === undefined) return {};
    const shown = pngsOf(one.body).join();
    lied ??= shown;
    return shown === lied ? said('Both are fine.') : consistent(one);
  };
  const { address } = await serve<ChatBody>(confused);
  const field = { parallel: 1, cache: join(folder, 'unread') };
  await expect(evaluate(optionsOf(judge(address, field)))).rejects.toThrow(
    /tiny answered "Both are fine\." for two pictures of ".*", twice — expected one letter only, A or B/,
  );
  const { suites } = await evaluate(optionsOf(judge(address, { ...field, unreadable: 0.5 })));
  expect(suites.pairs!.metrics.pairWinRate).toMatchObject({ n: 5, prompts: 3 });
});

test.each([
  ['one model', {}, { arms: [{ model: models[0] }] }, /^suite pairs: one model — .*--against/],
  ['no judge', undefined, {}, /^suite pairs: no judge is given — .*--reward FILE\.yaml with \{ vision: preference/],
  ['a reward that is none', 'aesthetic', {}, /aesthetic is no vision-language model/],
  ['a question about one picture', { vision: 'quality' }, {}, /quality asks about one picture — .*--suite reward/],
  ['pairs for the suite reward', {}, { suites: ['reward'] }, /preference compares two pictures — .*Use --suite pairs/],
])('a mistake is told before a picture is drawn: %s', async (_, field, more, message) => {
  const { address } = await serve<ChatBody>(consistent);
  const reward = typeof field === 'object' ? judge(address, field as object) : (field as 'aesthetic');
  const { reward: __, ...without } = optionsOf('aesthetic', more as Partial<EvaluateOptions>);
  await expect(evaluate(reward === undefined ? without : { ...without, reward })).rejects.toThrow(message);
}); // biome-ignore format: one a line

test('a server that is not there is told before a picture is drawn', async () => {
  const reward = judge('http://127.0.0.1:9/v1');
  let drawn = 0;
  const options = optionsOf(reward, { onProgress: () => drawn++ });
  await expect(evaluate(options)).rejects.toThrow(/^suite pairs: reward preference: .*cannot be reached/);
  expect(drawn).toBe(0);
});
