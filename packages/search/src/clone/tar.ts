/** Tar archives (POSIX ustar) of small files in memory: the shards of WebDataset. */

import { InternalError, UserError } from '@rldf/torch/errors';

export interface TarEntry {
  /** At most 100 bytes. */
  name: string;
  data: Uint8Array;
}

const block = 512;

/** The whole archive. Times, users and rights are fixed, so that equal entries give equal bytes. */
export function tar(entries: readonly TarEntry[]): Buffer {
  const parts = entries.flatMap(({ name, data }) => {
    const padding = (block - (data.length % block)) % block;
    return [header(name, data.length), Buffer.from(data), Buffer.alloc(padding)];
  });
  return Buffer.concat([...parts, Buffer.alloc(2 * block)]);
}

function header(name: string, size: number): Buffer {
  if (Buffer.byteLength(name) > 100) throw new InternalError(`tar: the name ${name} has more than 100 bytes`);
  const bytes = Buffer.alloc(block);
  const octal = (value: number, offset: number, length: number) =>
    bytes.write(`${value.toString(8).padStart(length - 1, '0')}\0`, offset);
  bytes.write(name, 0);
  octal(0o644, 100, 8);
  octal(0, 108, 8);
  octal(0, 116, 8);
  octal(size, 124, 12);
  octal(0, 136, 12);
  bytes.write('        ', 148); // the checksum is taken over spaces in its own place
  bytes.write('0', 156);
  bytes.write('ustar\x0000', 257);
  const checksum = bytes.reduce((sum, byte) => sum + byte, 0);
  bytes.write(`${checksum.toString(8).padStart(6, '0')}\0 `, 148);
  return bytes;
}

/**
 * The regular files of an archive, in order.
 * @param where names it in errors
 * @throws UserError when it is cut off or damaged
 */
export function untar(bytes: Buffer, where: string): TarEntry[] {
  const damaged = (at: number, what: string) =>
    new UserError(`${where}: damaged at byte ${at}: ${what} — not a whole tar archive. Make it again`);
  const entries: TarEntry[] = [];
  for (let at = 0; ; ) {
    if (at + block > bytes.length) throw damaged(at, 'it ends without an end mark');
    const head = bytes.subarray(at, at + block);
    if (head.every((byte) => byte === 0)) return entries;
    const text = (from: number, length: number) => head.toString('utf8', from, from + length).split('\0')[0]!;
    const size = Number.parseInt(text(124, 12), 8);
    const sum = head.reduce((total, byte, i) => total + (i >= 148 && i < 156 ? 32 : byte), 0);
    if (Number.parseInt(text(148, 8), 8) !== sum || !(size >= 0)) throw damaged(at, 'a header is no header');
    const start = at + block;
    if (start + size > bytes.length) throw damaged(at, `${text(0, 100)} is cut off`);
    const regular = ['0', ''].includes(text(156, 1));
    const folder = text(257, 5) === 'ustar' && text(345, 155) !== '' ? `${text(345, 155)}/` : '';
    if (regular)
      entries.push({ name: `${folder}${text(0, 100)}`, data: bytes.subarray(start, start + size) });
    at = start + Math.ceil(size / block) * block;
  }
}
