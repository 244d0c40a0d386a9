import { meanPairwiseDistance } from '@rldf/common/base/pairwise-distance';
import type { Picture } from '@rldf/common/base/picture';
import {
  boxesOf,
  colours,
  loadArt,
  promptScenes,
  promptSet,
  renderScene,
  type SetPrompt,
} from '@rldf/emoji-world';
import type { Detection } from '@rldf/models';
import { noiseKey, Random } from '@rldf/torch';
import { expect, test } from 'vitest';
import { colourMeasures, colourOf } from './colour.js';
import { countMeasures } from './count.js';
import { diversityMeasures } from './diversity.js';
import { fidMeasures } from './fid.js';
import { suites } from './index.js';
import { type Measure, metricOf } from './measures.js';
import { singleMeasures } from './single.js';
import { spatialMeasures, spatialVerdict } from './spatial.js';
import { unseenMeasures } from './unseen.js';

/** The numbers of measures alone. */
const valuesOf = (measures: Record<string, Measure>) =>
  Object.fromEntries(
    Object.entries(measures).map(([name, measure]) => [
      name,
      metricOf(measure, new Random(noiseKey(0, 'x'))).value,
    ]),
  );
const find = (set: string, holds: (prompt: SetPrompt) => boolean) => promptSet(set).prompts.find(holds)!;
const at = (label: string, x: number, y: number, score = 0.9): Detection => ({
  label,
  score,
  box: [x, y, x + 20, y + 20],
});

test('single: the judge’s noun is the prompt’s', () => {
  const [first, second] = promptSet('eval-single').prompts as [SetPrompt, SetPrompt];
  const [a, b] = [first.scene.objects[0]!.noun, second.scene.objects[0]!.noun];
  expect(
    valuesOf(
      singleMeasures([
        { prompt: first, verdicts: [a, b] },
        { prompt: second, verdicts: [b, b] },
      ]),
    ),
  ).toEqual({ single: 0.75 });
});

test('spatial: both there, which way by centres, exactly one of each', () => {
  const left = find('ip-rldf-test', ({ group }) => group === 'left');
  const above = find('ip-rldf-test', ({ group }) => group === 'above');
  const [a, b] = left.scene.objects.map(({ noun }) => noun) as [string, string];
  const verdict = (...detections: Detection[]) => spatialVerdict(left, detections);
  expect(verdict(at(a, 0, 10), at(b, 40, 10))).toEqual({ bothPresent: true, oneEach: true, relation: true });
  expect(verdict(at(a, 40, 10), at(b, 0, 10)).relation).toBe(false);
  expect(verdict(at(a, 10, 0), at(b, 10, 40)).relation).toBe(false); // equal centres stand in no relation
  expect(verdict(at(a, 0, 0))).toEqual({ bothPresent: false, oneEach: false, relation: null });
  // a second one: VISOR takes the best of each, IP-RLDF refuses
  const twice = verdict(at(a, 0, 10, 0.9), at(b, 20, 10, 0.8), at(a, 50, 10, 0.3));
  expect(twice).toEqual({ bothPresent: true, oneEach: false, relation: true });
  // a third noun: likewise
  expect(verdict(at(a, 0, 10), at(b, 20, 10), at('key', 40, 40)).oneEach).toBe(false);
  const [c, d] = above.scene.objects.map(({ noun }) => noun) as [string, string];
  const right = spatialVerdict(above, [at(c, 10, 0), at(d, 10, 40)]);
  const wrong = spatialVerdict(above, [at(c, 10, 40), at(d, 10, 0)]);
  const judged = [
    { prompt: left, verdicts: [verdict(at(a, 0, 10), at(b, 40, 10)), verdict(at(a, 0, 0)), twice, twice] },
    { prompt: above, verdicts: [right, wrong, wrong, spatialVerdict(above, [])] },
  ];
  const values = valuesOf(spatialMeasures(judged));
  expect(values).toEqual({
    bothPresent: 6 / 8,
    relationGivenBoth: 4 / 6,
    visorUncond: 4 / 8,
    visor1: 1,
    visor2: 1 / 2,
    visor3: 1 / 2,
    visor4: 0,
    ipRldfAccuracy: 2 / 8,
    leftRight: 1 / 4,
    aboveBelow: 1 / 4,
    numberRight: 4 / 8,
  });
  // VISOR: unconditional = object accuracy x conditional
  expect(values.visorUncond!).toBeCloseTo(values.bothPresent! * values.relationGivenBoth!, 12);
});

test('VISOR n goes as far as there are pictures', () => {
  const prompt = promptSet('ip-rldf-test').prompts[0]!;
  const names = Object.keys(spatialMeasures([{ prompt, verdicts: [spatialVerdict(prompt, [])] }]));
  expect(names.filter((name) => name.startsWith('visor'))).toEqual(['visorUncond', 'visor1']);
});

