import { fileURLToPath } from 'node:url';
import { tensorOfPictures } from '@rldf/common/base/picture';
import sharp from 'sharp';
import { describe, expect, test } from 'vitest';
import { hasPeer } from '../../base/peers.js';
import { detectedReward } from '../detected.js';
import { humanNames } from './human-licences.js';
import { openDetector } from './index.js';

const photograph = async (name: string) => {
  const file = fileURLToPath(new URL(`../../../assets/rewards/photographs/${name}.jpg`, import.meta.url));
  const { data, info } = await sharp(file).removeAlpha().raw().toBuffer({ resolveWithObject: true });
  return tensorOfPictures([
    { width: info.width, height: info.height, channels: 3, data: new Uint8Array(data) },
  ]);
};
const installed = hasPeer('@vladmandic/human') && hasPeer('@tensorflow/tfjs-backend-wasm');

test('what it finds is known without it', () => {
  expect(openDetector('human').labels).toHaveLength(80);
  expect(openDetector('human-hands').labels).toEqual(['hand']);
  expect(Object.keys(humanNames)).toEqual(['human', 'human-faces', 'human-hands']);
});

test.skipIf(installed)('without it, the command that installs it is told', async () => {
  await expect(openDetector('human').ready!()).rejects.toThrow(
    /^detector human: the package @vladmandic\/human is not installed — it finds people, .*`npm install @vladmandic\/human@3\.3\.6 @tensorflow\/tfjs-core@4 /,
  );
});

// skipped where the optional packages are not installed; docs/guide-rewards.md has the command
describe.skipIf(!installed)('with @vladmandic/human', () => {
  const detector = openDetector('human');
  const faces = openDetector('human-faces');

  test.each([
    ['astronaut', ['person'], 1],
    ['chelsea', ['cat'], 0],
    ['coffee', ['cup'], 0],
    ['rocket', [], 0],
  ])('the photograph %s: %j, %i faces', async (name, labels, count) => {
    const image = await photograph(name);
    const [found] = await detector.detect(image);
    expect(found!.map(({ label }) => label)).toEqual(labels);
    const [seen] = await faces.detect(image);
    expect(seen).toHaveLength(count);
    for (const { box, score } of [...found!, ...seen!]) {
      const [height, width] = image.shape.slice(1) as [number, number];
      expect(box[0]).toBeGreaterThanOrEqual(0);
      expect(box[2]).toBeLessThanOrEqual(width);
      expect(box[3]).toBeLessThanOrEqual(height);
      expect(score).toBeGreaterThan(0.3);
    }
  });

  test('the face of the astronaut is where it is, and looking twice says the same', async () => {
    const image = await photograph('astronaut');
    const [first] = await faces.detect(image);
    const [x0, y0, x1, y1] = first![0]!.box; // the face is at about 88, 25 to 130, 85 of 256
    expect(Math.abs((x0 + x1) / 2 - 110)).toBeLessThan(15);
    expect(Math.abs((y0 + y1) / 2 - 55)).toBeLessThan(20);
    expect(await faces.detect(image)).toEqual([first]);
  });

  test('as rewards: people are counted, a face scores by its confidence, none scores 0', async () => {
    const score = async (name: string, prompt: string, reward: ReturnType<typeof detectedReward>) =>
      (await reward.score({ images: await photograph(name), prompts: [prompt], meta: [null] }))[0];
    const counting = detectedReward({ score: 'count', detector: 'human' });
    expect(await score('astronaut', 'a photo of a person', counting)).toBe(0);
    expect(await score('coffee', 'two cups', counting)).toBe(-1);
    const face = detectedReward({ score: 'face' });
    expect(await score('astronaut', 'a face', face)).toBeGreaterThan(0.8);
    expect(await score('rocket', 'a face', face)).toBe(0);
    expect(await score('chelsea', 'a hand', detectedReward({ score: 'hand' }))).toBe(0);
  });
});
