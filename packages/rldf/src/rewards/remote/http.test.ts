import { readFileSync } from 'node:fs';
import type { ServerResponse } from 'node:http';
import { fileURLToPath } from 'node:url';
import sharp from 'sharp';
import { expect, test } from 'vitest';
import { singleRewardSchema } from '../../config/fields.js';
import { loadReward } from '../index.js';
import { type CompositeReward, scorePictures } from '../reward.js';
import { type HttpRewardRequest, httpReward } from './http.js';
import { batchOf, limits, serve } from './server.fixture.js';

const quick = { waitSeconds: 0.001 };
const cats = () => batchOf(['a cat', 10, { id: 1 }], ['a dog', 20], ['a cow', 30]);

/** As a good server does: the brightness of each picture. */
async function brightness({ pictures, id }: HttpRewardRequest) {
  const scores = pictures.map(
    async ({ png }) => (await sharp(Buffer.from(png, 'base64')).raw().toBuffer())[0]!,
  );
  return { scores: await Promise.all(scores), id };
}

async function messageOf(
  answer: Parameters<typeof serve<HttpRewardRequest>>[0],
  options: { timeout?: number; retries?: number } = {},
) {
  const { address, asked } = await serve(answer);
  const reward = httpReward({ http: address, as: 'mine', retries: 2, timeout: 20, ...options }, quick);
  const error = await Promise.resolve(reward.score(cats())).catch((error) => error);
  expect(error.name).toBe('UserError');
  return { message: error.message.replace(address, 'ADDRESS') as string, tries: asked.length };
}

test('PNG bytes, prompts and meta go out in batches; scores come back in the order of the pictures', async () => {
  process.env.TEST_REWARD_KEY = 'secret';
  const { address, asked } = await serve<HttpRewardRequest>(({ body }) => brightness(body));
  const field = singleRewardSchema.parse({ http: `${address}/score`, batch: 2, key: 'TEST_REWARD_KEY' });
  const reward = await loadReward(field);
  expect(reward.name).toBe(`${address.replace('http://', '')}/score`);
  expect((await scorePictures(reward, cats())).total).toEqual([10, 20, 30]);
  const sizes = asked.map(({ body }) => body.pictures.length).sort();
  expect(sizes).toEqual([1, 2]);
  expect(asked[0]).toMatchObject({
    path: '/score',
    headers: { authorization: 'Bearer secret', 'content-type': 'application/json' },
    body: { protocol: 'rldf-reward/1' },
  });
  const sent = asked.flatMap(({ body }) => body.pictures).find(({ prompt }) => prompt === 'a cat')!;
  expect(sent.meta).toEqual({ id: 1 });
  expect(await sharp(Buffer.from(sent.png, 'base64')).metadata()).toMatchObject({ format: 'png', width: 2, height: 1 }); // biome-ignore format: one thought
});

test('pictures that were begun are not asked for again, and begun ones that fail are told by score', async () => {
  const { address, asked } = await serve<HttpRewardRequest>(({ body }) => brightness(body));
  const reward = httpReward({ http: address }, quick);
  reward.begin!(batchOf(['a cat', 10, { id: 1 }], ['a dog', 20]));
  expect(await reward.score(cats())).toEqual([10, 20, 30]);
  const prompts = asked.flatMap(({ body }) => body.pictures.map(({ prompt }) => prompt)).sort();
  expect(prompts).toEqual(['a cat', 'a cow', 'a dog']);
  expect(await reward.score(cats())).toEqual([10, 20, 30]); // nothing is remembered: the server may have learned
  expect(asked.length).toBe(3);
  const { address: other } = await serve((_, __, response) => void response.destroy());
  const broken = httpReward({ http: other, retries: 0 }, quick);
  broken.begin!(cats());
  await limits.answered(); // it has failed, and nobody has asked for the score yet
  await expect(broken.score(cats())).rejects.toThrow(/cannot be reached/);
});

test('a server that drops, is busy or answers another request is asked again', async () => {
  const { address, asked } = await serve<HttpRewardRequest>(async ({ body }, count, response) => {
    if (count === 1) return void response.destroy();
    if (count === 2) return void response.writeHead(503).end('busy');
    if (count === 3) return void response.writeHead(429, { 'retry-after': '0.001' }).end('{}');
    if (count === 4) return { ...(await brightness(body)), id: 'of another' };
    if (count === 5) {
      response.writeHead(200, { 'content-length': '500' }).write('{"scores": [1');
      return limits.answered().then(() => void response.destroy()); // dropped in the middle
    }
    return brightness(body);
  });
  expect(await httpReward({ http: address }, quick).score(cats())).toEqual([10, 20, 30]);
  expect(asked.length).toBe(6);
});

test('a server that stalls, before or within its answer, is given up after the time limit', async () => {
  const begins = async (_: unknown, __: number, response: ServerResponse) => {
    response.write('{"scores": [');
    await limits.answered();
    limits.expire();
  };
  const begun = await messageOf(begins, { timeout: 0.05 });
  expect(begun.tries).toBe(3);
  expect(limits.asked).toEqual([50, 50, 50]);
  expect(begun.message).toMatch(
    /^reward mine: ADDRESS\/ gave no answer within 0.05 s, 3 times, for 3 pictures, the first of "a cat" — .* Look at the server, then run the command again$/,
  );
  const { message } = await messageOf(() => limits.expire(), { timeout: 0.05, retries: 0 });
  expect(message).toMatch(/gave no answer within 0.05 s, for 3/);
});

