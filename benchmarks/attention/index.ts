// Attention by two products beside libtorch's fused kernel on a CPU: for each type and size, what `F.scaledDotProductAttention`
// chooses by; and what drawing, a DDPO epoch and a pre-training update gain. The two ways in turns, within one process, in
// seconds of the processor on one thread: other work on the machine hardly moves them, though it shares the caches.
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { generate, loadPipeline } from '@rldf/models';
import { F, free, grad, keep, noiseKey, normal, scope, setThreads, type Tensor } from '@rldf/torch';
import { checkRecipe, findModel } from 'rldf';
import { basisOf, cacheLatents, loadPatchBasis, pretrainUNet, schedulerConfig } from 'rldf/training';
import { openTraining } from '../shared/open-training.js';
import { type OptionsOf, whole, words } from '../shared/options.js';
import { median, type Result, type Row, speedRatio, table } from '../shared/rows.js';

type DType = 'bfloat16' | 'float32';

/** Something that takes time, once either way. */
type Turn = () => void | Promise<void>;

const cpuSeconds = () => {
  const { user, system } = process.cpuUsage();
  return (user + system) / 1e6;
};

/** The two ways in turns; which comes first changes too. */
async function inTurns(title: string, turn: Turn, turns: number): Promise<Row> {
  const taken: Record<'products' | 'fused', number[]> = { products: [], fused: [] };
  const once = async (way: keyof typeof taken, counts: boolean) => {
    F.setAttention(way);
    const start = cpuSeconds();
    await turn();
    if (counts) taken[way].push(cpuSeconds() - start);
  };
  try {
    for (let i = -1; i < turns; i++) {
      const order = (['products', 'fused'] as const).slice();
      if (i % 2 === 1) order.reverse();
      for (const way of order) await once(way, i >= 0); // the first pair warms both
    }
  } finally {
    F.setAttention('chosen');
  }
  const { products, fused } = taken;
  return {
    case: title,
    ours: 1e3 * median(products),
    peer: 1e3 * median(fused),
    peerName: 'fused kernel',
    unit: 'ms',
    ...speedRatio(products, fused),
  };
}

/** Heads and width of Stable Diffusion's and the shipped model's U-Net; as many heads at once as make a call worth timing. */
const WIDTH = 40;
const SCORES = [8, 10, 12, 14, 16, 18, 20, 22];
const WORK = 2 ** 21;

/** Calls of one size, forward alone or with the way back. */
function kernel(dtype: DType, length: number, back: boolean): { turn: Turn; end(): void } {
  const heads = Math.max(8, Math.min(512, Math.round(WORK / length ** 2)));
  const qkv = ['q', 'k', 'v'].map((name) =>
    keep(
      scope(() =>
        normal([noiseKey(1, name, length)], [1, heads, length, WIDTH])
          .squeeze(0)
          .to(dtype)
          .detach(),
      ),
    ),
  ) as [Tensor, Tensor, Tensor];
  if (back) for (const one of qkv) one.requiresGrad_();
  const turn = () =>
    scope(() => {
      const output = F.scaledDotProductAttention(...qkv);
      if (back) grad(output, qkv, { gradOutputs: [output.detach()] });
    });
  return { turn, end: () => free(qkv) };
}

async function kernelRows(
  dtypes: readonly DType[],
  turns: number,
  say: (text: string) => void,
): Promise<Row[]> {
  const rows: Row[] = [];
  for (const dtype of dtypes) {
    for (const back of [false, true]) {
      for (const power of SCORES) {
        const length = 2 ** (power / 2);
        const title = `${dtype}, ${length} x ${length}, ${back ? 'with gradients' : 'forward'}`;
        say(`bench: ${title}`);
        const { turn, end } = kernel(dtype, length, back);
        rows.push(await inTurns(title, turn, turns));
        end();
      }
    }
  }
  return rows;
}

const PROMPTS = ['a cat', 'a red car and a blue bird', 'a dog to the left of a tree', 'three apples'];

async function drawing(turns: number): Promise<Row> {
  const pipeline = loadPipeline(findModel('emoji').path);
  const turn = async () => {
    const { images, latents } = await generate(pipeline, {
      prompts: PROMPTS,
      seeds: PROMPTS.map((_, i) => i),
      steps: 14,
      guidanceScale: 3,
    });
    free([images, latents]);
  };
  const row = await inTurns(`drawing ${PROMPTS.length} pictures, float32`, turn, turns);
  for (const parameters of Object.values(pipeline.parameters)) parameters.free();
  return row;
}

