import { mkdtempSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { liveTensors, noGrad, setThreads } from '@rldf/torch';
import { expect, test } from 'vitest';
import { readJson } from './files.js';
import { type GroundedObject, groundedSteps } from './grounding.js';
import { type GenerateOptions, generate } from './pipeline.js';
import { loadPipeline, savePipeline } from './pipeline-files.js';
import { encodePrompts } from './prompts.js';
import { tinyGligenPipeline, tinyPipeline } from './tiny-pipeline.js';

setThreads(1); // the networks are tiny
const pipeline = tinyGligenPipeline();
const left: GroundedObject[] = [{ phrase: 'a cat', box: [0, 0.1, 0.4, 0.9] }];
const right: GroundedObject[] = [{ phrase: 'a cat', box: [0.6, 0.1, 1, 0.9] }];
const nothing: GroundedObject[] = [];

const draw = async (options: Partial<GenerateOptions> = {}, from = pipeline) => {
  const prompts = ['a cat'];
  const { images, latents } = await generate(from, { prompts, seeds: [1], groundingBeta: 1, ...options });
  images.free();
  const bytes = latents.bytes();
  latents.free();
  return bytes;
};

test('boxes move the picture; what is not there is told as null features; a picture depends on its own boxes only', async () => {
  const none = await draw();
  const [toLeft, toRight] = [await draw({ objects: [left] }), await draw({ objects: [right] })];
  expect(toLeft).not.toEqual(toRight);
  expect(toLeft).not.toEqual(none);
  expect(await draw({ objects: [nothing] })).toEqual(none);
  const both = { prompts: ['a cat', 'a cat'], seeds: [1, 1], objects: [left, nothing] };
  const joined = await draw(both);
  expect(joined.length).toBe(2 * none.length);
  const apart = (a: Uint8Array, b: Uint8Array) => {
    const [x, y] = [a, b].map((bytes) => new Float32Array(new Uint8Array(bytes).buffer)) as [
      Float32Array,
      Float32Array,
    ];
    return Math.max(...x.map((value, i) => Math.abs(value - y[i]!)));
  };
  expect(apart(joined.slice(0, none.length), toLeft)).toBeLessThan(1e-5);
  expect(apart(joined.slice(none.length), none)).toBeLessThan(1e-5);
});

test('closed gates are exactly the base', async () => {
  const [closed, base] = [tinyGligenPipeline(), tinyPipeline()];
  for (const [name, parameter] of closed.parameters.unet.entries)
    if (/\.alpha_(attn|dense)$/.test(name)) noGrad(() => parameter.zero_());
  expect(await draw({ objects: [left] }, closed)).toEqual(await draw({}, base));
});

test('scheduled sampling: the first steps alone are grounded', async () => {
  expect([0.3, 0.79, 1, 0].map((beta) => groundedSteps(5, beta))).toEqual([1, 3, 5, 0]);
  const base = tinyPipeline();
  const off = await draw({ objects: [left], groundingBeta: 0 });
  expect(off).toEqual(await draw({}, base));
  const some = await draw({ objects: [left], groundingBeta: 0.5 });
  expect(some).not.toEqual(off);
  expect(some).not.toEqual(await draw({ objects: [left] }));
  expect(await draw({ objects: [left] }, { ...pipeline, groundingBeta: 0 })).not.toEqual(off); // the call's own comes first
});

test('a saved pipeline is GLIGEN’s, and draws the same', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'gligen-'));
  savePipeline(pipeline, folder);
  expect(readJson(join(folder, 'model_index.json'))._class_name).toBe('StableDiffusionGLIGENPipeline');
  expect(await draw({ objects: [left] }, loadPipeline(folder))).toEqual(await draw({ objects: [left] }));
});

test('phrases are padded by zeros, in the order given', () => {
  const { grounding } = noGrad(() =>
    encodePrompts(pipeline, ['a cat', null], undefined, [[...left, ...right], nothing]),
  );
  expect(grounding!.masks.sum(1).toNumbers()).toEqual([2, 0]);
  const edges = [0, 0.1, 0.4, 0.9, 0.6, 0.1, 1, 0.9].map(Math.fround);
  expect(grounding!.boxes.toNumbers().slice(0, 12)).toEqual([...edges, 0, 0, 0, 0]);
  expect(grounding!.phrases.shape).toEqual([2, 30, 16]);
  expect(grounding!.phrases.abs().sum(2).ne(0).to('int64').sum(1).toNumbers()).toEqual([2, 0]);
});

test('drawing leaves nothing behind', async () => {
  const before = liveTensors();
  await draw({ objects: [left], guidanceScale: 3, groundingBeta: 0.5 });
  expect(liveTensors()).toBe(before);
});

test('boxes that cannot be are refused, and those for a model without position net', async () => {
  const refuse = (objects: GroundedObject[][], from = pipeline) => expect(draw({ objects }, from)).rejects;
  await refuse([left], tinyPipeline()).toThrow(/cannot be told boxes — its U-Net has no position net/);
  await refuse([[{ phrase: 'a dog', box: [10, 2, 30, 40] }]]).toThrow(
    /box of "a dog" is \[10, 2, 30, 40\].*from 0 to 1/,
  );
  await refuse([[{ phrase: 'a dog', box: [0.5, 0.1, 0.2, 0.9] }]]).toThrow(/left before right/);
  await refuse([Array.from({ length: 31 }, () => left[0]!)]).toThrow(/31 boxes — a picture has at most 30/);
  await refuse([left, left]).toThrow(/boxes of 2 pictures for 1 prompts/);
  await expect(draw({ groundingBeta: 1.5 })).rejects.toThrow(/groundingBeta is 1.5/);
  const { grounding } = noGrad(() => encodePrompts(pipeline, ['a cat']));
  const plain = tinyPipeline();
  const { hiddenStates } = noGrad(() => encodePrompts(plain, ['a cat']));
  expect(() => plain.unet.prepare({ hiddenStates, grounding: grounding! })).toThrow(/has no position net/);
});
