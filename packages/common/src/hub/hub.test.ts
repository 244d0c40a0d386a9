import { createHash } from 'node:crypto';
import { mkdtempSync, readdirSync, readFileSync, readlinkSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { UserError } from '@rldf/torch';
import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from 'vitest';
import { findModel } from '../instruments/models.js';
import { type HubServer, hubServer, tinyRepository } from './hub-server.fixture.js';
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
afterEach(() => hub.close());

const sha = (content: Buffer) => createHash('sha256').update(content).digest('hex');
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
