/** One file of a repository into the cache: continued where it stopped, checked against the hub's hash, and then put in place. */

import { createHash, type Hash } from 'node:crypto';
import {
  closeSync,
  copyFileSync,
  createReadStream,
  existsSync,
  mkdirSync,
  openSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { hostname } from 'node:os';
import { dirname, join, relative } from 'node:path';
import type { ListFileEntry } from '@huggingface/hub';
import { UserError } from '@rldf/torch/errors';
import { replaceFile } from '../base/files.js';
import { isCommit, repoFolder } from './cache.js';
import { type Connection, Interrupted } from './connection.js';
import { type HubId, hubName, isPlainPath } from './id.js';

/** A file of one commit. */
export interface RemoteFile {
  path: string;
  size: number;
  /** Its name among the blobs; of large files the SHA-256, of others git's hash. */
  etag: string;
  check: 'sha256' | 'git' | 'size';
}

/** @throws UserError for what would be put elsewhere than into the cache */
export function remoteFile(id: HubId, { path, size, oid, lfs, xetHash }: ListFileEntry): RemoteFile {
  const etag = lfs?.oid ?? oid ?? '';
  if (!isPlainPath(path) || !/^([0-9a-f]{40}|[0-9a-f]{64})$/.test(etag) || !Number.isSafeInteger(size))
    throw new UserError(
      `${hubName(id)}: the hub lists a file ${JSON.stringify(path)} with the hash ${JSON.stringify(etag)} — neither may lead out of the cache. Use another model`,
    );
  return { path, size, etag, check: lfs ? 'sha256' : xetHash ? 'size' : 'git' };
}

/** Where a commit's file is in the cache. */
export const pointerOf = (cache: string, repo: string, commit: string, path: string): string =>
  join(repoFolder(cache, repo), 'snapshots', commit, ...path.split('/'));

/** Notes the commit of a branch or tag. */
export function writeRef(cache: string, { repo, revision }: HubId, commit: string): void {
  if (isCommit(revision)) return;
  const path = join(repoFolder(cache, repo), 'refs', ...revision.split('/'));
  if (existsSync(path) && readFileSync(path, 'utf8') === commit) return;
  mkdirSync(dirname(path), { recursive: true });
  replaceFile(path, commit);
}

/** Times that a broken connection may bring nothing new. */
const barren = 5;
/** A connection that brings nothing for so long counts as broken. */
const silentMs = 60_000;

/**
 * @param onBytes told how many bytes of the file are here; falls back when a damaged beginning is thrown away
 * @returns the path in the snapshot
 * @throws UserError when the hub refuses, the hash is wrong twice, or nothing comes any more; what came is kept
 */
export async function download(
  connection: Connection,
  id: HubId,
  commit: string,
  file: RemoteFile,
  { signal, onBytes }: { signal?: AbortSignal | undefined; onBytes?: (bytes: number) => void } = {},
): Promise<string> {
  const { cache, wait } = connection.settings;
  const pointer = pointerOf(cache, id.repo, commit, file.path);
  const blob = join(repoFolder(cache, id.repo), 'blobs', file.etag);
  const part = `${blob}.incomplete`;
  if (existsSync(pointer)) return pointer;
  mkdirSync(dirname(blob), { recursive: true });
  const release = await takeFile(part, wait, signal);
  try {
    if (!existsSync(blob)) {
      await bring(connection, id, commit, file, part, { signal, onBytes });
      renameSync(part, blob);
    }
    link(blob, pointer);
    return pointer;
  } finally {
    release();
  }
}

async function bring(
  connection: Connection,
  id: HubId,
  commit: string,
  file: RemoteFile,
  part: string,
  { signal, onBytes }: { signal: AbortSignal | undefined; onBytes: ((bytes: number) => void) | undefined },
): Promise<void> {
  let failures = 0;
  let plainly = file.check === 'git' || !connection.settings.xet;
  for (let wrong = 0; ; ) {
    if (sizeOf(part) > file.size) rmSync(part);
    const before = sizeOf(part);
    let cause: unknown = new Error('it ended early');
    try {
      await append(connection, id, commit, file, part, plainly, signal, onBytes);
    } catch (error) {
      cause = connection.cause(error);
      signal?.throwIfAborted();
      if (cause instanceof Interrupted) rmSync(part, { force: true });
      else if ((cause instanceof UserError && plainly) || isLocal(cause)) throw cause;
    }
    if (sizeOf(part) < file.size || !existsSync(part)) {
      plainly = true; // HTTP may do what the hub's own protocol did not
      failures = sizeOf(part) > before ? 0 : failures + 1;
      if (failures >= barren) throw broken(id, file, part, cause);
      await connection.settings.wait(2 ** failures, signal);
      continue;
    }
    const found = await hashOf(part, file);
    if (found === file.etag || file.check === 'size') return;
    rmSync(part);
    onBytes?.(0);
    wrong++;
    if (wrong === 2)
      throw new UserError(
        `${hubName(id)}: ${file.path} came with the hash ${found} twice — it must be ${file.etag}. Nothing of it was kept; the hub, or something between, damages it: try again later, or another HF_ENDPOINT`,
      );
  }
}

/**
 * Adds to a file what is missing at its end.
 * @param plainly by HTTP alone, without asking for the hub's own protocol
 */
async function append(
  connection: Connection,
  id: HubId,
  commit: string,
  file: RemoteFile,
  part: string,
  plainly: boolean,
  signal: AbortSignal | undefined,
  onBytes: ((bytes: number) => void) | undefined,
): Promise<void> {
  const { endpoint } = connection.settings;
  const url = `${endpoint}/${id.repo}/resolve/${commit}/${file.path.split('/').map(encodeURIComponent).join('/')}`;
  let position = sizeOf(part);
  const descriptor = openSync(part, 'a');
  try {
    if (position === file.size) return;
    const { downloadFile } = await import('@huggingface/hub');
    const content = await downloadFile({
      ...{ repo: id.repo, path: file.path, revision: commit, hubUrl: endpoint, fetch: connection.fetch },
      ...(plainly && { downloadInfo: { url, size: file.size, etag: file.etag }, xet: false }),
    });
    if (content === null || content.size !== file.size)
      throw new UserError(
        `${hubName(id)}: ${file.path} has ${content?.size ?? 'no'} bytes — the hub lists ${file.size}. Run the command again`,
      );
    const rest = position === 0 ? content : content.slice(position);
    const reader = rest.stream().getReader();
    try {
      for (;;) {
        const { done, value } = await withinTime(reader.read(), signal);
        if (done) return;
        writeSync(descriptor, value);
        position += value.length;
        if (position > file.size) throw new Interrupted(`${file.path}: more than ${file.size} bytes came`);
        onBytes?.(position);
        signOfLife(part);
      }
    } finally {
      reader.cancel().catch(() => {});
    }
  } finally {
    closeSync(descriptor);
  }
}

/** @throws Error when nothing came for too long, or the signal was given */
async function withinTime<Value>(work: Promise<Value>, signal: AbortSignal | undefined): Promise<Value> {
  let timer: NodeJS.Timeout | undefined;
  let stop: (() => void) | undefined;
  const over = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error(`nothing came for ${silentMs / 1000} s`)), silentMs);
    stop = () => reject(signal?.reason);
    signal?.addEventListener('abort', stop, { once: true });
  });
  try {
    return await Promise.race([work, over]);
  } finally {
    clearTimeout(timer);
    if (stop) signal?.removeEventListener('abort', stop);
  }
}

