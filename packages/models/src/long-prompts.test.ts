import { fileURLToPath } from 'node:url';
import { noGrad, readSafetensors, scope, type Tensor } from '@rldf/torch';
import { expect, test } from 'vitest';
import { loadPipeline } from './pipeline-files.js';
import { encodePrompts } from './prompts.js';

const golden = (name: string) => fileURLToPath(new URL(`../goldens/${name}`, import.meta.url));

/**
 * Made by compel 2.5.1 (`truncate_long_prompts=False`, `SplitLongTextMode.BRUTAL`, which is how diffusers’ community pipelines split too) on transformers 4.57.6, with
 * the text encoder and tokenizer of goldens/pipeline.
 */
test('prompts in pieces give compel’s text features', () => {
  const { tensors, metadata } = readSafetensors(golden('long-prompts.safetensors'));
  const expected = tensors.get('features') as Tensor; // [3, 8 * 16, 12]
  const prompts = JSON.parse(metadata.prompts as string) as string[];
  const pipeline = loadPipeline(golden('pipeline'));
  pipeline.promptChunks = Math.max(...prompts.map((prompt) => pipeline.tokenizer.chunks(prompt)));
  expect(pipeline.promptChunks).toBe(8);
  const { hiddenStates } = noGrad(() => encodePrompts(pipeline, prompts));
  expect(hiddenStates.shape).toEqual(expected.shape);
  const largest = (a: Tensor, b: Tensor) => Math.max(...scope(() => a.sub(b).abs().flatten(0).toNumbers()));
  const apart = largest(hiddenStates, expected);
  expect(apart).toBeLessThan(1e-5);
  const one = noGrad(() => encodePrompts({ ...pipeline, promptChunks: 1 }, [prompts[0]!])).hiddenStates;
  const first = expected.narrow(0, 0, 1).narrow(1, 0, 16);
  expect(largest(one, first)).toBeLessThan(1e-5); // the first piece is what is read without
});
