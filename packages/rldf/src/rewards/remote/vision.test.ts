import { appendFileSync, mkdtempSync, readFileSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { singleRewardSchema } from '../../config/fields.js';
import { loadReward } from '../index.js';
import { readChoice, readNumber } from './chat.js';
import { callsOf } from './cost.js';
import { judgeTemplateNames, loadJudgeTemplate, parseJudgeTemplate } from './judge-template.js';
import { batchOf, type ChatBody, limits, pngsOf, said, serve } from './server.fixture.js';
import { meetingsOf, visionReward } from './vision.js';

const folder = () => mkdtempSync(join(tmpdir(), 'rldf-judge-'));
const quick = { waitSeconds: 0.001 };
const cats = () => batchOf(['a cat', 10], ['a dog', 200]);

const questionOf = ({ messages }: ChatBody) => {
  const { content } = messages.find(({ role }) => role === 'user')!;
  return typeof content === 'string' ? content : content.map(({ text }) => text ?? '').join('|');
};

test('the probability of yes against no, all ways of writing them added up; then from the cache', async () => {
  const { address, asked } = await serve<ChatBody>(({ body }) =>
    questionOf(body).includes('"a cat"')
      ? said('Yes.', { Yes: 0.5, ' yes': 0.2, No: 0.1, maybe: 0.2 })
      : said('No', { No: 0.6, Yes: 0.2 }),
  );
  const cache = folder();
  const field = { vision: 'alignment', endpoint: `${address}/v1/`, model: 'tiny', cache };
  const reward = await loadReward(singleRewardSchema.parse(field));
  expect(reward.name).toBe('alignment');
  const scores = await reward.score(cats());
  expect(scores[0]).toBeCloseTo(0.7 / 0.8, 12);
  expect(scores[1]).toBeCloseTo(0.25, 12);
  expect(asked[0]).toMatchObject({
    path: '/v1/chat/completions',
    body: { model: 'tiny', temperature: 0, logprobs: true, top_logprobs: 20 },
  });
  expect(pngsOf(asked[0]!.body)).toEqual([expect.stringMatching(/^data:image\/png;base64,iVBOR/)]);
  expect(asked[0]!.body.messages[0]).toMatchObject({ role: 'system' });

  const again = visionReward(field, quick);
  again.begin!(cats());
  expect(await again.score(cats())).toEqual(scores);
  expect(again.calls).toBe(0);
  const other = visionReward({ ...field, model: 'another' }, quick); // what was answered by one model is not another's
  await other.score(cats());
  expect(other.calls).toBe(2);
});

test('a server that tells no probabilities is asked for a number; without such a question its word counts', async () => {
  const { address, asked } = await serve<ChatBody>(({ body }) =>
    said(/whole number/.test(questionOf(body)) ? 'Score: 7/10' : 'Yes'),
  );
  const reward = visionReward({ vision: 'alignment', endpoint: address, model: 'm', cache: folder(), parallel: 1 }, quick); // biome-ignore format: one thought
  expect(await reward.score(batchOf(['a cat', 10]))).toEqual([0.7]);
  expect(asked.length).toBe(2);
  expect(await reward.score(batchOf(['a dog', 10]))).toEqual([0.7]);
  expect(asked.length).toBe(3); // it is known now
  const file = join(folder(), 'plain.yaml');
  writeFileSync(file, 'version: 1\ndescription: x\nask: yes-no\nquestion: Is it {prompt}?\n');
  const plain = visionReward({ vision: file, endpoint: address, model: 'm', cache: folder() }, quick);
  expect(plain.name).toBe('plain');
  expect(await plain.score(batchOf(['a cat', 10]))).toEqual([1]);
});

test('what a server refuses to be told is left out', async () => {
  const { address, asked } = await serve<ChatBody>(({ body }, _, response) => {
    const refused = body.logprobs
      ? 'logprobs are not supported'
      : body.temperature !== undefined
        ? "Unsupported value: 'temperature'"
        : body.max_tokens !== undefined
          ? "use 'max_completion_tokens' instead of max_tokens"
          : undefined;
    if (refused === undefined) return said('8');
    response.writeHead(400);
    return { error: { message: refused } };
  });
  const reward = visionReward({ vision: 'alignment', endpoint: address, model: 'm', cache: folder(), parallel: 1 }, quick); // biome-ignore format: one thought
  expect(await reward.score(cats())).toEqual([0.8, 0.8]);
  expect(asked.at(-1)!.body).toMatchObject({ max_completion_tokens: 64 });
  const before = asked.length;
  expect(await reward.score(batchOf(['a cow', 10]))).toEqual([0.8]);
  expect(asked.length).toBe(before + 1); // nothing is tried again
});

test('an answer that cannot be read is asked for once more, then it ends or counts as the recipe says', async () => {
  const words = ['It is hard to say.', '6'];
  const { address, asked } = await serve<ChatBody>((_, count) => said(words[(count - 1) % 2]!));
  const field = { vision: 'quality', endpoint: address, model: 'm' };
  expect(await visionReward({ ...field, cache: folder() }, quick).score(batchOf(['a cat', 10]))).toEqual([6]);
  expect(asked[1]!.body.messages.slice(-2)).toEqual([
    { role: 'assistant', content: 'It is hard to say.' },
    { role: 'user', content: 'Answer with one number only, from 1 to 10.' },
  ]);
  words[1] = '11'; // beyond the scale
  await expect(
    Promise.resolve(visionReward({ ...field, cache: folder() }, quick).score(batchOf(['a cat', 10]))),
  ).rejects.toThrow(
    /^reward quality: m answered "11" for a picture of "a cat", twice — expected one number only, from 1 to 10\. Change the question, or set unreadable/,
  );
  const lenient = visionReward({ ...field, cache: folder(), unreadable: 1 }, quick);
  expect(await lenient.score(batchOf(['a cat', 10]))).toEqual([1]);
  await lenient.score(batchOf(['a cat', 10]));
  expect(lenient.calls).toBe(4); // it is not remembered as an answer
});

test.each([
  ['a probability that is none', { choices: [{ message: { content: 'Yes' }, logprobs: { content: [{ token: 'Yes', top_logprobs: [{ token: 'Yes', logprob: 3 }] }] } }] }, /log-probability of 3 for "Yes"/],
  ['NaN', '{"choices": [{"message": {"content": "Yes"}, "logprobs": {"content": [{"token": "Yes", "top_logprobs": [{"token": "Yes", "logprob": NaN}]}]}}]}', /answered NaN where a number belongs/],
  ['no words', { choices: [] }, /answered without words — expected \{ choices/],
  ['nothing', 'null', /answered null — expected/],
  ['a page', '<html>', /is not JSON/],
])('a lie is told, and not asked for again: %s', async (_, answer, message) => {
  const { address, asked } = await serve(() => answer);
  const reward = visionReward({ vision: 'anatomy', endpoint: address, model: 'm', cache: folder() }, quick);
  const error = await Promise.resolve(reward.score(batchOf(['a cat', 10]))).catch((error) => error);
  expect(error).toMatchObject({ name: 'UserError', message: expect.stringMatching(message) });
  expect(asked.length).toBe(1);
}); // biome-ignore format: one a line

test('it is asked again after a drop and a stall; what was answered is kept when it fails at last', async () => {
  const { address, asked } = await serve<ChatBody>(({ body }, count, response) => {
    if (questionOf(body).includes('"a dog"')) return limits.expire(); // stalls
    return count === 1 ? void response.destroy() : said('7');
  });
  const cache = folder();
  const field = { vision: 'quality', endpoint: address, model: 'm', cache };
  const file = join(folder(), 'with-prompt.yaml');
  writeFileSync(
    file,
    'version: 1\ndescription: x\nask: number\nquestion: \'How is "{prompt}"?\'\nscale: [1, 10]\n',
  );
  const asking = { ...field, vision: file, timeout: 0.1, retries: 1, parallel: 1 };
  await expect(Promise.resolve(visionReward(asking, quick).score(cats()))).rejects.toThrow(
    /gave no answer within 0.1 s, 2 times, for a picture of "a dog"/,
  );
  const names = asked.map(({ body }) => /"(.*?)"/.exec(questionOf(body))?.[1]);
  expect(names).toEqual(['a cat', 'a cat', 'a dog', 'a dog']); // in their order, whichever file is ready first
  expect(limits.asked).toEqual([100, 100, 100, 100]);
  const later = visionReward(asking, quick);
  expect(await later.score(batchOf(['a cat', 10]))).toEqual([7]);
  expect(later.calls).toBe(0);
});

test('a budget ends the asking before it is exceeded, and says where the answers are', async () => {
  const { address, asked } = await serve(() => said('7'));
  const cache = folder();
  const field = { vision: 'quality', endpoint: address, model: 'm', cache, budget: 1, parallel: 1 };
  await expect(Promise.resolve(visionReward(field, quick).score(cats()))).rejects.toThrow(
    /^reward quality: the budget of 1 calls is spent — no more is asked\. The answers are kept in .*jsonl; raise budget, then run/,
  );
  expect(asked.length).toBe(1);
  expect(await visionReward(field, quick).score(cats())).toEqual([7, 7]); // the first is known, the second within the budget
});

test('a cache whose last line was cut off loses that line only', async () => {
  const { address } = await serve(() => said('7'));
  const cache = folder();
  const field = { vision: 'quality', endpoint: address, model: 'm', cache };
  await visionReward(field, quick).score(batchOf(['a cat', 10]));
  const { readdirSync } = await import('node:fs');
  const file = join(cache, readdirSync(cache)[0]!);
  appendFileSync(file, '{"key": "half');
  const second = visionReward(field, quick);
  await second.score(cats());
  expect(second.calls).toBe(1);
  const third = visionReward(field, quick);
  await third.score(cats());
  expect(third.calls).toBe(0);
  expect(readFileSync(file, 'utf8')).not.toContain('test-key');
});

test('pairs are asked in both orders, so that a liking for the first place cancels', async () => {
  const { address, asked } = await serve<ChatBody>(() => said('A', { A: 0.8, B: 0.2 })); // always the first
  const reward = visionReward(
    { vision: 'preference', endpoint: address, model: 'm', cache: folder() },
    quick,
  );
  const scores = await reward.score(batchOf(['a cat', 10], ['a cat', 20], ['a dog', 1], ['a dog', 2]));
  expect(scores).toEqual([0.5, 0.5, 0.5, 0.5]);
  expect(asked.length).toBe(4);
  expect(pngsOf(asked[0]!.body).length).toBe(2);
  await expect(Promise.resolve(reward.score(cats()))).rejects.toThrow(
    /one picture of "a cat" — it compares pictures of one prompt, at least two\. Set sample/,
  );
});

test('the score of a picture is its mean against others of its prompt', async () => {
  const { address } = await serve<ChatBody>(({ body }) => {
    const [a, b] = pngsOf(body);
    return said(a! < b! ? 'A' : 'B'); // an order of the pictures, whichever comes first
  });
  const reward = visionReward(
    { vision: 'preference', endpoint: address, model: 'm', cache: folder() },
    quick,
  );
  const scores = await reward.score(batchOf(['a cat', 10], ['a cat', 20], ['a cat', 30]));
  expect([...scores].sort()).toEqual([0, 0.5, 1]);
  expect(meetingsOf([4, 5, 6], 2)).toEqual([[4, 5], [4, 6], [5, 6]]); // biome-ignore format: one thought
  expect(meetingsOf([1, 2], 5)).toEqual([[1, 2]]);
});

test('what it will cost is told before', () => {
  const field = { vision: 'alignment', endpoint: 'http://host:8/v1', model: 'm', price: 0.002 };
  expect(callsOf(singleRewardSchema.parse(field), 500)).toEqual([
    'alignment: at most 500 calls of m at host:8 for 500 pictures, about 1 in all at 0.002 a call',
  ]);
  const pairs = { ...field, vision: 'preference', budget: 100, price: undefined };
  expect(callsOf(singleRewardSchema.parse(pairs), 500)[0]).toMatch(
    /at most 2000 calls .* for 500 pictures; the budget of 100 ends the work before — raise it to 2000/,
  );
  expect(callsOf('aesthetic', 500)).toEqual([]);
});

test.each([
  ['7', 7],
  ['Score: 7/10', 7],
  ['I would give 8.5 out of 10.', 8.5],
  ['<think>maybe 3</think> 9', 9],
  ['Objects: 2 of 3 are there. Score: 6', 6],
  ['{"score": 4}', 4],
  ['2 cats and 3 dogs', undefined],
  ['-3', undefined],
  ['none', undefined],
])('the number in %j is %j', (text, value) => {
  expect(readNumber(text, [0, 10])).toBe(value);
});

test.each([
  ['Yes, it does', 0],
  ['**No**', 1],
  ['The answer is yes.', 0],
  ['yes and no', 0],
  ['I cannot say yes or no', undefined],
  ['', undefined],
])('the choice in %j is %j', (text, choice) => {
  expect(readChoice(text, ['yes', 'no'])).toBe(choice);
});

test('the shipped questions are whole; mistakes in others are told', () => {
  expect(judgeTemplateNames()).toEqual(['alignment', 'anatomy', 'preference', 'quality']);
  for (const name of judgeTemplateNames()) expect(loadJudgeTemplate(name).description).toBeTruthy();
  expect(() => loadJudgeTemplate('alignmnt')).toThrow(
    /neither a shipped question nor a file .* did you mean/i,
  );
  const wrong = (text: string) => () => parseJudgeTemplate(text, 'mine.yaml');
  expect(wrong('version: 1\ndescription: x\nask: number\nquestion: y\n')).toThrow(/mine.yaml {2}scale: /);
  expect(wrong('version: 1\ndescription: x\nask: yes-no\nquestion: is it {text}?\n')).toThrow(
    /only \{prompt\} stands/,
  );
  expect(wrong('a: [')).toThrow(/must be YAML/);
});
