// Published rewards, on the tiny weights that ship: what they score was computed by their projects' own code.
import { cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { tensorOfPictures } from '@rldf/common/base/picture';
import { readSafetensors, setThreads, writeSafetensors } from '@rldf/torch';
import { UserError } from '@rldf/torch/errors';
import { afterAll, afterEach, expect, test } from 'vitest';
import { publishedRewardNames } from '../config/fields.js';
import { loadRecipe } from '../recipe/load.js';
import { checkReward } from './check.js';
import { loadReward } from './index.js';
import { loadPublished } from './published.js';
import { tinyWeights } from './published-names.js';

setThreads(1);
const folder = mkdtempSync(join(tmpdir(), 'rldf-published-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));
afterEach(() => {
  delete process.env.HF_HUB_CACHE;
});
const tiny = fileURLToPath(new URL('../../assets/rewards/tiny/', import.meta.url));

test.each(publishedRewardNames)('%s scores as its project’s own code does, with a gradient', async (name) => {
  const { checks, scores } = await checkReward({ name, weights: 'tiny' });
  expect(checks.map(({ pass }) => pass)).toEqual([true, true]);
  expect(scores.length).toBe(3);
});

test('weights that were changed are seen to be other ones', async () => {
  const own = join(folder, 'changed');
  cpSync(join(tiny, 'clip-score'), own, { recursive: true });
  const file = join(own, 'open_clip_model.safetensors');
  const { tensors } = readSafetensors(file);
  tensors.set('visual.proj', tensors.get('visual.proj')!.mul(-1));
  writeSafetensors(file, tensors);
  const [theirs, ours] = await Promise.all(
    [tinyWeights('clip-score'), { name: 'clip-score', weights: own } as const].map((spec) =>
      checkReward(spec),
    ),
  );
  theirs!.scores.forEach(({ score }, i) => {
    expect(ours!.scores[i]!.score).toBeCloseTo(-score, 3);
  });
});

test('a repository in Hugging Face’s cache is found by its name, as its main says', async () => {
  const cache = join(folder, 'hub');
  const model = join(cache, 'models--someone--Pick');
  mkdirSync(join(model, 'refs'), { recursive: true });
  const commit = 'ab'.repeat(20);
  writeFileSync(join(model, 'refs', 'main'), `${commit}\n`);
  cpSync(join(tiny, 'pickscore'), join(model, 'snapshots', commit), { recursive: true });
  mkdirSync(join(model, 'snapshots', '000-older'));
  process.env.HF_HUB_CACHE = cache;
  const found = loadPublished({ name: 'pickscore', weights: 'someone/Pick' });
  const batch = {
    images: tensorOfPictures([
      { width: 40, height: 33, channels: 3, data: new Uint8Array(40 * 33 * 3).fill(9) },
    ]),
    prompts: ['a cat'],
    meta: [null],
  };
  expect(await found.score(batch)).toEqual(await loadPublished(tinyWeights('pickscore')).score(batch));
  expect(() => loadPublished({ name: 'pickscore', weights: 'someone/Else' })).toThrow(
    `no file or folder someone/Else, and no such repository in ${cache} — weights are read from this machine. \`rldf rewards check pickscore\` downloads someone/Else`,
  );
});

test('a published reward is part of a sum, and reads as much of a prompt as its network does', async () => {
  const sum = await loadReward([
    { reward: tinyWeights('imagereward'), normalise: 'none' },
    { reward: tinyWeights('clip-score'), weight: 0.5, normalise: 'none' },
  ]);
  expect(sum.differentiable).toBeDefined();
  expect(sum.readers?.map(({ name, maxLength }) => [name, maxLength])).toEqual([
    ['imagereward', 35],
    ['clip-score', 24],
  ]);
  expect(sum.readers?.[0]?.cut('cat '.repeat(40).trim())).toBe('cat '.repeat(7).trim());
});

const copy = (name: string, change: (own: string) => void) => {
  const own = mkdtempSync(join(folder, 'copy-'));
  cpSync(join(tiny, name), own, { recursive: true });
  change(own);
  return own;
};

test.each([
  [
    'a vocabulary of others',
    () => ({
      name: 'imagereward' as const,
      weights: copy('imagereward', (own) =>
        writeFileSync(join(own, 'vocab.txt'), `${readFileSync(join(own, 'vocab.txt'), 'utf8')}more\nwords\n`),
      ),
    }),
    /gives ids up to 69, the weights know 68 words — they do not belong together. Use vocab.txt of bert-base-uncased/,
  ],
  [
    'weights of another reward',
    () => ({
      name: 'imagereward' as const,
      weights: join(tiny, 'hpsv2', 'HPS_v2_compressed.pt'),
      tokenizer: join(tiny, 'imagereward'),
    }),
    /tensor "blip.visual_encoder.patch_embed.proj.weight" is missing — these are not the weights of ImageReward/,
  ],
  [
    'a folder without the file',
    () => ({ name: 'hpsv2.1' as const, weights: join(tiny, 'hpsv2') }),
    /holds neither transformers' config.json nor HPS_v2.1_compressed.pt nor/,
  ],
  [
    'a file without a tokenizer',
    () => ({
      name: 'hpsv2' as const,
      weights: copy('hpsv2', (own) => rmSync(join(own, 'vocab.json'))),
    }),
    /no tokenizer.json or vocab.json in .*, and its weights know \d+ words, not CLIP’s 49408 — they need a vocabulary of their own/,
  ],
  [
    'a CLIP without its config',
    () => ({
      name: 'clip-score' as const,
      weights: copy('clip-score', (own) => rmSync(join(own, 'open_clip_config.json'))),
    }),
    /none of the published sizes, and how many heads they have cannot be told from weights. Put the model's open_clip_config.json beside/,
  ],
  [
    'a head that is none',
    () => ({ ...tinyWeights('laion-aesthetic'), weights: join(tiny, 'imagereward', 'ImageReward.pt') }),
    /no tensor "layers.0.weight" — an MLP that ends in one number/,
  ],
  [
    'a head that is not there',
    () => ({ name: 'laion-aesthetic' as const, clip: join(tiny, 'clip-score') }),
    /reward laion-aesthetic: weights: there is no file or folder sac\+logos.* Download sac\+logos\+ava1-l14-linearMSE.pth from github.com/,
  ],
  [
    'a pickle of transformers',
    () => ({
      name: 'pickscore' as const,
      weights: copy('pickscore', (own) => {
        rmSync(join(own, 'model.safetensors'));
        writeFileSync(join(own, 'pytorch_model.bin'), 'x');
      }),
    }),
    /model.safetensors: is missing — weights are read from safetensors only. pytorch_model.bin beside it is a pickle/,
  ],
])('%s: a clear message', (_, spec, message) => {
  const run = () => loadPublished(spec());
  expect(run).toThrow(UserError);
  expect(run).toThrow(message);
});

test('in a recipe: paths from its folder, repositories as they are, mistakes at their place', () => {
  const file = join(folder, 'recipe.yaml');
  const recipe = (reward: string) => {
    writeFileSync(file, `method: ddpo\nprompts: [a cat]\ntrain: { clipNats: 1 }\nreward: ${reward}\n`);
    return loadRecipe(file).reward;
  };
  expect(recipe('{ name: imagereward, weights: ImageReward.pt, tokenizer: ./bert }')).toEqual({
    name: 'imagereward',
    weights: join(dirname(file), 'ImageReward.pt'),
    tokenizer: join(dirname(file), 'bert'),
  });
  expect(recipe('{ name: pickscore, weights: yuvalkirstain/PickScore_v1 }')).toEqual({
    name: 'pickscore',
    weights: 'yuvalkirstain/PickScore_v1',
  });
  expect(() => recipe('{ name: imagerewards }')).toThrow(
    /4:\d+ {2}reward.name: expected one of imagereward, .* Did you mean imagereward/i,
  );
  expect(() => recipe('{ name: imagereward, weight: x.pt }')).toThrow(/reward.weight: unknown key/);
});
