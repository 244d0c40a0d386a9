import { mkdtempSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { tensorOfPictures } from '@rldf/common/base/picture';
import { describe, expect, test } from 'vitest';
import { hasPeer } from '../../base/peers.js';
import { zeroShotDetectorSchema } from '../../config/detector-fields.js';
import { detectedReward } from '../detected.js';
import { openDetector } from './index.js';

// made by test/onnx/make.py: the logit of a phrase for a cell of 4 x 4 pixels is 10 x the channel that it names - 5
const zeroShot = fileURLToPath(new URL('../../../../../test/onnx/owl', import.meta.url));
const field = (fields: object = {}) =>
  zeroShotDetectorSchema.parse({ zeroShot, labels: ['red', 'blue'], threshold: 0.5, ...fields });
const images = () => {
  const data = new Uint8Array(8 * 8 * 3);
  for (let y = 0; y < 8; y++) {
    for (let x = 0; x < 8; x++)
      data.set(y < 4 && x < 4 ? [255, 0, 0] : y >= 4 && x >= 4 ? [0, 0, 255] : [0, 0, 0], (y * 8 + x) * 3);
  }
  return tensorOfPictures([{ width: 8, height: 8, channels: 3, data }]);
};
const installed = hasPeer('@huggingface/transformers');

test('it looks for what is named', () => {
  expect(openDetector(field()).labels).toEqual(['red', 'blue']);
});

test.skipIf(installed)('without the package, the command that installs it is told', async () => {
  await expect(openDetector(field()).ready!()).rejects.toThrow(
    /the package @huggingface\/transformers is not installed — it runs zero-shot detectors, .*`npm install @huggingface\/transformers`/,
  );
});

// skipped where the optional package is not installed; docs/guide-rewards.md has the command
describe.skipIf(!installed)('with @huggingface/transformers', () => {
  const sure = 1 / (1 + Math.exp(-5));

  test('phrases become labels again, boxes are pixels', async () => {
    expect(await openDetector(field()).detect(images())).toEqual([
      [
        { label: 'red', score: expect.closeTo(sure, 5), box: [0, 0, 4, 4] },
        { label: 'blue', score: expect.closeTo(sure, 5), box: [4, 4, 8, 8] },
      ],
    ]);
    expect(await openDetector(field({ labels: ['green'] })).detect(images())).toEqual([[]]);
    expect(await openDetector(field({ phrase: '{}', labels: ['blue'] })).detect(images())).toMatchObject([
      [{ label: 'blue' }],
    ]);
  });

  test('it is behind the rewards', async () => {
    const presence = detectedReward({ score: 'presence', detector: field({ labels: ['red', 'green'] }) });
    const batch = (prompt: string) => ({ images: images(), prompts: [prompt], meta: [null] });
    expect(await presence.score(batch('a photo of a red'))).toEqual([1]);
    expect(await presence.score(batch('a red and a green'))).toEqual([0]);
  });

  test('a folder that holds no model is told', async () => {
    const empty = mkdtempSync(join(tmpdir(), 'rldf-none-'));
    await expect(openDetector(field({ zeroShot: empty })).ready!()).rejects.toThrow(
      /^detector .*: cannot be loaded \(.*\) — it is a folder with config\.json, tokenizer\.json/,
    );
  });
});
