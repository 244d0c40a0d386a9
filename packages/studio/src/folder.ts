/**
 * The runs folder, the only place files are read from. Names from outside become paths here and nowhere else: a path is good
 * when its real path, every link followed, lies in the real runs folder.
 */

import { createHmac, randomBytes, timingSafeEqual } from 'node:crypto';
import { constants, lstatSync, mkdirSync, readFileSync, realpathSync, rmSync, writeFileSync } from 'node:fs';
import { open, realpath, stat } from 'node:fs/promises';
import { join, relative, resolve, sep } from 'node:path';
import type { FileId } from './api.js';
import { isMissing, notFound } from './problem.js';

/** Where the server keeps its own: token, drawn pictures, exports. */
export const ownFolder = '.studio';

export class RunsFolder {
  /** Absolute, links followed. */
  readonly path: string;
  readonly #key = randomBytes(32);

  /** @param given as it was named, for commands that are shown */
  constructor(readonly given: string) {
    mkdirSync(given, { recursive: true });
    this.path = realpathSync(given);
  }

  /** `reproduce~ddpo~seed1` is the folder `reproduce/ddpo/seed1`. @throws Problem for ids that are none */
  pathOfId(id: string): string {
    const parts = id.split('~');
    if (parts.length > 6 || parts.some((part) => !/^[A-Za-z0-9][A-Za-z0-9._-]{0,199}$/.test(part)))
      throw notFound(
        `${JSON.stringify(id.slice(0, 80))}: no such run — ids are folder names below the runs folder`,
      );
    return join(this.path, ...parts);
  }

  idOf(path: string): string {
    return relative(this.path, path).split(sep).join('~');
  }

  /** As it can be typed where the server was started. */
  shown(path: string): string {
    return join(this.given, relative(this.path, path));
  }

  /** Whether a path lies in the runs folder when all links are followed. @returns its real path */
  async inside(path: string): Promise<string> {
    const real = await realpath(path).catch((error) => {
      if (isMissing(error)) throw notFound('that file is gone — reload the page');
      throw error;
    });
    if (real !== this.path && !real.startsWith(this.path + sep))
      throw notFound('that file is not in the runs folder — links that lead out of it are not followed');
    return real;
  }

  /** Opens a file to read: a folder, a device or what lies outside is refused. The caller closes it. */
  async open(path: string) {
    const real = await this.inside(path);
    const handle = await open(
      real,
      constants.O_RDONLY | (constants.O_NOFOLLOW ?? 0) | (constants.O_NONBLOCK ?? 0),
    );
    const info = await handle.stat();
    if (info.isFile()) return { handle, info };
    await handle.close();
    throw notFound('that is not a plain file');
  }

  /** A whole file as text; undefined when it is not there. */
  async text(path: string, mostBytes = 32 << 20): Promise<string | undefined> {
    try {
      const { handle, info } = await this.open(path);
      try {
        return info.size > mostBytes ? undefined : await handle.readFile('utf8');
      } finally {
        await handle.close();
      }
    } catch {
      return undefined;
    }
  }

  /** A whole file as JSON; undefined when it is not there or half-written. */
  async json<T>(path: string): Promise<T | undefined> {
    const text = await this.text(path);
    try {
      return text === undefined ? undefined : (JSON.parse(text) as T);
    } catch {
      return undefined;
    }
  }

  /** An id by which the page may ask for a file: its place, signed, so that no other can be asked for. */
  idOfFile(path: string): FileId {
    const place = Buffer.from(relative(this.path, path)).toString('base64url');
    return `${place}.${this.#sign(place)}`;
  }

  /** @throws Problem for ids that this server has not given */
  pathOfFile(id: FileId): string {
    const [place = '', signature = '', ...rest] = id.split('.');
    const expected = Buffer.from(this.#sign(place));
    const found = Buffer.from(signature);
    if (rest.length > 0 || found.length !== expected.length || !timingSafeEqual(found, expected))
      throw notFound('no such file — ids hold until the server ends. Reload the page');
    return resolve(this.path, Buffer.from(place, 'base64url').toString());
  }

  /** A place of the server's own in the runs folder. */
  own(...parts: string[]): string {
    return join(this.path, ownFolder, ...parts);
  }

  /** The token: kept, so that a page outlives a restart; readable by its owner alone. */
  token(): string {
    const file = this.own('token');
    if (isPrivate(file)) {
      const kept = readFileSync(file, 'utf8').trim();
      if (/^[A-Za-z0-9_-]{43}$/.test(kept)) return kept;
    }
    rmSync(file, { force: true }); // what others could read, or have put there, is no secret
    const token = randomBytes(32).toString('base64url');
    mkdirSync(this.own(), { recursive: true, mode: 0o700 });
    writeFileSync(file, `${token}\n`, { mode: 0o600 });
    return token;
  }

  #sign(place: string): string {
    return createHmac('sha256', this.#key).update(place).digest('base64url').slice(0, 22);
  }
}

/** A plain file that its owner, who runs this, alone can read. */
function isPrivate(file: string): boolean {
  const info = lstatSync(file, { throwIfNoEntry: false });
  if (info === undefined || !info.isFile()) return false;
  return process.getuid === undefined || (info.uid === process.getuid() && (info.mode & 0o077) === 0);
}

/** Size, time of change and identity of a file; undefined when it is not there. */
export async function factsOf(
  path: string,
): Promise<{ size: number; changed: number; ino: number } | undefined> {
  try {
    const info = await stat(path);
    return { size: info.size, changed: info.mtimeMs, ino: info.ino };
  } catch {
    return undefined;
  }
}
