import { mkdtempSync } from 'node:fs';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { limitsOfTests } from '@rldf/common/base/limits.fixture';
import { encodePng } from '@rldf/common/drawing/png';
import { afterEach, expect, test } from 'vitest';
import { search } from '../search/search.js';
import { toyEmbedder, toyGrammar, toyPicture, toyRecogniser } from '../toy.fixture.js';
import { endpointSource } from './endpoint.js';
import { PictureMemory } from './memory.js';

interface Asked {
  path: string;
  authorization: string | undefined;
  body: { prompt: string; n: number; model?: string; seed: number; size?: string; response_format: string };
}

const limits = limitsOfTests();
const servers: { close(): void }[] = [];
afterEach(() => {
  for (const server of servers.splice(0)) server.close();
});

/** A server of the images protocol; `answer` may misbehave and then returns true. */
async function serve(
  answer: (asked: Asked, count: number, response: ServerResponse) => boolean = () => false,
) {
  const asked: Asked[] = [];
  const read = async (request: IncomingMessage) => {
    let text = '';
    for await (const piece of request) text += piece;
    return text;
  };
  // a connection that waits for the next request is not closed in the middle of it
  const server = createServer({ keepAliveTimeout: 0 }, async (request, response) => {
    if (request.method === 'GET') {
      response.end(await encodePng(toyPicture({ sentence: 'a cat', seed: 3 })));
      return;
    }
    const one: Asked = {
      path: request.url!,
      authorization: request.headers.authorization,
      body: JSON.parse(await read(request)),
    };
    asked.push(one);
    if (answer(one, asked.length, response)) return;
    const png = await encodePng(toyPicture({ sentence: one.body.prompt, seed: one.body.seed }));
    response.end(JSON.stringify({ created: 0, data: [{ b64_json: png.toString('base64') }] }));
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  servers.push({ close: () => [server.closeAllConnections(), server.close()] });
  return { asked, address: `http://127.0.0.1:${(server.address() as AddressInfo).port}/v1#tiny%20model` };
}

const quick = { waitSeconds: 0.001, timeoutSeconds: 5, key: 'secret' };
const requests = [
  { sentence: 'a cat', seed: 3 },
  { sentence: 'three cats at sea', seed: 4 },
];

async function drawn(address: string, options = {}) {
  const pictures: unknown[] = [];
  await endpointSource(address, { ...quick, ...options }).draw(requests, (index, picture) => {
    pictures[index] = picture;
  });
  return pictures;
}

test('asks in the OpenAI images protocol and gives pictures in order', async () => {
  const { address, asked } = await serve();
  expect(await drawn(address, { size: '8x8' })).toEqual(requests.map(toyPicture));
  expect(asked.map(({ body }) => body.prompt).sort()).toEqual(['a cat', 'three cats at sea']);
  expect(asked[0]).toMatchObject({
    path: '/v1/images/generations',
    authorization: 'Bearer secret',
    body: { n: 1, model: 'tiny model', size: '8x8', response_format: 'b64_json' },
  });
  expect(endpointSource(address).name).toMatch(/^http:.*generations, tiny model$/);
});

test('follows the address of a picture', async () => {
  const { address } = await serve((_, __, response) => {
    response.end(JSON.stringify({ data: [{ url: `${address.split('/v1')[0]}/picture.png` }] }));
    return true;
  });
  expect((await drawn(address))[0]).toEqual(toyPicture(requests[0]!));
});

test('tries again after 429, 500 and a broken connection', async () => {
  const { address, asked } = await serve((_, count, response) => {
    if (count === 1) response.writeHead(429, { 'retry-after': '0.01' }).end('{}');
    else if (count === 2) response.writeHead(500).end('oops');
    else if (count === 3) response.destroy();
    return count <= 3;
  });
  expect(await drawn(address)).toEqual(requests.map(toyPicture));
  expect(asked).toHaveLength(5);
});

test('a mistake of ours is not tried again, and the server’s words are told', async () => {
  const { address, asked } = await serve((_, __, response) => {
    response.writeHead(401).end(JSON.stringify({ error: { message: 'bad key' } }));
    return true;
  });
  await expect(drawn(address, { parallel: 1 })).rejects.toMatchObject({
    name: 'UserError',
    message: expect.stringMatching(
      /answered 401 \(bad key\), for "a cat" — the pictures so far are kept.*--resume/,
    ),
  });
  expect(asked).toHaveLength(1);
});

test.each([
  ['no JSON', 'hello', /answered something that is not JSON/],
  ['no picture', '{"data":[]}', /answered without a picture/],
  ['bytes that are no picture', '{"data":[{"b64_json":"aGVsbG8="}]}', /cannot be read as a picture/],
])('%s is told', async (_, text, message) => {
  const { address } = await serve((__, ___, response) => {
    response.end(text);
    return true;
  });
  await expect(drawn(address)).rejects.toThrow(message);
});

test('a server that stalls runs into the time-out; one that is not there cannot be reached', async () => {
  const { address, asked } = await serve(() => {
    limits.expire();
    return true;
  });
  await expect(drawn(address, { timeoutSeconds: 0.05, retries: 1, parallel: 1 })).rejects.toThrow(
    /gave no answer within 0.05 s, 2 times/,
  );
  expect(asked).toHaveLength(2);
  expect(limits.asked).toEqual([50, 50]);
  await expect(drawn('http://127.0.0.1:1/v1', { retries: 0 })).rejects.toThrow(/cannot be reached/);
  expect(() => endpointSource('http://')).toThrow(/no address/);
});

test('Ctrl-C ends the waiting at once', async () => {
  const controller = new AbortController();
  const { address } = await serve(() => {
    controller.abort();
    return true;
  });
  const drawing = endpointSource(address, quick).draw(requests, () => {}, controller.signal);
  await expect(drawing).rejects.toMatchObject({ name: 'AbortError' });
});

test('what came before a failure is kept, and a search resumes to the end', async () => {
  let broken = true;
  const { address, asked } = await serve((_, count, response) => {
    if (broken && count > 6) response.writeHead(503).end();
    return broken && count > 6;
  });
  const output = mkdtempSync(join(tmpdir(), 'rldf-endpoint-'));
  const run = (resume: boolean) =>
    search({
      input: toyPicture({ sentence: 'three cats in the snow', seed: 1 }),
      where: 'input.png',
      grammar: toyGrammar,
      source: endpointSource(address, { ...quick, retries: 1 }),
      recogniser: toyRecogniser(),
      embedder: toyEmbedder,
      follow: { agent: 'sarsa', seed: 0, steps: 3000 },
      reward: 'multi',
      pictures: 2,
      output,
      resume,
    });
  await expect(run(false)).rejects.toThrow(/answered 503, 2 times/);
  expect(asked).toHaveLength(6 + 2);
  broken = false;
  const result = await run(true);
  expect(result.found.sentence).toBe('three cats in the snow');
  expect(result.cost.remembered).toBeGreaterThan(0);
  expect(new Set(asked.map(({ body }) => `${body.prompt} ${body.seed}`)).size).toBe(asked.length - 2);
});

test('drawing ahead is for batches: an endpoint is asked for what is needed only', async () => {
  const { address, asked } = await serve();
  const memory = new PictureMemory(
    mkdtempSync(join(tmpdir(), 'rldf-endpoint-')),
    endpointSource(address, quick),
    toyRecogniser(),
  );
  await memory.observe([requests[0]!]);
  expect(asked).toHaveLength(1);
  expect(memory.source.batchSize).toBe(1);
});
