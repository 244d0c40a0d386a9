/** What can go wrong between a hub and its cache, on a hub of this machine: each fault has its message, and nothing that came is lost. */

import { createHash } from 'node:crypto';
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { UserError } from '@rldf/torch';
import { afterAll, afterEach, beforeAll, beforeEach, expect, test, vi } from 'vitest';
import { type HubServer, hubServer, refuse, send, tinyRepository } from './hub-server.fixture.js';
import { cachedModel, type DownloadPlan, fetchModel, type HubSettings, hubId, listCached } from './index.js';

const root = mkdtempSync(join(tmpdir(), 'rldf-hub-'));
afterAll(() => rmSync(root, { recursive: true }));

const unet = 'unet/diffusion_pytorch_model.safetensors';
let model: Map<string, Buffer>;
let hub: HubServer;
let settings: HubSettings;
let waited: number[];
let caches = 0;
beforeAll(() => {
  model = tinyRepository(join(root, 'model'));
});
beforeEach(async () => {
  hub = await hubServer(new Map(model));
  waited = [];
  settings = {
    ...{ endpoint: hub.url, cache: join(root, `cache-${caches++}`), offline: false, xet: true },
    wait: async (seconds) => void waited.push(seconds),
  };
});
afterEach(async () => {
  vi.useRealTimers();
  await hub.close();
});

const blobs = () => {
  const folder = join(settings.cache, 'models--owner--name', 'blobs');
  return existsSync(folder) ? readdirSync(folder) : [];
};
/** For faults in one expression. */
const answered = (_: unknown) => true;
const sha = (content: Buffer) => createHash('sha256').update(content).digest('hex');
/** Faults on the file of the U-Net alone, where it is stored. */
const onUnet =
  (fault: (request: IncomingMessage, response: ServerResponse, count: number) => boolean) =>
  (request: IncomingMessage, response: ServerResponse, path: string) => {
    if (path !== `/storage/${unet}` || request.headers.range === 'bytes=0-0') return false;
    return fault(request, response, ++count);
  };
let count = 0;
beforeEach(() => {
  count = 0;
});
const failure = async (work: Promise<unknown>): Promise<UserError> => {
  const error = await work.then(
    () => undefined,
    (error: unknown) => error,
  );
  expect(error).toBeInstanceOf(UserError);
  return error as UserError;
};

test('killed mid-file: what came is kept, and the next call goes on there', async () => {
  const content = model.get(unet)!;
  const cut = 40_000;
  hub.fault = onUnet((request, response) => {
    const start = Number(/bytes=(\d+)-/.exec(request.headers.range ?? '')?.[1] ?? 0);
    const { socket } = request;
    if (start >= cut) {
      const head = 'HTTP/1.1 206 Partial Content\r\nContent-Length: 1000\r\n\r\n';
      return answered(socket.write(head, () => socket.destroy()));
    }
    response.writeHead(start === 0 ? 200 : 206, { 'Content-Length': content.length - start });
    response.write(content.subarray(start, cut), () => response.destroy());
    return true;
  });
  const error = await failure(fetchModel('owner/name', { settings }));
  expect(error.message).toMatch(
    /owner\/name: the connection broke 5 times at byte 40000 of \d+ of unet\/diffusion_pytorch_model.safetensors .* it goes on there/,
  );
  const [part] = blobs().filter((name) => name.endsWith('.incomplete'));
  expect(part).toBe(`${sha(content)}.incomplete`);
  expect(listCached(settings.cache)[0]!.unfinished).toBe(cut);
  expect(cachedModel(hubId('owner/name'), settings)).toBeUndefined(); // half a model is none

  hub.fault = undefined;
  hub.requests.length = 0;
  const plans: DownloadPlan[] = [];
  const path = await fetchModel('owner/name', { settings, onPlan: (plan) => plans.push(plan) });
  expect(readFileSync(join(path, unet)).equals(content)).toBe(true);
  const ranges = hub.requests.filter(({ path }) => path === `/storage/${unet}`).map(({ range }) => range);
  expect(ranges.filter((range) => range !== 'bytes=0-0')).toEqual([`bytes=${cut}-${content.length - 1}`]);
  expect(plans[0]!.here).toBeGreaterThanOrEqual(cut);
  expect(blobs().filter((name) => !/^[0-9a-f]+$/.test(name))).toEqual([]);
});

