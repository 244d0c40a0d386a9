// The kinds of files rldf reads from outside. Each makes a good sample of its files and reads a damaged one to the end:
// what was accepted is used as a user would use it next.
import { mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import {
  LoraAdapter as Adapter,
  AutoencoderTiny,
  CLIPTokenizer,
  generate,
  type LoraAdapter,
  loadLora,
  loadPipeline,
  saveLora,
  savePipeline,
  TEXT_ATTENTION,
  tinyPipeline,
  UNET_ATTENTION,
} from '@rldf/models';
import {
  free,
  noiseKey,
  normal,
  Parameters,
  readSafetensors,
  type StateDict,
  scope,
  tensor,
  writeSafetensors,
} from '@rldf/torch';
import fc from 'fast-check';
import { batchArithmetic, describeArithmetic, loadPrompts, loadRecipe } from 'rldf';
import { promptsOfEpoch } from 'rldf/learning';
import { lycoris, schedulers, xl } from './kinds-adapters.js';
import { ldm, peft, shards, singleFiles, torchFiles } from './kinds-foreign.js';
import { byteMutation, jsonMutation, mutateBytes, mutateJson } from './mutations.js';

/** One damaged file: which of the kind's files, and what happens to it. */
export const caseArbitrary = fc.record({
  file: fc.double({ min: 0, max: 1, noNaN: true }),
  change: fc.oneof(
    { weight: 3, arbitrary: fc.record({ json: fc.array(jsonMutation, { minLength: 1, maxLength: 3 }) }) },
    { weight: 1, arbitrary: fc.record({ bytes: fc.array(byteMutation, { minLength: 1, maxLength: 3 }) }) },
  ),
  /** Of a safetensors header: whether its length is put right after a mutation. */
  lengthRight: fc.boolean(),
});
export type FuzzCase = typeof caseArbitrary extends fc.Arbitrary<infer Value> ? Value : never;

export interface Kind {
  /** Files below the kind's folder that are mutated, one at a time. */
  files: readonly string[];
  /** Reads what lies in the folder; throws what the reader throws. */
  read(file: string): Promise<void> | void;
  /** Asked after each case: what an earlier one left behind, if anything. */
  leftBehind?(): string | undefined;
}

/** Writes a case's damaged file and returns its path; `restore` puts the good one back. */
export function damage(
  folder: string,
  kind: Kind,
  { file, change, lengthRight }: FuzzCase,
): { path: string; restore: () => void } {
  const name = kind.files[Math.min(kind.files.length - 1, Math.floor(file * kind.files.length))]!;
  const path = join(folder, name);
  const good = readFileSync(path);
  let bad: Buffer;
  if ('bytes' in change) bad = mutateBytes(good, change.bytes);
  else if (name.endsWith('.safetensors'))
    bad = mutateHeader(good, (header) => mutateJson(header, change.json), lengthRight);
  else if (name.endsWith('.jsonl'))
    bad = Buffer.from(
      mutateJson(JSON.parse(`[${good.toString().trim().split('\n').join(',')}]`), change.json)
        .replace(/^\[|\]$/g, '')
        .replaceAll('}, {', '}\n{'),
    );
  else if (isJson(good)) bad = Buffer.from(mutateJson(JSON.parse(good.toString()), change.json));
  else
    bad = mutateBytes(good, [
      { op: 'flip', at: change.json[0]!.place, byte: 0x22 },
      { op: 'repeat', at: change.json[0]!.place, length: 9, times: 2 },
    ]);
  writeFileSync(path, bad);
  return { path, restore: () => writeFileSync(path, good) };
}

function mutateHeader(file: Buffer, mutate: (header: object) => string, lengthRight: boolean): Buffer {
  const length = Number(file.readBigUInt64LE());
  const header = Buffer.from(mutate(JSON.parse(file.subarray(8, 8 + length).toString())));
  const prefix = Buffer.from(file.subarray(0, 8));
  if (lengthRight) prefix.writeBigUInt64LE(BigInt(header.length));
  return Buffer.concat([prefix, header, file.subarray(8 + length)]);
}

function isJson(bytes: Buffer): boolean {
  try {
    JSON.parse(bytes.toString());
    return true;
  } catch {
    return false;
  }
}

export const kinds: Record<string, (folder: string) => Kind> = {
  safetensors,
  recipes,
  prompts,
  tokenizers,
  models,
  adapters,
  peft,
  ldm,
  shards,
  torchFiles,
  singleFiles,
  lycoris,
  xl,
  schedulers,
};

function safetensors(folder: string): Kind {
  const tensors: StateDict = new Map([
    ['a', tensor([1.5, -2, 3, 4], { shape: [2, 2] })],
    ['wide', tensor([1, 2], { dtype: 'float64' })],
    ['whole', tensor([1n, 2n] as never, { dtype: 'int64' })],
    ['half', tensor([0.5, 1, 2], { dtype: 'float16' })],
    ['flags', tensor([1, 0, 1], { dtype: 'bool' })],
    ['nothing', tensor([], { shape: [0, 3] })],
    ['scalar', tensor([7], { shape: [] })],
  ]);
  writeSafetensors(join(folder, 'whole.safetensors'), tensors, { format: 'pt' });
  const shards = [...tensors].map(
    ([name, value], index) => [name, value, `shard-${index % 2}.safetensors`] as const,
  );
  for (const shard of ['shard-0.safetensors', 'shard-1.safetensors']) {
    writeSafetensors(
      join(folder, shard),
      new Map(shards.filter(([, , of]) => of === shard).map(([name, value]) => [name, value])),
    );
  }
  const index = 'shards.safetensors.index.json';
  writeFileSync(
    join(folder, index),
    JSON.stringify({
      metadata: { total_size: 1 },
      weight_map: Object.fromEntries(shards.map(([name, , of]) => [name, of])),
    }),
  );
  free(tensors);
  return {
    files: ['whole.safetensors', 'whole.safetensors', index, 'shard-0.safetensors'],
    read(file) {
      const path = file.includes('shard') ? join(folder, index) : file;
      const { tensors: read } = readSafetensors(path);
      try {
        for (const value of read.values()) value.toArray();
      } finally {
        free(read);
      }
    },
  };
}

function recipes(folder: string): Kind {
  const shipped = readFileSync(new URL('../../recipes/quickstart.yaml', import.meta.url), 'utf8');
  writeFileSync(join(folder, 'quickstart.yaml'), shipped);
  const everything = {
    version: 1,
    method: 'ddpo',
    name: 'all',
    model: 'emoji',
    device: 'cpu',
    threads: 1,
    seed: 3,
    prompts: ['a cat', 'a dog'],
    negativePrompt: 'x',
    reward: [
      { reward: 'jpeg-compressibility', weight: 1, normalise: 'batch' },
      { reward: { module: './r.ts' }, weight: -0.5 },
    ],
    epochs: 3,
    sample: { steps: 4, guidanceScale: 3, eta: 1, promptsPerEpoch: 2, picturesPerPrompt: 3, batchSize: 4 },
    train: {
      unet: 'lora',
      textEncoder: 'none',
      rank: 2,
      alpha: 4,
      targets: ['to_q'],
      learningRate: 0.1,
      weightDecay: 0,
      maxGradNorm: 1,
      updatesPerEpoch: 2,
      innerEpochs: 1,
      batchSize: 2,
      timestepFraction: 0.5,
      stepWeights: 'none',
      estimator: 'is',
      clipNats: 3,
      promptStatistics: { bufferSize: 8, minimumCount: 2 },
      advantageClip: 5,
    },
    evaluate: {
      every: 2,
      prompts: { split: 'validation', kind: 'single', nouns: ['cat', 'dog'] },
      picturesPerPrompt: 1,
      maxPrompts: 2,
    },
    report: { prompts: { split: 'test', kind: 'single' }, picturesPerPrompt: 2, maxPrompts: 2 },
    checkpoint: { every: 2, keep: 1 },
  };
  writeFileSync(join(folder, 'all.yaml'), JSON.stringify(everything, null, 1));
  return {
    files: ['all.yaml', 'all.yaml', 'quickstart.yaml'],
    read(file) {
      const recipe = loadRecipe(file, ['seed=1']);
      batchArithmetic(recipe);
      describeArithmetic(recipe);
      for (const field of [recipe.prompts, recipe.evaluate.prompts, recipe.report.prompts])
        if (field !== undefined) loadPrompts(field);
    },
  };
}

function prompts(folder: string): Kind {
  writeFileSync(
    join(folder, 'prompts.txt'),
    '# animals\na cat\na dog on grass\n\n  two cows  \nein großer Fuchs 🦊\n',
  );
  writeFileSync(
    join(folder, 'prompts.jsonl'),
    ['a cat', 'a dog', 'two cows']
      .map((prompt, count) => JSON.stringify({ prompt, count, tags: ['x'], box: { a: [1, 2] } }))
      .join('\n'),
  );
  const { tokenizer, parameters } = tinyPipeline();
  for (const network of Object.values(parameters)) network.free();
  return {
    files: ['prompts.txt', 'prompts.jsonl'],
    read(file) {
      const read = loadPrompts(file);
      promptsOfEpoch(read, { seed: 0, epoch: 0, promptsPerEpoch: 4, picturesPerPrompt: 1 });
      const texts = read.slice(0, 20).map(({ text }) => text);
      const { ids } = tokenizer.encode(texts);
      for (const text of texts) tokenizer.count(text);
      JSON.stringify(read.slice(0, 20));
      if (ids.some((row) => row.length !== tokenizer.maxLength))
        throw new Error('a row of ids of another length');
    },
  };
}

function tokenizers(folder: string): Kind {
  const { tokenizer, parameters } = tinyPipeline();
  for (const network of Object.values(parameters)) network.free();
  for (const name of ['fast', 'slow']) {
    mkdirSync(join(folder, name));
    tokenizer.save(join(folder, name));
  }
  rmSync(join(folder, 'slow', 'tokenizer.json'));
  writeFileSync(
    join(folder, 'slow', 'tokenizer_config.json'),
    JSON.stringify({
      model_max_length: 9,
      bos_token: '<|startoftext|>',
      eos_token: { content: '<|endoftext|>' },
    }),
  );
  writeFileSync(
    join(folder, 'slow', 'special_tokens_map.json'),
    JSON.stringify({ pad_token: '!', unk_token: { content: '<|endoftext|>', lstrip: false } }),
  );
  return {
    files: [
      'fast/tokenizer.json',
      'fast/tokenizer.json',
      'fast/tokenizer_config.json',
      'slow/vocab.json',
      'slow/merges.txt',
      'slow/tokenizer_config.json',
      'slow/special_tokens_map.json',
    ],
    read(file) {
      const own = file.includes('slow') ? 'slow' : 'fast';
      const read = CLIPTokenizer.load(join(folder, own));
      const texts = [
        'a cat',
        'two dogs, 3 cats!',
        '',
        'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaab',
        'ß 🦊 \u0000',
      ];
      const { ids } = read.encode(texts);
      for (const text of texts) read.count(text);
      for (const row of ids) {
        if (row.length !== read.maxLength || !row.every((id) => Number.isSafeInteger(id) && id >= 0)) {
          throw new Error(`ids ${JSON.stringify(row).slice(0, 200)}, maxLength ${read.maxLength}`);
        }
      }
    },
  };
}

function models(folder: string): Kind {
  const usual = tinyPipeline();
  savePipeline(usual, join(folder, 'kl'));
  usual.parameters.vae.free();
  usual.parameters.vae = Parameters.random(3);
  const tiny = {
    encoder_block_out_channels: [4, 4],
    decoder_block_out_channels: [4, 4],
    num_encoder_blocks: [1, 1],
    num_decoder_blocks: [1, 1],
    latent_channels: 4,
  };
  usual.vae = new AutoencoderTiny(tiny, usual.parameters.vae.at());
  savePipeline(usual, join(folder, 'tiny'));
  for (const network of Object.values(usual.parameters)) network.free();
  const configs = [
    'unet/config.json',
    'unet/config.json',
    'scheduler/scheduler_config.json',
    'vae/config.json',
    'text_encoder/config.json',
    'model_index.json',
    'generation_config.json',
  ];
  return {
    files: [...configs.map((name) => `kl/${name}`), 'tiny/vae/config.json'],
    async read(file) {
      const pipeline = loadPipeline(join(folder, file.includes(join(folder, 'kl')) ? 'kl' : 'tiny'));
      try {
        // of the picture's size and the number of steps, only what takes no time is tried
        const pixels = 4 * pipeline.vae.downFactor;
        const { steps = 2, guidanceScale } = pipeline.defaults;
        free(
          await generate(pipeline, {
            prompts: ['a cat'],
            seeds: [0],
            steps: Math.min(steps, 2),
            width: pixels,
            height: pixels,
            ...(guidanceScale === undefined ? {} : { guidanceScale }),
          }),
        );
      } finally {
        for (const network of Object.values(pipeline.parameters)) network.free();
      }
    },
  };
}

function adapters(folder: string): Kind {
  const pipeline = tinyPipeline();
  const { unet, textEncoder } = pipeline.parameters;
  const made = {
    unet: Adapter.attach(unet, { rank: 2, alpha: 4, targets: UNET_ATTENTION, seed: 0 }),
    textEncoder: Adapter.attach(textEncoder, { rank: 2, targets: TEXT_ATTENTION, seed: 1 }),
  };
  saveLora(join(folder, 'peft.safetensors'), made);
  for (const adapter of Object.values(made)) adapter.remove();
  const kohya: StateDict = new Map();
  for (const path of [...unet.layers.keys()].filter((name) => name.endsWith('to_q'))) {
    const name = `lora_unet_${path.replaceAll('.', '_')}`;
    const [out, input] = unet.entries.get(`${path}.weight`)!.shape as [number, number];
    const draw = (rows: number, columns: number) =>
      scope(() => normal([noiseKey(0, name)], [rows, columns]).squeeze(0));
    kohya.set(`${name}.lora_down.weight`, draw(2, input));
    kohya.set(`${name}.lora_up.weight`, draw(out, 2));
    kohya.set(`${name}.alpha`, tensor([2], { shape: [] }));
  }
  writeSafetensors(join(folder, 'kohya.safetensors'), kohya, { ss_network_dim: '2' });
  free(kohya);
  return {
    files: ['peft.safetensors', 'peft.safetensors', 'kohya.safetensors'],
    async read(file) {
      const loaded = Object.values(loadLora(file, pipeline.parameters, 0.5)).filter(
        (adapter): adapter is LoraAdapter => adapter !== undefined,
      );
      try {
        free(await generate(pipeline, { prompts: ['a cat'], seeds: [0], steps: 1 }));
      } finally {
        for (const adapter of loaded) adapter.remove();
      }
    },
    leftBehind() {
      const layers = [...unet.layers, ...textEncoder.layers];
      const [path] = layers.find(([, layer]) => 'branches' in layer && layer.branches.length > 0) ?? [];
      return path && `an adapter stays on ${path}`;
    },
  };
}
