import { mkdtempSync, readFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { crc32c, TensorBoardWriter } from './tensorboard.js';

test('CRC-32C of the standard check string', () => {
  expect(crc32c(Buffer.from('123456789'))).toBe(0xe3069283);
});

test('an event file is framed and encoded byte for byte', () => {
  const writer = new TensorBoardWriter(mkdtempSync(join(tmpdir(), 'rldf-tensorboard-')), 1);
  writer.write(300, { 'a/b': 1.5, skipped: 'text', alsoSkipped: Number.NaN }, 2);
  writer.close();
  const file = readFileSync(writer.path);
  const events: Buffer[] = [];
  for (let offset = 0; offset < file.length; ) {
    const length = Number(file.readBigUInt64LE(offset));
    const masked = (data: Buffer) => {
      const crc = crc32c(data);
      return (((crc >>> 15) | (crc << 17)) + 0xa282ead8) >>> 0;
    };
    expect(file.readUInt32LE(offset + 8)).toBe(masked(file.subarray(offset, offset + 8)));
    const event = file.subarray(offset + 12, offset + 12 + length);
    expect(file.readUInt32LE(offset + 12 + length)).toBe(masked(event));
    events.push(event);
    offset += 16 + length;
  }
  // wall_time 1.0, step 0, file_version "brain.Event:2"
  expect(events[0]!.toString('hex')).toBe(
    `09000000000000f03f10001a0d${Buffer.from('brain.Event:2').toString('hex')}`,
  );
  // wall_time 2.0, step 300, summary { value { tag "a/b", simple_value 1.5 } }
  expect(events[1]!.toString('hex')).toBe('09000000000000004010ac022a0c0a0a0a03612f62150000c03f');
  expect(events).toHaveLength(2);
});

test('a picture is a summary with size, colours and the PNG itself', () => {
  const writer = new TensorBoardWriter(mkdtempSync(join(tmpdir(), 'rldf-tensorboard-')), 1);
  writer.writePictures(5, [{ tag: 'v', width: 64, height: 300, png: Buffer.from('PNG') }], 2);
  writer.close();
  const file = readFileSync(writer.path);
  const first = Number(file.readBigUInt64LE(0)) + 16;
  const event = file.subarray(first + 12, first + 12 + Number(file.readBigUInt64LE(first)));
  // wall_time 2.0, step 5, summary { value { tag "v", image { height 300, width 64, colorspace 3 (RGB), encoded_image_string "PNG" } } }
  const image = `08ac02104018032203${Buffer.from('PNG').toString('hex')}`;
  expect(event.toString('hex')).toBe(`09000000000000004010052a130a110a0176220c${image}`);
});