test('a process that was killed while it held the file is not waited for', async () => {
  const { mkdirSync, writeFileSync } = await import('node:fs');
  const { hostname } = await import('node:os');
  const folder = join(settings.cache, 'models--owner--name', 'blobs');
  mkdirSync(folder, { recursive: true });
  const content = model.get(unet)!;
  writeFileSync(join(folder, `${sha(content)}.incomplete`), content.subarray(0, 100));
  writeFileSync(join(folder, `${sha(content)}.incomplete.lock`), `2147483646 ${hostname()}\n`);
  const path = await fetchModel('owner/name', { settings });
  expect(readFileSync(join(path, unet)).equals(content)).toBe(true);
  expect(waited).toEqual([]);
});

test('where the hub’s own protocol fails, HTTP brings the file', async () => {
  hub.xet = true;
  const path = await fetchModel('owner/name', { settings });
  expect(readFileSync(join(path, unet)).equals(model.get(unet)!)).toBe(true);
  const asked = hub.requests.filter(({ path }) => path.startsWith('/xet/')).length;
  expect(asked).toBeGreaterThan(0);
  settings = { ...settings, cache: join(root, `cache-${caches++}`), xet: false };
  await fetchModel('owner/name', { settings }); // HF_HUB_DISABLE_XET
  expect(hub.requests.filter(({ path }) => path.startsWith('/xet/')).length).toBe(asked);
});

test('two at a time: each file comes once', async () => {
  const patient = { ...settings, wait: () => new Promise<void>((done) => void setImmediate(done)) };
  const paths = await Promise.all([1, 2].map(() => fetchModel('owner/name', { settings: patient })));
  expect(paths[0]).toBe(paths[1]);
  expect(readFileSync(join(paths[0]!, unet)).equals(model.get(unet)!)).toBe(true);
  const ranges = hub.requests.filter(({ path }) => path === `/storage/${unet}`).map(({ range }) => range);
  expect(ranges.filter((range) => range === undefined).length).toBe(1);
});

test('a server that ends early without an error is asked again, and given up where nothing comes', async () => {
  const content = model.get(unet)!;
  hub.fault = onUnet((request, response) => {
    const start = Number(/bytes=(\d+)-/.exec(request.headers.range ?? '')?.[1] ?? 0);
    response.writeHead(start === 0 ? 200 : 206); // in chunks of no told length
    return answered(response.end(start === 0 ? content.subarray(0, 3000) : ''));
  });
  const error = await failure(fetchModel('owner/name', { settings }));
  expect(error.message).toMatch(/the connection broke 5 times at byte 3000 of \d+ .*\(it ended early\)/);
});

test('a signal ends it at once; what came is kept', async () => {
  const controller = new AbortController();
  const onProgress = (bytes: number) => {
    if (bytes > 30_000) controller.abort();
  };
  const stopped = fetchModel('owner/name', { settings, signal: controller.signal, onProgress });
  await expect(stopped).rejects.toThrow(/abort/i);
  expect(listCached(settings.cache)[0]!.bytes).toBeGreaterThan(0);
  expect(blobs().filter((name) => name.endsWith('.lock'))).toEqual([]);
  await fetchModel('owner/name', { settings });
});

test('a server that knows no ranges sends the file anew', async () => {
  const content = model.get(unet)!;
  hub.fault = onUnet((_request, response, count) => {
    response.writeHead(200, { 'Content-Length': content.length });
    if (count === 1) response.write(content.subarray(0, 5000), () => response.destroy());
    else response.end(content);
    return true;
  });
  const path = await fetchModel('owner/name', { settings });
  expect(readFileSync(join(path, unet)).equals(content)).toBe(true);
});

test('a wrong hash: fetched once more, then refused; nothing of it stays, and the rest does', async () => {
  const content = model.get(unet)!;
  const damaged = Buffer.from(content);
  damaged[content.length - 1]! ^= 1;
  hub.fault = onUnet((request, response) => answered(send(request, response, damaged)));
  const error = await failure(fetchModel('owner/name', { settings }));
  expect(error.message).toContain(`came with the hash ${sha(damaged)} twice — it must be ${sha(content)}`);
  expect(count).toBe(2);
  expect(blobs().some((name) => name.startsWith(sha(content)))).toBe(false);
  expect(blobs().length).toBeGreaterThan(0);
  hub.fault = onUnet((request, response, count) =>
    answered(send(request, response, count === 3 ? damaged : content)),
  );
  expect(readFileSync(join(await fetchModel('owner/name', { settings }), unet)).equals(content)).toBe(true);
});

