/**
 * TensorBoard event files: TFRecord frames (length, masked CRC-32C, payload, masked CRC-32C) of `Event` protocol
 * buffers: scalars and pictures. `metrics.jsonl` is the truth; this is a copy for people who use TensorBoard.
 */

import { closeSync } from 'node:fs';
import { join } from 'node:path';
import { append, makeFolder, openForAppend } from '@rldf/common/base/files';

/** Writes scalars that `tensorboard --logdir FOLDER` shows. */
export class TensorBoardWriter {
  #descriptor: number | undefined;
  readonly path: string;

  /** @param folder is made if missing; each writer opens a file of its own in it */
  constructor(folder: string, seconds = Date.now() / 1000) {
    makeFolder(folder);
    this.path = join(folder, `events.out.tfevents.${Math.floor(seconds)}.${process.pid}.rldf`);
    this.#descriptor = openForAppend(this.path);
    this.#write(encodeEvent(seconds, 0, bytesField(3, Buffer.from('brain.Event:2'))));
  }

  /** Adds the finite numbers of `values` at `step`. */
  write(step: number, values: Record<string, unknown>, seconds = Date.now() / 1000): void {
    const summary: Buffer[] = [];
    for (const [tag, value] of Object.entries(values)) {
      if (typeof value !== 'number' || !Number.isFinite(value)) continue;
      const scalar = Buffer.alloc(5);
      scalar[0] = (2 << 3) | 5; // field 2, 32-bit: simple_value
      scalar.writeFloatLE(value, 1);
      summary.push(bytesField(1, Buffer.concat([bytesField(1, Buffer.from(tag)), scalar])));
    }
    if (summary.length > 0) this.#write(encodeEvent(seconds, step, bytesField(5, Buffer.concat(summary))));
  }

  /** Adds pictures at `step`, one tag each: TensorBoard then has a slider over the steps. */
  writePictures(step: number, pictures: readonly TaggedPicture[], seconds = Date.now() / 1000): void {
    for (const { tag, width, height, png } of pictures) {
      const size = [Buffer.from([1 << 3]), varint(height), Buffer.from([2 << 3]), varint(width)];
      const image = Buffer.concat([...size, Buffer.from([3 << 3, 3]), bytesField(4, png)]); // 3: RGB
      const value = Buffer.concat([bytesField(1, Buffer.from(tag)), bytesField(4, image)]);
      this.#write(encodeEvent(seconds, step, bytesField(5, bytesField(1, value))));
    }
  }

  close(): void {
    if (this.#descriptor !== undefined) closeSync(this.#descriptor);
    this.#descriptor = undefined;
  }

  #write(event: Buffer): void {
    if (this.#descriptor !== undefined) append(this.#descriptor, this.path, frame(event));
  }
}

export interface TaggedPicture {
  tag: string;
  width: number;
  height: number;
  /** A PNG file's bytes. */
  png: Buffer;
}

/** One TFRecord frame around a payload. */
export function frame(payload: Buffer): Buffer {
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(payload.length));
  return Buffer.concat([length, maskedChecksum(length), payload, maskedChecksum(payload)]);
}

/** CRC-32C (Castagnoli), as TFRecord uses it; `zlib.crc32` is another polynomial. */
export function crc32c(data: Uint8Array): number {
  let crc = 0xffffffff;
  for (const byte of data) crc = (crc >>> 8) ^ table[(crc ^ byte) & 0xff]!;
  return (crc ^ 0xffffffff) >>> 0;
}

const table = Uint32Array.from({ length: 256 }, (_, byte) => {
  let crc = byte;
  for (let bit = 0; bit < 8; bit++) crc = crc & 1 ? (crc >>> 1) ^ 0x82f63b78 : crc >>> 1;
  return crc;
});

function maskedChecksum(data: Uint8Array): Buffer {
  const crc = crc32c(data);
  const masked = Buffer.alloc(4);
  masked.writeUInt32LE((((crc >>> 15) | (crc << 17)) + 0xa282ead8) >>> 0);
  return masked;
}

function encodeEvent(seconds: number, step: number, what: Buffer): Buffer {
  const time = Buffer.alloc(9);
  time[0] = (1 << 3) | 1; // field 1, 64-bit: wall_time
  time.writeDoubleLE(seconds, 1);
  return Buffer.concat([time, Buffer.from([2 << 3]), varint(step), what]); // field 2: step
}

function bytesField(field: number, data: Buffer): Buffer {
  return Buffer.concat([Buffer.from([(field << 3) | 2]), varint(data.length), data]);
}

function varint(value: number): Buffer {
  const bytes: number[] = [];
  let rest = value;
  while (rest >= 0x80) {
    bytes.push((rest % 0x80) | 0x80);
    rest = Math.floor(rest / 0x80);
  }
  bytes.push(rest);
  return Buffer.from(bytes);
}
