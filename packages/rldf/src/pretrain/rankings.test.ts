import { HashRandom, loadArt, sampleScene } from '@rldf/emoji-world';
import { scope } from '@rldf/torch';
import { expect, test } from 'vitest';
import { feedbackRules, GROUP, judgeRules, qualityOf, rankedPairs, rankingBatch } from './rankings.js';
import { drawFlawed, gaussian, NO_FLAWS } from './rankings-flaws.js';

const art = await loadArt('noto');
const options = { rules: feedbackRules, blur: { kind: 'gaussian' } } as const;

test('quality is minus the cost of the flaws, by each set of rules', () => {
  expect(qualityOf(NO_FLAWS, feedbackRules)).toBeCloseTo(0);
  const flaws = { ...NO_FLAWS, wrong: 0.5, blur: 1 };
  expect(qualityOf(flaws, feedbackRules)).toBeCloseTo(-(0.5 * feedbackRules.wrong + feedbackRules.blur));
  expect(qualityOf(flaws, judgeRules)).not.toBeCloseTo(qualityOf(flaws, feedbackRules));
});

test('the pairs of a group are all its pairs, each with the better ranked picture first', () => {
  const { preferred, other } = rankedPairs([2, 0, 3, 1, 0, 1, 2, 3]);
  expect(preferred).toHaveLength(12);
  expect(preferred.slice(0, 6).map((a, i) => [a, other[i]])).toEqual([
    [1, 0],
    [0, 2],
    [3, 0],
    [1, 2],
    [1, 3],
    [3, 2],
  ]);
  expect(preferred.slice(6).every((row, i) => row >= GROUP && other[6 + i]! > row)).toBe(true);
});

test('batches repeat, depend on the seed, and rank mostly by quality', () => {
  scope(() => {
    const batch = rankingBatch(art, 'train', 5, 0, 24, options);
    const again = rankingBatch(art, 'train', 5, 0, 24, options);
    expect(batch.images.shape).toEqual([24 * GROUP, 3, 64, 64]);
    expect(Buffer.compare(again.images.bytes(), batch.images.bytes())).toBe(0);
    expect(again.ranks).toEqual(batch.ranks);
    expect(rankingBatch(art, 'train', 6, 0, 2, options).captions).not.toEqual(batch.captions.slice(0, 2));
    const { preferred, other } = rankedPairs(batch.ranks);
    const clear = preferred
      .map((row, i) => batch.qualities[row]! - batch.qualities[other[i]!]!)
      .filter((difference) => Math.abs(difference) > 0.01);
    const agreement = clear.filter((difference) => difference > 0).length / clear.length;
    expect(agreement).toBeGreaterThan(0.8); // noise, but not much
    expect(agreement).toBeLessThan(1);
  });
});

test('a flawless picture is the scene; each flaw that is entered changes the picture', () => {
  let flawed = 0;
  for (let i = 0; i < 40; i++) {
    const scene = sampleScene('train', 9, i);
    const { flaws, picture } = drawFlawed(scene, art, new HashRandom(9, i), { kind: 'gaussian' });
    const { picture: again } = drawFlawed(scene, art, new HashRandom(9, i), { kind: 'gaussian' });
    expect(Buffer.compare(again, picture)).toBe(0);
    if (qualityOf(flaws, feedbackRules) < 0) flawed++;
  }
  expect(flawed).toBeGreaterThan(20);
  expect(flawed).toBeLessThan(40);
});

test('the blur keeps the mean and takes the contrast', () => {
  const board = new Uint8Array(64 * 64 * 3).map((_, i) => ((i / 3) & 1 ? 200 : 100));
  const blurred = gaussian(board, 2);
  const inner = blurred.slice(64 * 3 * 30 + 60, 64 * 3 * 30 + 90);
  for (const value of inner) expect(Math.abs(value - 150)).toBeLessThan(8);
});
