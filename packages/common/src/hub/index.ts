/** Models and adapters by the ids of a hub. */

import { existsSync, mkdirSync, statfsSync, statSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { readJson } from '@rldf/models';
import { UserError } from '@rldf/torch/errors';
import { byteWords } from '../base/byte-words.js';
import { cachedCommit, cachedSnapshot, isCommit, repoFolder } from './cache.js';
import { Connection } from './connection.js';
import { download, pointerOf, type RemoteFile, remoteFile, writeRef } from './download.js';
import { type HubId, hubId, hubName } from './id.js';
import { isIndex, isWhole, neededFiles, shardsOf } from './needed.js';
import { type HubSettings, hubSettings } from './settings.js';

export { type CachedRepo, listCached, removeCached } from './cache.js';
export { type HubId, hubId, hubName, isRemote, parseHubId } from './id.js';
export { type HubSettings, hubSettings } from './settings.js';

/** What diffusers and PEFT call an adapter's file. */
const adapterNames = ['pytorch_lora_weights.safetensors', 'adapter_model.safetensors'];

export interface DownloadPlan {
  files: number;
  /** Of all files; `here` are in the cache already, whole or in part. */
  bytes: number;
  here: number;
  endpoint: string;
  cache: string;
}

export interface FetchOptions {
  settings?: HubSettings;
  signal?: AbortSignal | undefined;
  /** Told before the first large file. */
  onPlan?: ((plan: DownloadPlan) => void) | undefined;
  onProgress?: ((bytes: number, plan: DownloadPlan, file: string) => void) | undefined;
  onNotice?: ((text: string) => void) | undefined;
  /** Asks the hub again what a branch or tag stands for, though it is in the cache. */
  refresh?: boolean;
}

/**
 * The path of a model in the cache, with its variant behind a colon; undefined if it is not there, or not all of it.
 */
export function cachedModel(id: HubId, { cache }: HubSettings = hubSettings()): string | undefined {
  const folder = cachedSnapshot(cache, id);
  if (folder === undefined) return undefined;
  const variant = id.variant === undefined ? '' : `:${id.variant}`;
  if (id.file !== undefined) {
    const file = join(folder, ...id.file.split('/'));
    return existsSync(file) ? `${file}${variant}` : undefined;
  }
  return isWhole(folder, id.variant) ? `${folder}${variant}` : undefined;
}

/** The path of an adapter in the cache: its file, or the folder of its only one. */
export function cachedAdapter(id: HubId, { cache }: HubSettings = hubSettings()): string | undefined {
  const folder = cachedSnapshot(cache, id);
  if (folder === undefined) return undefined;
  if (id.file !== undefined) {
    const file = join(folder, ...id.file.split('/'));
    return existsSync(file) ? file : undefined;
  }
  return adapterNames.some((name) => existsSync(join(folder, name))) ? folder : undefined;
}

/** Which files of a repository something needs that is no model of ours. */
export interface WantedFiles {
  /** The first of these that the repository has. */
  anyOf: readonly string[];
  /** Those of these that it has. */
  beside: readonly string[];
}

/** The path of such files in the cache: their folder, or the file that the id names; undefined if none of `anyOf` is there. */
export function cachedFiles(
  id: HubId,
  { anyOf }: WantedFiles,
  { cache }: HubSettings = hubSettings(),
): string | undefined {
  const folder = cachedSnapshot(cache, id);
  if (folder === undefined) return undefined;
  if (id.file === undefined) return anyOf.some((name) => existsSync(join(folder, name))) ? folder : undefined;
  const file = join(folder, ...id.file.split('/'));
  return existsSync(file) ? file : undefined;
}

/** Downloads them. @throws UserError when the repository has none of `anyOf` */
export async function fetchFiles(
  text: string,
  wanted: WantedFiles,
  options: FetchOptions = {},
): Promise<string> {
  const id = hubId(text);
  const cached = (one: HubId, settings: HubSettings) => cachedFiles(one, wanted, settings);
  return fetched(id, options, cached, async (repository) => {
    const first = id.file ?? wanted.anyOf.find((name) => repository.has(name));
    if (first !== undefined) return repository.only(first, wanted.beside);
    throw new UserError(
      `${hubName(id)}: the repository holds none of ${wanted.anyOf.join(', ')} — one is needed. Use another, or name a file: ${hubName(id)}/FILE`,
    );
  });
}

/**
 * Downloads a model, or what is missing of it, into the cache.
 * @returns its path there, as of `cachedModel`
 * @throws UserError when the hub does not give it, or it is none that rldf reads
 */
export async function fetchModel(text: string, options: FetchOptions = {}): Promise<string> {
  const id = hubId(text);
  return fetched(id, options, cachedModel, async (repository) => {
    if (id.file !== undefined)
      return repository.only(id.file, [id.file.replace(/\.[^.]+$/, '.yaml'), 'README.md']);
    if (!repository.has('model_index.json')) throw noModel(id, repository.paths);
    const index = readJson(await repository.get('model_index.json'));
    const needed = neededFiles(id, repository.paths, index);
    const shards: string[] = [];
    for (const path of needed.filter(isIndex))
      shards.push(...shardsOf(id, path, readJson(await repository.get(path))));
    return [...needed, ...shards];
  });
}

/** Downloads an adapter: the file that the id names, else diffusers' or PEFT's own, else the only safetensors file. */
export async function fetchAdapter(text: string, options: FetchOptions = {}): Promise<string> {
  const id = hubId(text);
  return fetched(id, options, cachedAdapter, async (repository) => {
    const beside = ['README.md', 'adapter_config.json'];
    if (id.file !== undefined)
      return repository.only(id.file, [...beside, join(dirname(id.file), 'adapter_config.json')]);
    const files = repository.paths.filter((path) => path.endsWith('.safetensors'));
    const own =
      adapterNames.find((name) => files.includes(name)) ?? (files.length === 1 ? files[0] : undefined);
    if (own !== undefined) return repository.only(own, beside);
    throw new UserError(
      `${hubName(id)}: ${files.length === 0 ? 'the repository holds no safetensors file' : `the repository holds ${files.slice(0, 8).join(', ')}${files.length > 8 ? ', ...' : ''}`} — one is needed${files.length === 0 ? '; others (.bin, .pt, .ckpt) are pickles, which can run code, and are never opened. Use another adapter' : `. Name it: ${hubName({ ...id, file: files[0]! })}`}`,
    );
  });
}

/** @throws UserError naming the checkpoints that the repository holds instead of a folder */
function noModel(id: HubId, paths: readonly string[]): UserError {
  const files = paths.filter((path) => path.endsWith('.safetensors') && !/-\d+-of-\d+/.test(path));
  const pickle = paths.find((path) => /\.(ckpt|bin|pt|pth)$/.test(path));
  const instead =
    files.length > 0
      ? `It holds ${files.slice(0, 8).join(', ')}${files.length > 8 ? ', ...' : ''}: name one, as in ${hubName({ ...id, file: files[0]! })}`
      : pickle !== undefined
        ? `${pickle} is a pickle, which can run code, and is never opened: use a model in safetensors`
        : 'Use another model';
  return new UserError(
    `${hubName(id)}: there is no model_index.json — a model is a folder in diffusers layout, or one .safetensors file. ${instead}`,
  );
}

/** The files of one commit, as a choice among them needs them. */
interface Repository {
  paths: readonly string[];
  has(path: string): boolean;
  /** Downloads a small file now. */
  get(path: string): Promise<string>;
  /** A file, and those beside it that there are. @throws UserError when it is not there */
  only(path: string, beside: readonly string[]): string[];
}

async function fetched(
  id: HubId,
  options: FetchOptions,
  cached: (id: HubId, settings: HubSettings) => string | undefined,
  choose: (repository: Repository) => Promise<string[]>,
): Promise<string> {
  const { settings = hubSettings(), signal, onNotice } = options;
  const known = cached(id, settings);
  const fixed = isCommit(id.revision);
  if (known !== undefined && (fixed || !options.refresh || settings.offline)) return known;
  if (settings.offline) throw offline(id, settings);
  const { listFiles, modelInfo } = await import('@huggingface/hub');
  const connection = new Connection(id, { settings, signal, onNotice });
  const asked = { hubUrl: settings.endpoint, fetch: connection.fetch };
  const { sha: commit } = await own(connection, () =>
    modelInfo({ ...asked, name: id.repo, revision: id.revision, additionalFields: ['sha'] }),
  );
  if (!isCommit(commit ?? ''))
    throw new UserError(
      `${hubName(id)}: ${settings.endpoint} names no commit of ${id.revision} — it does not answer as a hub does. Check HF_ENDPOINT`,
    );
  const files = new Map<string, RemoteFile>();
  await own(connection, async () => {
    for await (const entry of listFiles({ ...asked, repo: id.repo, recursive: true, revision: commit! })) {
      if (entry.type === 'file') files.set(entry.path, remoteFile(id, entry));
    }
  });
  const file = (path: string) => files.get(path)!;
  const needed = await choose({
    paths: [...files.keys()],
    has: (path) => files.has(path),
    get: (path) => download(connection, id, commit!, file(path), { signal }),
    only: (path, beside) => {
      if (files.has(path)) return [path, ...beside.filter((name) => files.has(name))];
      throw new UserError(
        `${hubName(id)}: there is no ${path} in the repository — it holds ${
          [...files.keys()]
            .filter((name) => name.endsWith('.safetensors'))
            .slice(0, 8)
            .join(', ') || 'no safetensors file'
        }. Look on ${settings.endpoint}/${id.repo}/tree/${id.revision}`,
      );
    },
  });
  await downloadAll(connection, id, commit!, [...new Set(needed)].map(file), options);
  writeRef(settings.cache, id, commit!);
  const path = cached({ ...id, revision: commit! }, settings);
  if (path !== undefined) return path;
  throw new UserError(
    `${hubName(id)}: is incomplete after its download — files of ${join(repoFolder(settings.cache, id.repo), 'snapshots', commit!)} were removed meanwhile. Run the command again`,
  );
}

/** Errors of our own, where a library in between has thrown one of its own instead. */
async function own<Value>(connection: Connection, work: () => Promise<Value>): Promise<Value> {
  try {
    return await work();
  } catch (error) {
    throw connection.cause(error);
  }
}

function offline(id: HubId, { cache }: HubSettings): UserError {
  return new UserError(
    `${hubName(id)}: ${cachedCommit(cache, id) === undefined ? 'is not' : 'is not whole'} in ${cache}, and HF_HUB_OFFLINE is set — nothing is downloaded then. Unset it, or download the model elsewhere with \`rldf models add ${hubName(id)}\` and copy ${repoFolder(cache, id.repo)}`,
  );
}

async function downloadAll(
  connection: Connection,
  id: HubId,
  commit: string,
  files: readonly RemoteFile[],
  { signal, onPlan, onProgress }: FetchOptions,
): Promise<void> {
  const { cache, endpoint } = connection.settings;
  const here = new Map(files.map((file) => [file.path, bytesHere(cache, id.repo, commit, file)]));
  const sum = (values: Iterable<number>) => [...values].reduce((total, value) => total + value, 0);
  const plan: DownloadPlan = {
    files: files.length,
    bytes: sum(files.map(({ size }) => size)),
    here: sum(here.values()),
    endpoint,
    cache,
  };
  if (plan.here < plan.bytes) {
    checkRoom(id, plan);
    tag(cache);
    onPlan?.(plan);
  }
  for (const file of files) {
    await download(connection, id, commit, file, {
      signal,
      onBytes: (bytes) => {
        here.set(file.path, bytes);
        onProgress?.(sum(here.values()), plan, file.path);
      },
    });
    here.set(file.path, file.size);
  }
}

function bytesHere(cache: string, repo: string, commit: string, file: RemoteFile): number {
  if (existsSync(pointerOf(cache, repo, commit, file.path))) return file.size;
  const blob = join(repoFolder(cache, repo), 'blobs', file.etag);
  if (existsSync(blob)) return file.size;
  const part = `${blob}.incomplete`;
  return existsSync(part) ? Math.min(file.size, statSync(part).size) : 0;
}

/** @throws UserError when the disk has no room for what is missing */
function checkRoom(id: HubId, { bytes, here, cache }: DownloadPlan): void {
  mkdirSync(cache, { recursive: true });
  const { bavail, bsize } = statfsSync(cache);
  const [free, missing] = [bavail * bsize, bytes - here];
  if (missing <= free) return;
  throw new UserError(
    `${hubName(id)}: ${byteWords(missing)} are missing, and ${cache} has room for ${byteWords(free)} — nothing was downloaded. Make room (\`rldf models list\`, \`rldf models rm\`), or set HF_HUB_CACHE to a folder on another disk`,
  );
}

/** As Python marks it, for tools that make backups. */
function tag(cache: string): void {
  const path = join(cache, 'CACHEDIR.TAG');
  if (!existsSync(path)) writeFileSync(path, 'Signature: 8a477f597d28d172789f06886806bc55\n');
}
