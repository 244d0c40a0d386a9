/**
 * PNG files that carry their settings: an iTXt chunk `parameters` for people and other tools, one `rldf` with JSON.
 * sharp cannot write text chunks, so they are put in between its header and its pixels.
 */

import { UserError } from '@rldf/torch/errors';
import sharp from 'sharp';
import { jsonText } from '../base/exact.js';
import type { Picture } from '../base/picture.js';

const signature = Buffer.from([0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a]);

/** Texts of a PNG by keyword. */
export type PngTexts = Record<string, string>;

/** A picture as a PNG file with texts inside. */
export async function encodePng(picture: Picture, texts: PngTexts = {}): Promise<Buffer> {
  const { width, height, channels, data } = picture;
  const file = await sharp(data, { raw: { width, height, channels } }).png().toBuffer();
  return insertTexts(file, texts);
}

/** The texts for a drawn picture: one readable line a setting, and all of them as JSON. */
export function settingsTexts(settings: Record<string, unknown>): PngTexts {
  const lines = Object.entries(settings).map(
    ([key, value]) => `${key}: ${typeof value === 'string' ? value : jsonText(value)}`,
  );
  return { parameters: lines.join('\n'), rldf: jsonText(settings) };
}

/** Adds iTXt chunks (UTF-8, uncompressed) behind the header chunk of a PNG file. */
export function insertTexts(file: Uint8Array, texts: PngTexts): Buffer {
  const bytes = Buffer.from(file.buffer, file.byteOffset, file.length);
  const header = chunksOf(bytes)[0];
  if (header?.type !== 'IHDR') throw new UserError('PNG: no IHDR chunk at its start — not a PNG file');
  const added = Object.entries(texts).map(([keyword, text]) => {
    if (!/^[\x20-\x7e]{1,79}$/.test(keyword)) {
      throw new UserError(`PNG: keyword "${keyword}" — must be 1 to 79 printable ASCII characters`);
    }
    // keyword, 0, compression flag, compression method, language tag 0, translated keyword 0, text
    return chunk('iTXt', Buffer.concat([Buffer.from(keyword), Buffer.alloc(5), Buffer.from(text)]));
  });
  return Buffer.concat([bytes.subarray(0, header.end), ...added, bytes.subarray(header.end)]);
}

/** All tEXt and uncompressed iTXt texts of a PNG file. @throws UserError if it is not a whole PNG file */
export function readTexts(file: Uint8Array): PngTexts {
  const texts: PngTexts = {};
  for (const { type, data } of chunksOf(Buffer.from(file.buffer, file.byteOffset, file.length))) {
    const zero = data.indexOf(0);
    if (zero < 1) continue;
    const keyword = data.toString('latin1', 0, zero);
    if (type === 'tEXt') texts[keyword] = data.toString('latin1', zero + 1);
    if (type === 'iTXt' && data[zero + 1] === 0) {
      const language = data.indexOf(0, zero + 3);
      texts[keyword] = data.toString('utf8', data.indexOf(0, language + 1) + 1);
    }
  }
  return texts;
}

/** CRC-32 of PNG (polynomial 0xedb88320). */
export function crc32(data: Uint8Array): number {
  let crc = 0xffffffff;
  for (const byte of data) crc = (crc >>> 8) ^ table[(crc ^ byte) & 0xff]!;
  return (crc ^ 0xffffffff) >>> 0;
}

const table = Uint32Array.from({ length: 256 }, (_, byte) => {
  let crc = byte;
  for (let bit = 0; bit < 8; bit++) crc = crc & 1 ? (crc >>> 1) ^ 0xedb88320 : crc >>> 1;
  return crc;
});

function chunk(type: string, data: Buffer): Buffer {
  const body = Buffer.concat([Buffer.from(type), data]);
  const framed = Buffer.alloc(body.length + 8);
  framed.writeUInt32BE(data.length);
  body.copy(framed, 4);
  framed.writeUInt32BE(crc32(body), body.length + 4);
  return framed;
}

function chunksOf(file: Buffer): { type: string; data: Buffer; end: number }[] {
  if (!file.subarray(0, 8).equals(signature)) throw new UserError('PNG: wrong signature — not a PNG file');
  const chunks: { type: string; data: Buffer; end: number }[] = [];
  for (let offset = 8; offset < file.length; ) {
    const end = offset + 12 + (offset + 8 <= file.length ? file.readUInt32BE(offset) : file.length);
    if (end > file.length) throw new UserError('PNG: the last chunk is cut off — the file is damaged');
    chunks.push({
      type: file.toString('latin1', offset + 4, offset + 8),
      data: file.subarray(offset + 8, end - 4),
      end,
    });
    offset = end;
  }
  return chunks;
}