test('count: exactly as many, and how far off', () => {
  const two = find('eval-count', ({ prompt }) => prompt.startsWith('two '));
  const four = find('eval-count', ({ prompt }) => prompt.startsWith('four '));
  const verdicts = (...found: number[]) => found.map((each) => ({ found: each }));
  expect(
    valuesOf(
      countMeasures([
        { prompt: two, verdicts: verdicts(2, 3) },
        { prompt: four, verdicts: verdicts(1, 4) },
      ]),
    ),
  ).toEqual({ countExact: 0.5, countExact2: 0.5, countExact3: null, countExact4: 0.5, countError: 1 });
});

test('colour: the pixels of the box tell the colour of rendered test scenes', async () => {
  const art = await loadArt('noto');
  const scenes = promptScenes('test', 'colour').filter((_, i) => i % 2 === 0);
  const right = scenes.filter(({ scene }) => {
    const picture: Picture = { width: 64, height: 64, channels: 3, data: renderScene(scene, art) };
    const { left, top, right: far, bottom } = boxesOf(scene, art)[0]!;
    return colourOf(picture, [left, top, far, bottom]) === scene.objects[0]!.colour;
  });
  expect(right.length / scenes.length).toBeGreaterThan(0.95);
  expect(new Set(right.map(({ scene }) => scene.objects[0]!.colour)).size).toBe(colours.length);
  const white: Picture = { width: 64, height: 64, channels: 3, data: new Uint8Array(64 * 64 * 3).fill(255) };
  expect(colourOf(white, [10, 10, 50, 50])).toBe(null);
});

test('colour: given the noun, and over all pictures', () => {
  const prompt = promptSet('eval-colour').prompts[0]!;
  const { colour: own } = prompt.scene.objects[0]!;
  const other = own === 'red' ? 'blue' : 'red';
  const verdicts = [{ colour: own! }, { colour: other } as const, { colour: null }, { colour: null }];
  expect(valuesOf(colourMeasures([{ prompt, verdicts }]))).toEqual({
    colourRight: 0.25,
    colourGivenNoun: 0.5,
  });
});

test('unseen: animals by name, activities by the animal and its prop', () => {
  const animal = promptSet('diffexp-unseen-animals').prompts[0]!;
  const activity = find('diffexp-unseen-activities', ({ prompt }) => prompt === 'a cat driving a car');
  const seen = (...labels: string[]) => ({ noun: 'cat', detections: labels.map((label) => at(label, 0, 0)) });
  expect(
    valuesOf(
      unseenMeasures([
        { prompt: animal, verdicts: [{ noun: 'hippopotamus', detections: [] }, seen()] },
        { prompt: activity, verdicts: [seen('cat', 'car'), seen('cat'), seen('car'), seen('cat', 'shirt')] },
      ]),
    ),
  ).toEqual({ unseenAnimals: 0.5, unseenActivities: 0.25 });
});

test('diversity: equal pictures have none, orthogonal ones 1', () => {
  expect(
    meanPairwiseDistance([
      [1, 0],
      [2, 0],
    ]),
  ).toBeCloseTo(0, 12);
  expect(
    meanPairwiseDistance([
      [1, 0],
      [0, 3],
      [1, 0],
    ]),
  ).toBeCloseTo(2 / 3, 12);
  expect(meanPairwiseDistance([[1, 0]])).toBe(null);
  const prompt = promptSet('eval-mixed').prompts[0]!;
  expect(
    valuesOf(
      diversityMeasures([
        {
          prompt,
          verdicts: [
            [1, 0],
            [0, 1],
          ],
        },
      ]),
    ),
  ).toEqual({ diversity: 1 });
});

test('FID and KID: none between equal sets, growing with a shift', () => {
  const source = new Random(noiseKey(0, 'features'));
  const prompt = promptSet('eval-mixed').prompts[0]!;
  const judged = (shift: number) =>
    Array.from({ length: 40 }, () => ({
      prompt,
      verdicts: Array.from({ length: 4 }, () => {
        const real = [source.uniform(), source.uniform(), source.uniform()];
        return { real, drawn: real.map((value) => value + shift) };
      }),
    }));
  const [same, shifted] = [fidMeasures(judged(0)), fidMeasures(judged(0.5))];
  expect(valuesOf(same).fid).toBeCloseTo(0, 6);
  expect(valuesOf(shifted).fid).toBeCloseTo(3 * 0.25, 6); // a shift moves the means alone
  expect(valuesOf(shifted).kid!).toBeGreaterThan(20 * Math.abs(valuesOf(same).kid!));
  const { value, ci95 } = metricOf(shifted.fid!, new Random(noiseKey(0, 'x')));
  expect(ci95![0] < value! && value! < ci95![1]).toBe(true);
});

test('suites draw evaluation sets only', () => {
  for (const [name, { sets, file }] of Object.entries(suites)) {
    if (file === 'must') continue; // its prompts are the user's
    for (const { set } of sets)
      expect([name, set, promptSet(set).purpose]).toEqual([name, set, 'evaluation']);
  }
});
