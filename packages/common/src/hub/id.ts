/** What names something on a hub: `owner/name`, with a revision, a file or a variant. */

import { existsSync } from 'node:fs';
import { UserError } from '@rldf/torch/errors';

export interface HubId {
  /** `owner/name` */
  repo: string;
  /** Branch, tag or commit. */
  revision: string;
  /** A file of the repository, where not the whole model is meant. */
  file?: string;
  /** Which of several sets of weights, such as fp16. */
  variant?: string;
}

const NAME = /^[A-Za-z0-9][A-Za-z0-9._-]*$/;
const PAGES =
  /^https?:\/\/(?:www\.)?(?:huggingface\.co|hf\.co)\/([^/]+\/[^/]+)(?:\/(?:blob|resolve|tree)\/([^?#]+))?(?:[?#].*)?$/;

/**
 * `owner/name`, `owner/name@v1.0`, `owner/name:fp16`, `owner/name/folder/file.safetensors`; also with `hf://` in front, or the
 * address of a page of the hub. Undefined for what cannot be one, such as a path that begins with `.` or `/`.
 */
export function parseHubId(text: string): HubId | undefined {
  const plain = text.replace(/^hf:\/\//, '');
  const page = PAGES.exec(plain);
  if (page !== null) {
    const [, repo, place = 'main'] = page;
    const [revision, ...path] = splitRevision(decodeURIComponent(place));
    return checked(repo!, revision, path.join('/'), undefined);
  }
  const [, owner, name, rest = '', variant] =
    /^([^/@:\s]+)\/([^/@:\s]+)((?:@|\/)[^:\s]+)?(?::([A-Za-z0-9_]+))?$/.exec(plain) ?? [];
  if (owner === undefined) return undefined;
  const [revision, ...path] = rest.startsWith('@')
    ? splitRevision(rest.slice(1))
    : ['main', ...rest.split('/').slice(1)];
  return checked(`${owner}/${name}`, revision, path.join('/'), variant);
}

/** `refs/pr/4` is a revision; else the revision ends at the first slash. */
function splitRevision(text: string): [revision: string, ...path: string[]] {
  const parts = text.split('/');
  const length = parts[0] === 'refs' && parts.length > 2 ? 3 : 1;
  return [parts.slice(0, length).join('/'), ...parts.slice(length)];
}

function checked(
  repo: string,
  revision: string,
  file: string,
  variant: string | undefined,
): HubId | undefined {
  const [owner = '', name = ''] = repo.split('/');
  const bad = (part: string) => !NAME.test(part) || part.includes('--') || part.includes('..');
  if (bad(owner) || bad(name) || repo.length > 96) return undefined;
  if (!/^[A-Za-z0-9][A-Za-z0-9._/-]*$/.test(revision) || !isPlainPath(revision)) return undefined;
  if (file !== '' && !isPlainPath(file)) return undefined;
  return {
    repo,
    revision,
    ...(file !== '' && { file }),
    ...(variant !== undefined && { variant }),
  };
}

/** Whether a repository's path stays below the folder it is put into, on any system. */
export function isPlainPath(path: string): boolean {
  const parts = path.split('/');
  return parts.every(
    (part) =>
      part !== '' && part !== '.' && part !== '..' && !/^[A-Za-z]:/.test(part) && !/[\\\0]/.test(part),
  );
}

/**
 * Whether a text can only be an id of a hub: nothing that it names, nor the folder that it begins with, is here.
 */
export function isRemote(text: string): boolean {
  const id = parseHubId(text);
  return id !== undefined && !existsSync(text) && !existsSync(text.split(/[/@:]/)[0]!);
}

/** As a user writes it. */
export function hubName({ repo, revision, file, variant }: HubId): string {
  return `${repo}${revision === 'main' ? '' : `@${revision}`}${file ? `/${file}` : ''}${variant ? `:${variant}` : ''}`;
}

/** @throws UserError for what cannot be an id */
export function hubId(text: string): HubId {
  const id = parseHubId(text);
  if (id !== undefined) return id;
  throw new UserError(
    `${text}: is no id of a hub — expected owner/name, owner/name@revision, owner/name:variant or owner/name/file.safetensors. Write it as on the model's page`,
  );
}
