import { createHash } from 'node:crypto';
import { existsSync, lstatSync, mkdtempSync, readdirSync, readFileSync, readlinkSync, rmSync } from 'node:fs';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { savePipeline, tinyPipeline } from '@rldf/models';
import { UserError } from '@rldf/torch';
import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from 'vitest';
import { findModel } from '../instruments/models.js';
import { type HubServer, hubServer, refuse, send } from './hub-server.fixture.js';
import {
  cachedAdapter,
  cachedModel,
  type DownloadPlan,
  fetchAdapter,
  fetchFiles,
  fetchModel,
  type HubSettings,
  hubId,
  hubSettings,
  listCached,
  parseHubId,
  removeCached,
} from './index.js';

const root = mkdtempSync(join(tmpdir(), 'rldf-hub-'));
afterAll(() => rmSync(root, { recursive: true }));

const unet = 'unet/diffusion_pytorch_model.safetensors';
let model: Map<string, Buffer>;
let hub: HubServer;
let settings: HubSettings;
let waited: number[];
let caches = 0;

/** A tiny model of the real classes, with what a repository holds beside it. */
beforeAll(() => {
  const folder = join(root, 'model');
  const pipeline = tinyPipeline(1);
  savePipeline(pipeline, folder);
  for (const parameters of Object.values(pipeline.parameters)) parameters.free();
  model = new Map([
    ...readdirSync(folder, { recursive: true, encoding: 'utf8' })
      .filter((path) => lstatSync(join(folder, path)).isFile())
      .map((path) => [path.replaceAll('\\', '/'), readFileSync(join(folder, path))] as const),
    ['README.md', Buffer.from('---\nlicense: openrail++\n---\n')],
    ['unet/diffusion_pytorch_model.bin', Buffer.alloc(5000, 1)],
    ['unet/diffusion_flax_model.msgpack', Buffer.alloc(5000, 2)],
    ['safety_checker/model.safetensors', Buffer.alloc(5000, 3)],
    ['v1-5-pruned.safetensors', Buffer.alloc(5000, 4)],
  ]);
});
beforeEach(async () => {
  hub = await hubServer(new Map(model));
  waited = [];
  settings = {
    ...{ endpoint: hub.url, cache: join(root, `cache-${caches++}`), offline: false, xet: true },
    wait: async (seconds) => void waited.push(seconds),
  };
});
afterEach(() => hub.close());

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

test('ids: owner and name, revision, variant, file, pages; and what is none', () => {
  expect(hubId('a/b')).toEqual({ repo: 'a/b', revision: 'main' });
  expect(hubId('a/b@v1.0:fp16')).toEqual({ repo: 'a/b', revision: 'v1.0', variant: 'fp16' });
  expect(hubId('hf://a/b@refs/pr/4/x/y.safetensors')).toEqual({
    ...{ repo: 'a/b', revision: 'refs/pr/4', file: 'x/y.safetensors' },
  });
  expect(hubId('https://huggingface.co/a/b/blob/main/x.safetensors?download=true')).toEqual({
    ...{ repo: 'a/b', revision: 'main', file: 'x.safetensors' },
  });
  for (const none of [
    'a',
    './a/b',
    '/a/b',
    '~/a/b',
    'a/../b',
    'a/b@../c',
    'a/b/../../c',
    'a b/c',
    'a--x/b',
    'C:/a/b',
  ])
    expect(parseHubId(none), none).toBeUndefined();
});

test('only what is needed comes, in the layout of Python’s cache, with size before and bytes while', async () => {
  const plans: DownloadPlan[] = [];
  const bytes: number[] = [];
  const path = await fetchModel('owner/name', {
    settings,
    onPlan: (plan) => plans.push(plan),
    onProgress: (done) => bytes.push(done),
  });
  const folder = join(settings.cache, 'models--owner--name');
  expect(path).toBe(join(folder, 'snapshots', hub.commit));
  expect(readFileSync(join(folder, 'refs', 'main'), 'utf8')).toBe(hub.commit);
  const [cached] = listCached(settings.cache);
  expect(cached).toMatchObject({ repo: 'owner/name', unfinished: 0, revisions: [{ refs: ['main'] }] });
  const files = cached!.revisions[0]!.files;
  const unwanted = ['unet/diffusion_pytorch_model.bin', 'unet/diffusion_flax_model.msgpack'];
  expect(files).toEqual(
    [...model.keys()].filter((name) => !unwanted.includes(name) && !/^(safety|v1)/.test(name)).sort(),
  );
  for (const name of files) {
    const content = model.get(name)!;
    expect(readFileSync(join(path, name)).equals(content)).toBe(true);
    const blob = readlinkSync(join(path, name)).replaceAll('\\', '/');
    const git = createHash('sha1').update(`blob ${content.length}\0`).update(content).digest('hex');
    const up = '../'.repeat(name.split('/').length + 1);
    expect(blob).toBe(`${up}blobs/${content.length > 1000 ? sha(content) : git}`);
  }
  const needed = files.reduce((sum, name) => sum + model.get(name)!.length, 0);
  const index = model.get('model_index.json')!.length; // it comes first, to know the parts
  expect(plans).toEqual([
    { files: files.length, bytes: needed, here: index, endpoint: hub.url, cache: settings.cache },
  ]);
  expect(bytes.at(-1)).toBe(needed);
  expect(bytes.every((done, i) => i === 0 || done >= bytes[i - 1]!)).toBe(true);
});

