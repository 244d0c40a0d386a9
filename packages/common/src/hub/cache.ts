/**
 * The cache of a hub's files, as Python's huggingface_hub lays it out: `models--owner--name/` with the files by their hashes in
 * `blobs/`, links to them in `snapshots/COMMIT/`, and the commits of branches and tags in `refs/`.
 */

import { existsSync, lstatSync, readdirSync, readlinkSync, realpathSync, rmSync, statSync } from 'node:fs';
import { dirname, join, relative, resolve } from 'node:path';
import { UserError } from '@rldf/torch/errors';
import { readTextIfThere } from '../base/files.js';
import { type HubId, hubName } from './id.js';

export const isCommit = (revision: string): boolean => /^[0-9a-f]{40}$/.test(revision);

export const repoFolder = (cache: string, repo: string): string =>
  join(cache, `models--${repo.replaceAll('/', '--')}`);

/** The commit that a revision stood for when it was last asked for. */
export function cachedCommit(cache: string, { repo, revision }: HubId): string | undefined {
  const commit = isCommit(revision)
    ? revision
    : readTextIfThere(join(repoFolder(cache, repo), 'refs', revision))?.trim();
  return commit !== undefined && isCommit(commit) ? commit : undefined;
}

/** The folder of what is here of a revision; undefined if there is none. */
export function cachedSnapshot(cache: string, id: HubId): string | undefined {
  const commit = cachedCommit(cache, id);
  if (commit === undefined) return undefined;
  const folder = join(repoFolder(cache, id.repo), 'snapshots', commit);
  return existsSync(folder) ? folder : undefined;
}

export interface CachedRevision {
  commit: string;
  /** Branches and tags that stand for it. */
  refs: string[];
  folder: string;
  files: string[];
  bytes: number;
}

export interface CachedRepo {
  repo: string;
  folder: string;
  revisions: CachedRevision[];
  /** Of all its files, each counted once; `unfinished` of downloads that were cut off, among them. */
  bytes: number;
  unfinished: number;
}

/** Everything of models that is in the cache, by name. */
export function listCached(cache: string): CachedRepo[] {
  if (!existsSync(cache)) return [];
  return readdirSync(cache)
    .filter((name) => /^models--[^-].*--/.test(name))
    .sort()
    .map((name) => describe(join(cache, name), name.slice('models--'.length).replace('--', '/')));
}

function describe(folder: string, repo: string): CachedRepo {
  const refs = new Map<string, string[]>();
  for (const path of filesBelow(join(folder, 'refs'))) {
    const commit = readTextIfThere(path)?.trim() ?? '';
    const name = relative(join(folder, 'refs'), path).replaceAll('\\', '/');
    refs.set(commit, [...(refs.get(commit) ?? []), name]);
  }
  const snapshots = join(folder, 'snapshots');
  const revisions = (existsSync(snapshots) ? readdirSync(snapshots) : []).map((commit): CachedRevision => {
    const at = join(snapshots, commit);
    const paths = filesBelow(at).filter(existsSync);
    return {
      commit,
      refs: refs.get(commit) ?? [],
      folder: at,
      files: paths.map((path) => relative(at, path).replaceAll('\\', '/')).sort(),
      bytes: paths.reduce((sum, path) => sum + statSync(path).size, 0),
    };
  });
  const all = filesBelow(folder).filter((path) => !lstatSync(path).isSymbolicLink());
  const size = (paths: readonly string[]) => paths.reduce((sum, path) => sum + statSync(path).size, 0);
  const unfinished = all.filter((path) => path.endsWith('.incomplete'));
  return { repo, folder, revisions, bytes: size(all), unfinished: size(unfinished) };
}

/** Files and links below a folder, in no special order. */
function filesBelow(folder: string): string[] {
  if (!existsSync(folder)) return [];
  return readdirSync(folder, { withFileTypes: true }).flatMap((entry) => {
    const path = join(folder, entry.name);
    return entry.isDirectory() ? filesBelow(path) : [path];
  });
}

/**
 * Removes a repository, or one revision of it and the files that no other revision links to.
 * @returns bytes that are free now
 * @throws UserError when it is not in the cache
 */
export function removeCached(cache: string, id: HubId): number {
  const found = listCached(cache).find(({ repo }) => repo === id.repo);
  if (found === undefined)
    throw new UserError(
      `${hubName(id)}: is not in ${cache} — nothing was removed. \`rldf models list\` shows what is`,
    );
  const commit = id.revision === 'main' ? undefined : cachedCommit(cache, id);
  const revision = found.revisions.find((one) => one.commit === commit);
  if (id.revision !== 'main' && revision === undefined)
    throw new UserError(
      `${hubName(id)}: there is no such revision of it in ${cache} — here are: ${found.revisions.map((one) => [one.commit.slice(0, 12), ...one.refs].join(' = ')).join(', ') || 'none'}. Name one of these, or none for all`,
    );
  if (revision === undefined || found.revisions.length === 1) {
    rmSync(found.folder, { recursive: true });
    rmSync(join(cache, '.locks', `models--${id.repo.replaceAll('/', '--')}`), {
      recursive: true,
      force: true,
    });
    return found.bytes;
  }
  const others = new Set(
    found.revisions.filter((one) => one !== revision).flatMap(({ folder }) => filesBelow(folder).map(target)),
  );
  const own = filesBelow(revision.folder).map(target);
  for (const ref of revision.refs) rmSync(join(found.folder, 'refs', ref));
  rmSync(revision.folder, { recursive: true });
  let bytes = 0;
  for (const blob of new Set(own)) {
    if (others.has(blob) || !blob.startsWith(`${realpathSync(found.folder)}`) || !existsSync(blob)) continue;
    bytes += statSync(blob).size;
    rmSync(blob);
  }
  return bytes;
}

/** What a link points at, whether it is there or not; a file itself. */
function target(path: string): string {
  const at = lstatSync(path).isSymbolicLink() ? resolve(dirname(path), readlinkSync(path)) : path;
  return existsSync(at) ? realpathSync(at) : at;
}