test('429 with retry-after: waited as long as asked, as number and as date; too long is refused', async () => {
  const notices: string[] = [];
  vi.useFakeTimers({ toFake: ['Date'], now: new Date('2026-01-01T00:00:00Z') });
  const answers = ['7', 'Thu, 01 Jan 2026 00:00:20 GMT'];
  hub.fault = (_request, response) => {
    const after = answers.shift();
    if (after === undefined) return false;
    refuse(response, 429, undefined, { 'Retry-After': after });
    return true;
  };
  await fetchModel('owner/name', { settings, onNotice: (text) => notices.push(text) });
  vi.useRealTimers();
  expect(waited).toEqual([7, 20]);
  expect(notices[0]).toBe(`${hub.url} answers 429; asking again in 7 s`);
  hub.fault = (_request, response) => answered(refuse(response, 429, undefined, { 'Retry-After': '3600' }));
  const error = await failure(fetchModel('owner/name', { settings, refresh: true }));
  expect(error.message).toMatch(
    /too many requests from this address \(429\) and asks to wait 3600 s .*HF_TOKEN/,
  );
  expect(cachedModel(hubId('owner/name'), settings)).toBeDefined();
});

test('503: asked again with growing patience, then given up', async () => {
  hub.fault = (_request, response) => answered(refuse(response, 503));
  const error = await failure(fetchModel('owner/name', { settings }));
  expect(error.message).toMatch(/is out of order \(503\) — it was asked 6 times at most/);
  expect(waited).toEqual([1, 2, 4, 8, 16]);
});

const token = { value: 'abc', from: 'HF_TOKEN' };
test.each([
  [
    'gated, no token',
    401,
    'GatedRepo',
    undefined,
    /is gated \(401\) .* Accept them on http.*\/owner\/name, make a token .* set HF_TOKEN/,
  ],
  ['gated, a token', 403, 'GatedRepo', token, /is gated, and the token of HF_TOKEN may not read it \(403\)/],
  [
    'not found, no token',
    401,
    'RepoNotFound',
    undefined,
    /there is no such model on http.* \(401\), or it is private and no token was given .* set HF_TOKEN/,
  ],
  [
    'not found, a token',
    404,
    'RepoNotFound',
    token,
    /there is no such model on http.* \(404\), or it is private and the token of HF_TOKEN may not see it/,
  ],
  [
    'an expired token',
    401,
    undefined,
    token,
    /does not accept the token of HF_TOKEN \(401\) — it is mistyped, expired or withdrawn/,
  ],
  ['closed', 403, 'DisabledRepo', undefined, /is closed \(403\)/],
  ['forbidden', 403, undefined, token, /refuses it \(403\) to the token of HF_TOKEN/],
])('%s: its own message, and nothing is written', async (_, status, code, token, message) => {
  hub.fault = (_request, response) => answered(refuse(response, status, code));
  const error = await failure(
    fetchModel('owner/name', { settings: { ...settings, ...(token && { token }) } }),
  );
  expect(error.message).toMatch(message);
  expect(error.message.startsWith('owner/name: ')).toBe(true);
  expect(hub.requests.length).toBe(1); // no is no
  expect(existsSync(settings.cache)).toBe(false);
});

test('no such revision, no such file', async () => {
  const revision = await failure(fetchModel('owner/name@v9', { settings }));
  expect(revision.message).toMatch(/owner\/name@v9: there is no revision v9 of owner\/name \(404\)/);
  const file = await failure(fetchModel('owner/name/none.safetensors', { settings }));
  expect(file.message).toMatch(
    /there is no none.safetensors in the repository — it holds .*v1-5-pruned.safetensors/,
  );
});

test('the token goes to the hub alone, not to where it sends for files', async () => {
  await fetchModel('owner/name', { settings: { ...settings, token } });
  const by = (test: RegExp) =>
    hub.requests.filter(({ path }) => test.test(path)).map((one) => one.authorization);
  expect(new Set(by(/^\/(api|owner)\//))).toEqual(new Set(['Bearer abc']));
  expect(by(/^\/storage\//).length).toBeGreaterThan(0);
  expect(new Set(by(/^\/storage\//))).toEqual(new Set([undefined]));
});

test('offline: what is here is used, what is not says so; nothing is asked', async () => {
  const offline = { ...settings, offline: true };
  const error = await failure(fetchModel('owner/name', { settings: offline }));
  expect(error.message).toMatch(
    /owner\/name: is not in .*, and HF_HUB_OFFLINE is set — nothing is downloaded then/,
  );
  await fetchModel('owner/name', { settings });
  hub.requests.length = 0;
  expect(await fetchModel('owner/name', { settings: offline, refresh: true })).toContain('snapshots');
  expect(hub.requests).toEqual([]);
});

test('a hub that is not there', async () => {
  await hub.close();
  const error = await failure(fetchModel('owner/name', { settings }));
  expect(error.message).toMatch(/owner\/name: http.* cannot be reached \(ECONNREFUSED\)/);
});