test('what is here is not asked for again; models are found and loaded by their id', async () => {
  await fetchModel('owner/name', { settings });
  const before = hub.requests.length;
  expect(await fetchModel('owner/name', { settings })).toBe(cachedModel(hubId('owner/name'), settings));
  expect(hub.requests.length).toBe(before);
  process.env.HF_HUB_CACHE = settings.cache;
  try {
    const found = findModel('owner/name');
    expect(found).toMatchObject({ name: 'owner/name', kind: 'text-to-image', licence: 'openrail++' });
    const weights = [...model].filter(([name]) => /^(unet|vae|text_encoder)\/.*\.safetensors$/.test(name));
    expect(found.bytes).toBe(weights.reduce((sum, [, content]) => sum + content.length, 0));
    expect(() => findModel('owner/other')).toThrow(
      /model owner\/other: is not on this machine .* `rldf models add owner\/other` does it/,
    );
  } finally {
    delete process.env.HF_HUB_CACHE;
  }
});

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
  const answers = ['7', new Date(Date.now() + 20_000).toUTCString()];
  hub.fault = (_request, response) => {
    const after = answers.shift();
    if (after === undefined) return false;
    refuse(response, 429, undefined, { 'Retry-After': after });
    return true;
  };
  await fetchModel('owner/name', { settings, onNotice: (text) => notices.push(text) });
  expect(waited[0]).toBe(7);
  expect(waited[1]).toBeGreaterThan(15);
  expect(waited[1]).toBeLessThan(22);
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

test('variants and shards: one set of weights comes; without the plain one fp16 does', async () => {
  const weights = hub.files.get(unet)!;
  const text = hub.files.get('text_encoder/model.safetensors')!;
  hub.files.set('unet/diffusion_pytorch_model.fp16.safetensors', Buffer.from(weights).fill(9, 5000, 5010));
  hub.files.set('unet/diffusion_pytorch_model.non_ema.safetensors', Buffer.from(weights).fill(8, 5000, 5010));
  hub.files.delete('text_encoder/model.safetensors');
  hub.files.set('text_encoder/model.fp16-00001-of-00002.safetensors', text);
  hub.files.set('text_encoder/model.fp16-00002-of-00002.safetensors', Buffer.alloc(2000, 1));
  hub.files.set(
    'text_encoder/model.safetensors.index.fp16.json',
    Buffer.from(
      JSON.stringify({
        weight_map: {
          a: 'model.fp16-00001-of-00002.safetensors',
          b: 'model.fp16-00002-of-00002.safetensors',
        },
      }),
    ),
  );
  const files = () =>
    listCached(settings.cache)[0]!.revisions[0]!.files.filter((name) => /^(unet|text)/.test(name));
  const shards = [
    'text_encoder/config.json',
    'text_encoder/model.fp16-00001-of-00002.safetensors',
    'text_encoder/model.fp16-00002-of-00002.safetensors',
    'text_encoder/model.safetensors.index.fp16.json',
  ];
  const plain = await fetchModel('owner/name', { settings });
  expect(files()).toEqual([...shards, 'unet/config.json', unet]);
  const half = await fetchModel('owner/name:fp16', { settings }); // both are here then
  expect(half).toBe(`${plain}:fp16`);
  expect(files()).toContain('unet/diffusion_pytorch_model.fp16.safetensors');
  expect(files()).not.toContain('unet/diffusion_pytorch_model.non_ema.safetensors');
  const error = await failure(fetchModel('owner/name:bf16', { settings }));
  expect(error.message).toMatch(/the U-Net has no variant bf16 — there are: fp16, non_ema/);
});

test('pickles only, other architectures, no folder: refused before anything large comes', async () => {
  const refused = async () => {
    const { message } = await failure(fetchModel('owner/name', { settings }));
    expect(listCached(settings.cache)[0]?.bytes ?? 0).toBeLessThan(2000);
    return message;
  };
  hub.files.delete(unet);
  expect(await refused()).toMatch(
    /unet\/diffusion_pytorch_model.bin is a pickle, which can run code, and is never opened. Convert the model with: python -c ".*from_pretrained\('owner\/name', revision='main', use_safetensors=False\)/,
  );
  hub.files.set(
    'model_index.json',
    Buffer.from('{"_class_name":"FluxPipeline","transformer":["diffusers","X"]}'),
  );
  settings = { ...settings, cache: join(root, `cache-${caches++}`) };
  expect(await refused()).toMatch(
    /is a "FluxPipeline" without unet — Stable Diffusion 1.x, 2.x and XL are supported/,
  );
  hub.files.delete('model_index.json');
  expect(await refused()).toMatch(
    /there is no model_index.json .* It holds .*: name one, as in owner\/name\/.*safetensors/,
  );
});