/** The quickstart's way to learn, with few pictures. */
async function ddpo(turns: number): Promise<Row> {
  const recipe = checkRecipe({
    method: 'ddpo',
    model: 'emoji',
    prompts: PROMPTS,
    reward: 'jpeg-estimate',
    epochs: 2 * (turns + 1),
    sample: { steps: 10, promptsPerEpoch: 4, picturesPerPrompt: 2 },
    train: { clipNats: 1.6, updatesPerEpoch: 1, batchSize: 8 },
  });
  const training = await openTraining(recipe);
  const events = training.run(0);
  const turn = async () => {
    for (let next = await events.next(); !next.done; next = await events.next())
      if (next.value.kind === 'step') return;
  };
  const row = await inTurns('a DDPO epoch of 8 pictures, float32', turn, turns);
  await events.return(undefined);
  training.free();
  return row;
}

/** An update of the U-Net and its text encoder as `rldf pretrain unet` makes it. */
async function pretraining(precision: DType, turns: number): Promise<Row> {
  const folder = mkdtempSync(join(tmpdir(), 'rldf-bench-'));
  try {
    const model = findModel('emoji').path;
    const pipeline = loadPipeline(model);
    const options = {
      ...{ folder, precision, batchSize: 32, seed: 0, cachedScenes: 64, textRate: 0.5 },
      ...{
        steps: 1_000_000,
        learningRate: 1e-5,
        eventSeconds: 0,
        checkpointMinutes: 1e6,
        sampleMinutes: 1e6,
      },
      scheduler: schedulerConfig,
    };
    const cache = await cacheLatents(loadPatchBasis(basisOf(model)), pipeline.tokenizer, options);
    const events = pretrainUNet(pipeline, cache, options, async () => {});
    const row = await inTurns(
      `a pre-training update of 32 scenes, ${precision}`,
      async () => void (await events.next()),
      turns,
    );
    await events.return(undefined);
    return row;
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

/** From which to which size, in scores a head, products win on average: the longest row of sizes of a type. */
function wonBetween(
  dtype: DType,
  direction: string,
  rows: readonly Row[],
): [from: number, to: number] | null {
  const ratioOf = (length: number) =>
    rows.find((row) => row.case === `${dtype}, ${length} x ${length}, ${direction}`)?.ratio ?? 0;
  let best: number[] = [];
  let run: number[] = [];
  for (const power of SCORES) {
    run = ratioOf(2 ** (power / 2)) > 1 ? [...run, 2 ** power] : [];
    if (run.length > best.length) best = run;
  }
  return best.length === 0 ? null : [best[0] as number, best.at(-1) as number];
}

const whereabouts = {
  drawing,
  ddpo,
  'pretraining-bfloat16': (turns: number) => pretraining('bfloat16', turns),
  'pretraining-float32': (turns: number) => pretraining('float32', turns),
};

export const options = {
  turns: whole('pairs of each row; default: 12'),
  parts: words('PART', `which: kernels, ${Object.keys(whereabouts).join(', ')}; default: all`),
  types: words('TYPE', 'of the kernels: bfloat16, float32; default: both'),
};

export async function run(given: OptionsOf<typeof options>): Promise<Result> {
  const { say, turns = 12, parts = ['kernels', ...Object.keys(whereabouts)] } = given;
  const types = (given.types ?? ['bfloat16', 'float32']) as DType[];
  setThreads(1);
  const rows = parts.includes('kernels') ? await kernelRows(types, turns, say) : [];
  const won =
    rows.length === 0
      ? []
      : types.flatMap((dtype) =>
          ['forward', 'with gradients'].map((direction) => ({
            dtype,
            direction,
            between: wonBetween(dtype, direction, rows),
          })),
        );
  for (const [part, measure] of Object.entries(whereabouts)) {
    if (!parts.includes(part)) continue;
    say(`bench: ${part}`);
    rows.push(await measure(turns));
  }
  const found = won.map(
    ({ dtype, direction, between }) =>
      `${dtype}, ${direction}: products win ${between === null ? 'nowhere' : `from ${between[0]} to ${between[1]} scores a head`}\n`,
  );
  const chosen = `chosen: products in bfloat16 up to ${F.MOST_SCORES_BY_PRODUCTS} scores a head\n`;
  return { data: { rows, won }, text: table(rows) + found.join('') + (won.length > 0 ? chosen : '') };
}
