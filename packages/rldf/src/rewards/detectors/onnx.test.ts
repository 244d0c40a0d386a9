import { mkdtempSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { tensorOfPictures } from '@rldf/common/base/picture';
import { describe, expect, test } from 'vitest';
import { hasPeer } from '../../base/peers.js';
import { onnxDetectorSchema } from '../../config/detector-fields.js';
import { detectedReward } from '../detected.js';
import { describeDetector, detectorProblem, openDetector } from './index.js';
import { cropOf, inputOf } from './input.js';
import { onnxDetector } from './onnx.js';
import { headOf, readHead } from './onnx-heads.js';
import { onnxMetadata, ultralyticsNames } from './onnx-metadata.js';

// made by test/onnx/make.py: each looks at four cells of 4 x 4 pixels, whose class scores are the means of their channels
const model = (name: string) =>
  fileURLToPath(new URL(`../../../../../test/onnx/${name}.onnx`, import.meta.url));
const names = ['red', 'green', "it's blue"];

/** 8 x 8 pixels whose cells have these colours, each [r, g, b]. */
function cells(...colours: [number, number, number][]) {
  const data = new Uint8Array(8 * 8 * 3);
  for (let y = 0; y < 8; y++)
    for (let x = 0; x < 8; x++) data.set(colours[(y >> 2) * 2 + (x >> 2)]!, (y * 8 + x) * 3);
  return { width: 8, height: 8, channels: 3 as const, data };
}
const black: [number, number, number] = [0, 0, 0];
const picture = cells([255, 0, 0], black, black, [0, 102, 255]);
const reading = { labels: ['cat', 'dog'], threshold: 0.3, size: [8, 8] as const, where: 'detector x' };

describe('heads', () => {
  test('are told from the shapes of the outputs and the number of labels', () => {
    const of = (...dims: number[]) => headOf({ output0: { dims, data: [] } }, reading);
    expect(of(1, 6, 8400)).toBe('yolo');
    expect(of(1, 8400, 6)).toBe('yolo'); // two labels and four edges, the other way round
    expect(of(1, 25200, 7)).toBe('yolo-objectness');
    expect(headOf({ output0: { dims: [1, 300, 6], data: [] } }, { ...reading, labels: ['cat'] })).toBe(
      'yolo-objectness',
    );
    expect(headOf({ output0: { dims: [1, 300, 6], data: [] } }, { ...reading, labels: names })).toBe(
      'end-to-end',
    );
    const detr = (classes: number) =>
      headOf(
        { logits: { dims: [1, 100, classes], data: [] }, pred_boxes: { dims: [1, 100, 4], data: [] } },
        reading,
      );
    expect(detr(3)).toBe('detr');
    expect(detr(2)).toBe('detr-sigmoid');
    expect(() => detr(5)).toThrow(
      /its outputs are logits \[1, 100, 5\], pred_boxes .* its 5 classes are neither the 2 labels nor one more/,
    );
    expect(() => of(1, 3, 8, 8)).toThrow(/the form of no detector/);
    expect(() => of(1, 9, 80)).toThrow(/with 2 labels, one side must be 6 \(YOLOv8\), 7/);
  });

  test('numbers that are none are told', () => {
    const data = [4, 4, 2, 2, Number.NaN, 0.1];
    const output = { output0: { dims: [1, 6, 1], data } };
    expect(() => readHead('yolo', { output0: { dims: [1, 6, 1], data: [4, 4, 2, Number.NaN, 0.9, 0.1] } }, reading)).toThrow(/must be finite numbers/); // biome-ignore format: one thought
    expect(
      readHead('yolo', { output0: { ...output.output0, data: [4, 4, 2, 2, 0.2, 0.1] } }, reading),
    ).toEqual([]);
    expect(() =>
      readHead('end-to-end', { output0: { dims: [1, 1, 6], data: [0, 0, 1, 1, 0.9, 7] } }, reading),
    ).toThrow(/it found class 7 — there are 2 labels, from 0/);
  });

  test('softmax with a class for nothing, and sigmoid without, by hand', () => {
    const outputs = (logits: number[]) => ({
      logits: { dims: [1, 1, logits.length], data: logits },
      pred_boxes: { dims: [1, 1, 4], data: [0.5, 0.5, 0.5, 1] },
    });
    const [soft] = readHead('detr', outputs([2, 0, 0]), reading);
    expect(soft!.score).toBeCloseTo(Math.E ** 2 / (Math.E ** 2 + 2), 12);
    expect(soft).toMatchObject({ label: 'cat', box: [2, 0, 6, 8] });
    const [sigmoid] = readHead('detr-sigmoid', outputs([-1, 1]), reading);
    expect(sigmoid).toMatchObject({ label: 'dog' });
    expect(sigmoid!.score).toBeCloseTo(1 / (1 + Math.exp(-1)), 12);
  });
});

test('pictures are letterboxed between pixel centres, and boxes come back', () => {
  const wide = { width: 4, height: 2, channels: 3 as const, data: Uint8Array.from({ length: 24 }, () => 51) };
  const plain = { mean: [0, 0, 0], std: [1, 1, 1] } as const;
  const input = inputOf(wide, { width: 8, height: 8, resize: 'letterbox', ...plain });
  const red = Array.from(input.data.subarray(0, 64));
  expect(red.slice(0, 16).every((value) => Math.abs(value - 114 / 255) < 1e-6)).toBe(true); // two rows of grey above
  expect(red.slice(16, 48).every((value) => Math.abs(value - 0.2) < 1e-6)).toBe(true);
  expect(input.back([0, 2, 4, 6])).toEqual([0, 0, 2, 2]);
  expect(input.back([-3, 0, 99, 99])).toEqual([0, 0, 4, 2]);
  // halves of a row [0, 100] grown to four pixels: 0, 25, 75, 100
  const two = { width: 2, height: 1, channels: 3 as const, data: Uint8Array.from([0, 0, 0, 100, 0, 0]) };
  const grown = inputOf(two, { width: 4, height: 1, resize: 'stretch', mean: [0.5, 0, 0], std: [0.5, 1, 1] });
  const expected = [0, 25, 75, 100].map((value) => (value / 255 - 0.5) / 0.5);
  expect(Array.from(grown.data.subarray(0, 4))).toEqual(expected.map((value) => Math.fround(value)));
});

test('a crop is what lies in a box, widened, within the picture', () => {
  const { width, height, data } = cropOf(picture, [3, 3, 6, 6]);
  expect([width, height]).toEqual([3, 3]);
  expect(Array.from(data.subarray(0, 3))).toEqual([255, 0, 0]);
  expect(Array.from(data.subarray(-3))).toEqual([0, 102, 255]);
  expect(cropOf(picture, [3, 3, 6, 6], 1)).toMatchObject({ width: 8, height: 8 });
  expect(cropOf(picture, [20, 20, 21, 21])).toMatchObject({ width: 1, height: 1 });
});

test('labels are read from the model file, as Ultralytics writes them; a file that is no model has none', async () => {
  const { readFileSync } = await import('node:fs');
  expect(ultralyticsNames(onnxMetadata(readFileSync(model('yolo'))).get('names'))).toEqual(names);
  expect(onnxMetadata(new Uint8Array([255, 255, 255]))).toEqual(new Map());
  expect(onnxMetadata(new Uint8Array())).toEqual(new Map());
});

test('labels come from a list, a file, coco, or the model; without them it is told what to write', () => {
  const of = (fields: object) => onnxDetector(onnxDetectorSchema.parse(fields)).labels;
  expect(of({ onnx: 'missing.onnx', labels: ['a', 'b'] })).toEqual(['a', 'b']);
  expect(of({ onnx: 'missing.onnx', labels: 'coco' })).toHaveLength(80);
  const file = join(mkdtempSync(join(tmpdir(), 'rldf-labels-')), 'labels.txt');
  writeFileSync(file, 'one\r\ntwo \n\n');
  expect(of({ onnx: 'missing.onnx', labels: file })).toEqual(['one', 'two']);
  expect(of({ onnx: model('yolo') })).toEqual(names);
  expect(() => of({ onnx: model('detr') })).toThrow(
    /the model names no labels, and there is no .*labels\.txt .* Set labels/,
  );
  expect(() => of({ onnx: 'missing.onnx', labels: 'missing.txt' })).toThrow(/there is no file missing\.txt/);
});

test('names that are none, judges, and files in yaml', () => {
  expect(() => openDetector('humann')).toThrow(
    /detector humann: there is none of that name — there are human, .*Did you mean human\?/,
  );
  expect(detectorProblem('judge-detector')).toMatch(/is a judge/);
  expect(detectorProblem('human')).toBeUndefined();
  expect(describeDetector('human').licence).toMatch(/without a licence/);
  const file = join(mkdtempSync(join(tmpdir(), 'rldf-detector-')), 'mine.yaml');
  writeFileSync(file, `onnx: ${model('yolo')}\nlicence: mit\n`);
  expect(describeDetector(file)).toEqual({ name: model('yolo'), licence: 'mit' });
  expect(openDetector(file).labels).toEqual(names);
  writeFileSync(file, 'onnx: a.onnx\nhead: yolov8\n');
  expect(() => openDetector(file)).toThrow(/detector .*mine\.yaml: /);
  expect(() => openDetector('missing.yaml')).toThrow(/there is no such file/);
});

test.skipIf(hasPeer('onnxruntime-node'))(
  'a package that is not installed is named, with the command',
  async () => {
    const detector = openDetector({ ...onnxDetectorSchema.parse({ onnx: model('yolo') }) });
    await expect(detector.ready!()).rejects.toThrow(
      /^detector .*yolo\.onnx: the package onnxruntime-node is not installed — it runs ONNX models, .* Install it: `npm install onnxruntime-node`$/,
    );
  },
);

// skipped where the optional package is not installed: npm install --no-save onnxruntime-node
describe.skipIf(!hasPeer('onnxruntime-node'))('with onnxruntime-node', () => {
  const images = () => tensorOfPictures([picture, cells(black, [0, 255, 0], black, black)]);
  const detect = (fields: object) => onnxDetector(onnxDetectorSchema.parse(fields)).detect(images());

  test('YOLOv8: boxes and classes of each cell', async () => {
    expect(await detect({ onnx: model('yolo') })).toEqual([
      [
        { label: 'red', score: 1, box: [0, 0, 4, 4] },
        { label: "it's blue", score: 1, box: [4, 4, 8, 8] },
      ],
      [{ label: 'green', score: 1, box: [4, 0, 8, 4] }],
    ]);
  });

  test('YOLOv5: scores times the objectness', async () => {
    const [first] = await detect({ onnx: model('yolo-objectness'), labels: names });
    expect(first).toEqual([
      { label: 'red', score: 0.5, box: [0, 0, 4, 4] },
      { label: "it's blue", score: 0.5, box: [4, 4, 8, 8] },
    ]);
    expect(await detect({ onnx: model('yolo-objectness'), labels: names, threshold: 0.6 })).toEqual([[], []]);
  });

  test('end to end: rows as they are, above the threshold', async () => {
    const [first] = await detect({ onnx: model('end-to-end'), labels: names });
    expect(first).toEqual([{ label: "it's blue", score: expect.closeTo(0.9, 6), box: [0, 0, 4, 4] }]);
  });

  test('DETR: softmax, boxes as shares, an input whose size is open, the mean and deviation of ImageNet', async () => {
    const [first, second] = await detect({ onnx: model('detr'), labels: names, size: 16, threshold: 0.9 });
    expect(first!.map(({ label, box }) => ({ label, box }))).toEqual(
      expect.arrayContaining([
        { label: 'red', box: [0, 0, 4, 4] },
        { label: "it's blue", box: [4, 4, 8, 8] },
      ]),
    );
    expect(second!.map(({ label }) => label)).toEqual(['green']);
    const normalised = ([r, g, b]: number[]) => [(r! - 0.485) / 0.229, (g! - 0.456) / 0.224, (b! - 0.406) / 0.225].map((x) => Math.exp(4 * x)); // biome-ignore format: one thought
    const powers = normalised([1, 0, 0]);
    const red = powers[0]! / (powers[0]! + powers[1]! + powers[2]! + 1);
    expect(first!.find(({ label }) => label === 'red')!.score).toBeCloseTo(red, 5);
  });

  test('files that are no model, and inputs of another size, are told', async () => {
    const file = join(mkdtempSync(join(tmpdir(), 'rldf-onnx-')), 'broken.onnx');
    writeFileSync(file, 'hello');
    await expect(detect({ onnx: file, labels: names })).rejects.toThrow(
      /broken\.onnx cannot be loaded \(.*\) — it is damaged/,
    );
    await expect(detect({ onnx: 'missing.onnx', labels: names })).rejects.toThrow(
      /there is no file missing\.onnx/,
    );
    await expect(detect({ onnx: model('yolo'), labels: ['one'] })).rejects.toThrow(
      /its outputs are output0 \[1, 7, 4\] — with 1 labels/,
    );
  });

  test('it is behind the rewards: confidence, presence, and a quality network on crops', async () => {
    const detector = onnxDetectorSchema.parse({ onnx: model('yolo'), licence: 'mit' });
    const batch = { images: images(), prompts: ['a red', 'a green and a red'], meta: [null, null] };
    const presence = detectedReward({ score: 'presence', detector });
    expect(await presence.score(batch)).toEqual([1, 0]);
    expect(presence.licence).toBe('mit');
    expect(await detectedReward({ score: 'detector-confidence', detector }).score(batch)).toEqual([1, 0.5]);
    // the network answers the mean of red: of the red cell widened by a tenth, and of the blue one
    const quality = { onnx: model('quality'), mean: [0, 0, 0], std: [1, 1, 1] } satisfies object as never;
    const plain = { width: 8, height: 8, resize: 'stretch', mean: [0, 0, 0], std: [1, 1, 1] } as const;
    const redOf = (box: [number, number, number, number]) =>
      inputOf(cropOf(picture, box, 0.1), plain)
        .data.subarray(0, 64)
        .reduce((sum, value) => sum + value, 0) / 64;
    const [red, blue] = [redOf([0, 0, 4, 4]), redOf([4, 4, 8, 8])];
    const [first, second] = await detectedReward({ score: 'face', detector, quality }).score(batch);
    expect(first).toBeCloseTo((red + blue) / 2, 6);
    expect([red > 0.5, blue < 0.1]).toEqual([true, true]);
    expect(second).toBe(0);
    const none = {
      images: tensorOfPictures([cells(black, black, black, black)]),
      prompts: ['a red'],
      meta: [null],
    };
    expect(await detectedReward({ score: 'hand', detector, none: -1 }).score(none)).toEqual([-1]);
  });
});