test('a file that would leave the cache is refused', async () => {
  hub.files.set('../../evil.json', Buffer.from('{}'));
  const error = await failure(fetchModel('owner/name', { settings }));
  expect(error.message).toMatch(/lists a file "..\/..\/evil.json" .* neither may lead out of the cache/);
});

test('single files and adapters', async () => {
  const file = await fetchModel('owner/name/v1-5-pruned.safetensors', { settings });
  expect(readFileSync(file).length).toBe(5000);
  const several = await failure(fetchAdapter('owner/name', { settings }));
  expect(several.message).toMatch(
    /the repository holds .* — one is needed. Name it: owner\/name\/.*safetensors/,
  );
  hub.files.set('pytorch_lora_weights.safetensors', Buffer.alloc(3000, 7));
  const folder = await fetchAdapter('owner/name@v1.0', { settings });
  expect(readFileSync(join(folder, 'pytorch_lora_weights.safetensors')).length).toBe(3000);
  expect(cachedAdapter(hubId('owner/name@v1.0'), settings)).toBe(folder);
});

test('removing: a revision, or all; links that others need stay', async () => {
  await fetchModel('owner/name@v1.0', { settings });
  const [all] = listCached(settings.cache);
  expect(() => removeCached(settings.cache, hubId('owner/name@v2'))).toThrow(/here are: [0-9a-f]{12} = v1.0/);
  expect(() => removeCached(settings.cache, hubId('owner/none'))).toThrow(/is not in .* nothing was removed/);
  // a second commit that shares all files but one
  const first = all!.revisions[0]!.folder;
  const { cpSync, mkdirSync, symlinkSync, writeFileSync } = await import('node:fs');
  const second = join(all!.folder, 'snapshots', 'f'.repeat(40));
  cpSync(first, second, { recursive: true, verbatimSymlinks: true });
  writeFileSync(join(all!.folder, 'blobs', 'e'.repeat(40)), 'only here');
  mkdirSync(join(second, 'x'));
  symlinkSync(`../../../blobs/${'e'.repeat(40)}`, join(second, 'x', 'y.txt'));
  expect(removeCached(settings.cache, hubId(`owner/name@${'f'.repeat(40)}`))).toBe('only here'.length);
  expect(cachedModel(hubId('owner/name@v1.0'), settings)).toBeDefined();
  expect(removeCached(settings.cache, hubId('owner/name'))).toBe(all!.bytes);
  expect(listCached(settings.cache)).toEqual([]);
});

test('settings: the variables of Hugging Face’s tools', () => {
  const base = { HOME: root };
  expect(
    hubSettings({ ...base, HF_ENDPOINT: 'https://hub.example/', HF_HUB_OFFLINE: '1', HF_TOKEN: ' x ' }),
  ).toMatchObject({
    ...{ endpoint: 'https://hub.example', offline: true, token: { value: 'x', from: 'HF_TOKEN' } },
  });
  expect(hubSettings({ HF_HOME: '/a' }).cache).toBe(join('/a', 'hub'));
  expect(hubSettings({ XDG_CACHE_HOME: '/b' }).cache).toBe(join('/b', 'huggingface', 'hub'));
  expect(hubSettings({ HF_HUB_CACHE: '/c', HF_HOME: '/a' }).cache).toBe('/c');
  expect(
    hubSettings({ HF_TOKEN: 'x', HF_HUB_DISABLE_IMPLICIT_TOKEN: '1', HF_HOME: root }).token,
  ).toBeUndefined();
});

test('files of any other repository: the first that it has and those beside, or one by its name', async () => {
  const wanted = {
    anyOf: ['nowhere.pt', 'unet/config.json', 'vae/config.json'],
    beside: ['README.md', 'absent.txt'],
  };
  const folder = await fetchFiles('owner/name', wanted, { settings });
  expect(readdirSync(folder).sort()).toEqual(['README.md', 'unet']);
  const asked = hub.requests.length;
  expect(await fetchFiles('owner/name', wanted, { settings: { ...settings, offline: true } })).toBe(folder);
  expect(hub.requests.length).toBe(asked);
  const file = await fetchFiles('owner/name/vae/config.json', wanted, { settings });
  expect(file).toBe(join(folder, 'vae', 'config.json'));
  await expect(
    fetchFiles('owner/name', { anyOf: ['a.pt', 'b.pt'], beside: [] }, { settings }),
  ).rejects.toThrow('owner/name: the repository holds none of a.pt, b.pt — one is needed');
});
