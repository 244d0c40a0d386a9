// The cache of a hub's models: what we download huggingface_hub finds, whole and without a warning, and what it downloads we do.
import { lstatSync, mkdirSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { type HubServer, hubServer, saveTinyModel } from 'rldf/testing';
import { Peer } from '../shared/peer.js';
import { ask, type Check, type Context, rldf, same } from './checks.js';

export async function hubChecks(context: Context): Promise<Check[]> {
  const peer = new Peer(context.python, 'single_file_peer.py');
  const model = join(context.folder, 'hub-model');
  saveTinyModel(model);
  const files = readdirSync(model, { recursive: true, encoding: 'utf8' }).filter((name) =>
    lstatSync(join(model, name)).isFile(),
  );
  const hub = await hubServer(new Map(files.map((name) => [name, readFileSync(join(model, name))])));
  const kept = { ...process.env };
  delete process.env.HF_HUB_OFFLINE;
  process.env.HF_ENDPOINT = hub.url;
  try {
    const own = { ...context, peer, python: context.python };
    return [...(await ourCache(own, hub)), ...(await theirCache(own, hub))];
  } finally {
    process.env = kept;
    peer.end();
    await hub.close();
  }
}

/** Ours, read by Python. */
async function ourCache(context: Context, hub: HubServer): Promise<Check[]> {
  const cache = join(context.folder, 'hub-ours');
  process.env.HF_HUB_CACHE = cache;
  const [added] = JSON.parse(await rldf('models', 'add', 'owner/name', '--json'));
  const [listed] = JSON.parse(await rldf('models', 'list', '--json'));
  const answer = await ask(context, { ask: 'cached', cache, repo: 'owner/name' });
  const expected = {
    ...{
      warnings: [],
      repo: 'owner/name',
      type: 'model',
      refs: ['main'],
      commit: hub.commit,
      folder: added.path,
    },
    files: listed.revisions[0].files,
  };
  const differing = Object.entries(expected).filter(
    ([key, value]) => JSON.stringify(answer[key]) !== JSON.stringify(value),
  );
  const output = join(context.folder, 'hub-ours.safetensors');
  const { tensors } = await ask(context, { ask: 'weights', model: 'owner/name', cache, output });
  return [
    same(
      'our cache in huggingface_hub: facts that differ',
      differing.length,
      0,
      '',
      differing.map(([key]) => key).join(', '),
    ),
    same('our cache in diffusers: no tensors came', Number(!(Number(tensors) > 0)), 0, ''),
  ];
}

/** Python's, read by us, without asking the hub. */
async function theirCache(context: Context, hub: HubServer): Promise<Check[]> {
  const cache = join(context.folder, 'hub-theirs');
  mkdirSync(cache);
  const { folder } = await ask(context, { ask: 'download', endpoint: hub.url, cache, repo: 'owner/name' });
  process.env.HF_HUB_CACHE = cache;
  process.env.HF_HUB_OFFLINE = '1';
  const before = hub.requests.length;
  const [added] = JSON.parse(await rldf('models', 'add', 'owner/name', '--json'));
  await rldf(
    'generate',
    'a cat',
    '--model',
    'owner/name',
    '--steps',
    '2',
    '--output',
    join(context.folder, 'hub-drawn'),
  );
  const [listed] = JSON.parse(await rldf('models', 'list', '--json'));
  const differs = [
    added.path !== folder,
    listed.repo !== 'owner/name',
    listed.revisions[0].refs[0] !== 'main',
  ];
  return [
    same('huggingface_hub’s cache here: facts that differ', differs.filter(Boolean).length, 0, ''),
    same('huggingface_hub’s cache here: requests', hub.requests.length - before, 0, ''),
  ];
}