test('an answer that comes too late is not taken for that of the next try', async () => {
  let late: ServerResponse | undefined;
  const { address } = await serve<HttpRewardRequest>(({ body }, count, response) => {
    if (count === 1) {
      late = response;
      return limits.expire();
    }
    late?.end('{"scores": [9, 9, 9]}');
    return brightness(body);
  });
  const reward = httpReward({ http: address }, quick);
  expect(await reward.score(cats())).toEqual([10, 20, 30]);
  expect(late?.writableEnded).toBe(true);
  expect(await reward.score(cats())).toEqual([10, 20, 30]);
});

test.each([
  ['too few', { scores: [1, 2] }, /answered 2 scores for 3 pictures — expected \{ "scores"/],
  ['NaN', '{"scores": [1, NaN, 2]}', /answered NaN where a number belongs .*which JSON does not know/],
  ['Infinity', '{"scores": [1, -Infinity, 2]}', /answered -Infinity where a number belongs/],
  ['null', { scores: [1, null, 2] }, /answered null as score 1 \("a dog"\) — it must be a finite number/],
  ['text', { scores: [1, '7', 2] }, /answered "7" as score 1/],
  ['a number too large', '{"scores": [1, 1e999, 2]}', /as score 1 \("a dog"\) — it must be a finite number/],
  ['no scores', { score: 3 }, /answered without a list of scores/],
  ['a list', [1, 2, 3], /answered a list — expected/],
  ['a page', '<html>', /answered something that is not JSON \("<html>"\)/],
])('a lie is told, and not asked for again: %s', async (_, answer, message) => {
  const told = await messageOf(() => answer);
  expect(told.message).toMatch(message);
  expect(told.tries).toBe(1);
});

test('refusals are told in the server’s words; a server that moved is not followed', async () => {
  const refused = await messageOf(
    (_, __, response) => void response.writeHead(401).end('{"detail": "bad key"}'),
  );
  expect(refused).toMatchObject({
    tries: 1,
    message: expect.stringContaining('answered 401 (bad key), for 3'),
  });
  const moved = await messageOf(
    (_, __, response) => void response.writeHead(302, { location: 'http://x/' }).end(),
  );
  expect(moved).toMatchObject({
    tries: 1,
    message: expect.stringContaining('it has moved to http://x/, for'),
  });
  const endless = await messageOf((_, __, response) => {
    response.write('x'.repeat(5e6));
  });
  expect(endless).toMatchObject({ tries: 1, message: expect.stringContaining('answered with more than') });
});

test('whether the server is there and speaks the protocol is found out before', async () => {
  const { address } = await serve(({ method }) => (method === 'GET' ? { protocol: 'rldf-reward/9' } : {}));
  await expect(httpReward({ http: address, as: 'mine' }).ready!()).rejects.toThrow(
    /^reward mine: .* speaks "rldf-reward\/9" — this rldf speaks rldf-reward\/1/,
  );
  const plain = await serve((_, __, response) => void response.writeHead(404).end('not found'));
  await httpReward({ http: plain.address }).ready!(); // it need not describe itself
  await expect(httpReward({ http: 'http://127.0.0.1:9/', retries: 0 }).ready!()).rejects.toThrow(
    /^reward 127.0.0.1:9: .* cannot be reached \(.*\) — a score is needed for every picture/,
  );
  await expect(httpReward({ http: address, key: 'NOT_SET_AT_ALL' }).score(cats())).rejects.toThrow(
    /key: the environment variable NOT_SET_AT_ALL is not set/,
  );
});

test('aborted, it ends with the signal’s reason', async () => {
  const controller = new AbortController();
  const { address } = await serve(() => void controller.abort(new Error('enough')));
  const reward = httpReward({ http: address }, { ...quick, signal: controller.signal });
  await expect(reward.score(cats())).rejects.toThrow('enough');
});

test('where one reward of a sum fails, the statistics of no other have moved', async () => {
  let fails = true;
  const { address } = await serve<HttpRewardRequest>(({ body }) => (fails ? '{}' : brightness(body)));
  const reward = (await loadReward([
    { reward: 'jpeg-compressibility', normalise: 'running' },
    { reward: singleRewardSchema.parse({ http: address, as: 'mine' }), normalise: 'running' },
  ])) as CompositeReward;
  const before = JSON.stringify(reward.state());
  await expect(scorePictures(reward, cats())).rejects.toThrow(/without a list of scores/);
  expect(JSON.stringify(reward.state())).toBe(before);
  fails = false;
  expect((await scorePictures(reward, cats())).parts.mine).toEqual([10, 20, 30]);
});

test.each([
  ['localhost:8000', /^reward http: http: localhost: is not spoken — write such as/],
  ['somewhere', /no address/],
  ['http://me:secret@host/', /holds a password/],
])('the address %s is refused', (http, message) => {
  expect(singleRewardSchema.safeParse({ http }).error?.message).toMatch(
    /is not spoken|holds a password|no address/,
  );
  expect(() => httpReward({ http })).toThrow(message);
});

test('the reference servers have at most 40 lines', () => {
  for (const name of ['reward_server.py', 'reward-server.ts']) {
    const text = readFileSync(
      fileURLToPath(new URL(`../../../../../examples/${name}`, import.meta.url)),
      'utf8',
    );
    expect(text.trimEnd().split('\n').length).toBeLessThanOrEqual(40);
  }
});
