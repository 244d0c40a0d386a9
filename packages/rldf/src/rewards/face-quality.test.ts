import { mkdtempSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type Picture, tensorOfPictures } from '@rldf/common/base/picture';
import type { Detector } from '@rldf/models';
import { readJson } from '@rldf/models';
import { readSafetensors, writeSafetensors } from '@rldf/torch';
import { expect, test } from 'vitest';
import { detectedRewardSchema } from '../config/detector-fields.js';
import { onCrops } from './crops.js';
import { cropOf } from './detectors/input.js';
import { faceQuality, loadFaceQuality, qualityFace, qualityFaceLicence } from './face-quality.js';
import { rewardAssets } from './published-names.js';

const pictures = [...readSafetensors(join(rewardAssets, 'pictures.safetensors')).tensors.values()].map(
  (data): Picture => {
    const [height, width] = data.shape as [number, number, number];
    return { width, height, channels: 3, data: data.toArray() as Uint8Array };
  },
);
const stored = (readJson(join(rewardAssets, 'vectors.json')) as { scores: { face: number[] } }).scores.face;

test('crops of any size are shown and scored as torchvision and the package’s code do', () => {
  const scores = faceQuality(loadFaceQuality('tiny'), pictures);
  const largest = Math.max(...stored.map(Math.abs));
  expect(new Set(pictures.map(({ width }) => width)).size).toBe(3);
  for (const [i, score] of scores.entries())
    expect(Math.abs(score - stored[i]!) / largest).toBeLessThan(1e-4);
});

test('the reward is the mean over the faces that are found, widened by a tenth; `none` without any', async () => {
  const boxes = [
    [4, 4, 16, 20],
    [10, 2, 20, 14],
  ] as const;
  const detector: Detector = {
    labels: ['face'],
    detect: (images) =>
      Array.from({ length: images.shape[0]! }, (_, i) =>
        i === 0 ? boxes.map((box) => ({ label: 'face', score: 0.9, box: [...box] })) : [],
      ),
  };
  const quality = qualityFace({ qualityface: 'tiny' });
  expect(quality.licence).toBe(qualityFaceLicence);
  const picture = pictures[0]!;
  const images = tensorOfPictures([picture, { ...picture, data: picture.data.map((byte) => 255 - byte) }]);
  const reward = onCrops('face', detector, { quality, none: -1 });
  const [first, second] = await reward.score({ images, prompts: ['', ''], meta: [null, null] });
  const alone = faceQuality(
    loadFaceQuality('tiny'),
    boxes.map((box) => cropOf(picture, [...box], 0.1)),
  );
  expect(first).toBeCloseTo((alone[0]! + alone[1]!) / 2, 6);
  expect(second).toBe(-1);
});

test.each([
  ['nowhere.pth', /there is no such file — .*`pip download qualityface==1\.0\.3 --no-deps && unzip/],
  [tmpdir(), /there is no checkpoints\/last\.pth in it/],
])('weights that are not there: %s', async (given, message) => {
  await expect(qualityFace({ qualityface: given }).ready()).rejects.toThrow(message);
});

test('weights of another network are refused, and nothing in a pickle runs', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'rldf-face-'));
  const other = join(folder, 'other.safetensors');
  writeSafetensors(other, readSafetensors(join(rewardAssets, 'pictures.safetensors')).tensors);
  expect(() => loadFaceQuality(other)).toThrow(
    /is no MobileNetV2 that ends in one number \(features\.1 is missing\)/,
  );
  const harmful = join(folder, 'last.pth');
  writeFileSync(harmful, Buffer.from('\x80\x02cposix\nsystem\nX\x01\0\0\0x\x85R.', 'latin1'));
  expect(() => loadFaceQuality(folder)).toThrow(/refused, it names posix\.system/);
});

test('a recipe names it beside the detector', () => {
  expect(detectedRewardSchema.parse({ score: 'face', quality: { qualityface: 'tiny' } }).quality).toEqual({
    qualityface: 'tiny',
  });
  expect(() => detectedRewardSchema.parse({ score: 'face', quality: { weights: 'x' } })).toThrow(
    /expected \{ qualityface: FILE \} or/,
  );
});