const sizeOf = (path: string) => (existsSync(path) ? statSync(path).size : 0);

/** A full disk or a folder that cannot be written is not helped by another try. */
const isLocal = (error: unknown) =>
  ['ENOSPC', 'EDQUOT', 'EACCES', 'EROFS', 'EPERM', 'EIO'].includes(
    (error as NodeJS.ErrnoException)?.code ?? '',
  );

function broken(id: HubId, file: RemoteFile, part: string, cause: unknown): UserError {
  const message = cause instanceof Error ? cause.message : String(cause);
  return new UserError(
    `${hubName(id)}: the connection broke ${barren} times at byte ${sizeOf(part)} of ${file.size} of ${file.path} (${message}) — what has come is kept. Run the command again: it goes on there`,
    { cause },
  );
}

/** As the hub counts: SHA-256 of the bytes, or git's SHA-1 of a blob. */
async function hashOf(path: string, { size, check }: RemoteFile): Promise<string> {
  const hash: Hash = check === 'git' ? createHash('sha1').update(`blob ${size}\0`) : createHash('sha256');
  for await (const chunk of createReadStream(path, { highWaterMark: 1 << 20 })) hash.update(chunk as Buffer);
  return hash.digest('hex');
}

/** The snapshot's link to a blob; where the system has no links, the file itself, as Python does it. */
function link(blob: string, pointer: string): void {
  mkdirSync(dirname(pointer), { recursive: true });
  rmSync(pointer, { force: true });
  try {
    symlinkSync(relative(dirname(pointer), blob), pointer);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'EEXIST') return; // another process was faster
    copyFileSync(blob, pointer);
  }
}

/** A lock of a process that gave no sign of life for so long is of none. */
const silenceMs = 120_000;

/**
 * Waits until no other process downloads the file. The lock is a file beside it, renewed while bytes come.
 * @returns releases it
 */
async function takeFile(
  part: string,
  wait: (seconds: number, signal?: AbortSignal) => Promise<void>,
  signal: AbortSignal | undefined,
): Promise<() => void> {
  const lock = `${part}.lock`;
  for (;;) {
    try {
      writeFileSync(lock, `${process.pid} ${hostname()}\n`, { flag: 'wx' });
      return () => rmSync(lock, { force: true });
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
    }
    if (isDead(lock)) rmSync(lock, { force: true });
    else await wait(1, signal);
  }
}

function isDead(lock: string): boolean {
  try {
    const [pid, host] = readFileSync(lock, 'utf8').trim().split(' ');
    if (Date.now() - statSync(lock).mtimeMs > silenceMs) return true;
    if (host !== hostname() || pid === undefined) return false;
    process.kill(Number(pid), 0);
    return false;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'ESRCH';
  }
}

const renewals = new Map<string, number>();

function signOfLife(part: string): void {
  const now = Date.now();
  if (now - (renewals.get(part) ?? 0) < 10_000) return;
  renewals.set(part, now);
  try {
    utimesSync(`${part}.lock`, now / 1000, now / 1000);
  } catch {}
}
