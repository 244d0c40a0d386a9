// @rldf/torch beside PyTorch in Python: the same libtorch, inputs and number of threads, interleaved in one run.
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { UNet2DConditionModel } from '@rldf/models';
import {
  F,
  grad,
  keep,
  noiseKey,
  normal,
  Parameters,
  type StateDict,
  scope,
  setThreads,
  type Tensor,
  tensor,
  writeSafetensors,
} from '@rldf/torch';
import { LATENT_CHANNELS, unetConfig } from 'rldf/pretrain';
import { relativeDifference } from '../shared/differences.js';
import { flag, type OptionsOf, python } from '../shared/options.js';
import { findPython, Peer } from '../shared/peer.js';
import { median, type Row } from '../shared/rows.js';

interface Case {
  name: string;
  title: string;
  unit: 'us' | 'ms';
  /** Calls a repetition. */
  calls: number;
  repetitions: number;
  /** Calls in one scope. */
  perScope: number;
  inputs: StateDict;
  ask?: Record<string, unknown>;
  run: () => Tensor;
}

const draw = (name: string, ...shape: number[]) => keep(normal([noiseKey(1, name)], shape).squeeze(0));

function kernel(
  name: string,
  title: string,
  calls: number,
  shapes: number[][],
  run: (...inputs: Tensor[]) => Tensor,
): Case {
  const inputs: StateDict = new Map(
    shapes.map((shape, i) => ['abc'[i] as string, draw(`${name} ${i}`, ...shape)]),
  );
  const list = [...inputs.values()];
  return { name, title, unit: 'ms', calls, repetitions: 15, perScope: 1, inputs, run: () => run(...list) };
}

function addCase(): Case {
  const made = kernel(
    'add',
    'call overhead: add of two [4, 4]',
    5000,
    [
      [4, 4],
      [4, 4],
    ],
    (a, b) => (a as Tensor).add(b as Tensor),
  );
  return { ...made, unit: 'us', repetitions: 41, perScope: 100 };
}

function backwardCase(): Case {
  const made = kernel(
    'conv2d backward',
    'conv2d backward [8, 64, 32, 32], 3x3',
    8,
    [[8, 64, 32, 32], [64, 64, 3, 3], [64]],
    () => {
      throw new Error('replaced below');
    },
  );
  const [x, weight, bias] = [...made.inputs.values()] as [Tensor, Tensor, Tensor];
  x.requiresGrad_();
  weight.requiresGrad_();
  const y = keep(F.conv2d(x, weight, bias, { padding: 1 }));
  const ones = keep(y.detach().mul(0).add(1));
  return {
    ...made,
    run: () => grad(y, [x, weight], { gradOutputs: [ones], retainGraph: true })[1] as Tensor,
  };
}

function unetCase(): Case {
  const batch = 16;
  const words = 24;
  const parameters = Parameters.random(3);
  const model = new UNet2DConditionModel(unetConfig, parameters.at());
  const latents = draw('latents', batch, LATENT_CHANNELS, 8, 8);
  const timesteps = keep(
    tensor(
      Array.from({ length: batch }, (_, i) => 61 * i),
      { dtype: 'int64' },
    ),
  );
  const hiddenStates = draw('text', batch, words, unetConfig.cross_attention_dim as number);
  const inputs: StateDict = new Map(
    [...parameters.state()].map(([name, weight]) => [`model.${name}`, weight]),
  );
  inputs.set('latents', latents).set('timesteps', timesteps).set('text', hiddenStates);
  return {
    name: 'unet',
    title: `U-Net step of the built-in model, batch ${batch}`,
    unit: 'ms',
    calls: 2,
    repetitions: 15,
    perScope: 1,
    inputs,
    ask: { config: unetConfig },
    run: () => model.forward(latents, timesteps, { hiddenStates }),
  };
}

const cases = (): Case[] => [
  addCase(),
  kernel(
    'matmul',
    'matmul [512, 512] x [512, 512]',
    20,
    [
      [512, 512],
      [512, 512],
    ],
    (a, b) => (a as Tensor).matmul(b as Tensor),
  ),
  kernel(
    'conv2d',
    'conv2d forward [8, 64, 32, 32], 3x3',
    12,
    [[8, 64, 32, 32], [64, 64, 3, 3], [64]],
    (x, w, b) => F.conv2d(x as Tensor, w as Tensor, b, { padding: 1 }),
  ),
  backwardCase(),
  kernel(
    'attention',
    'attention [8, 8, 256, 40]',
    12,
    [
      [8, 8, 256, 40],
      [8, 8, 256, 40],
      [8, 8, 256, 40],
    ],
    (q, k, v) => F.scaledDotProductAttention(q as Tensor, k as Tensor, v as Tensor),
  ),
  unetCase(),
];

/** Seconds of `calls` calls, freed scope by scope. */
function time({ run, calls, perScope }: Case): number {
  const block = () => {
    for (let i = 0; i < perScope; i++) run();
  };
  const start = process.hrtime.bigint();
  for (let i = 0; i < calls; i += perScope) scope(block);
  return Number(process.hrtime.bigint() - start) / 1e9;
}

function difference(ours: Tensor, file: string): number {
  const bytes = readFileSync(file);
  const theirs = new Float32Array(bytes.buffer, bytes.byteOffset, bytes.length / 4);
  return relativeDifference(ours.toArray() as Float32Array, theirs);
}

async function measure(peer: Peer, peerName: string, item: Case, folder: string): Promise<Row> {
  const name = item.name === 'unet' ? `${peerName}, diffusers` : peerName;
  const row: Row = { case: item.title, ours: null, peer: null, peerName: name, unit: item.unit, ratio: null };
  const file = join(folder, `${item.name}.safetensors`);
  writeSafetensors(file, item.inputs);
  const prepared = await peer.ask({ ask: 'prepare', case: item.name, inputs: file, ...item.ask });
  if (prepared.error !== undefined) return { ...row, skipped: prepared.error };
  row.difference = scope(() => difference(item.run(), prepared.output as string));
  const ours: number[] = [];
  const theirs: number[] = [];
  for (let i = -2; i < item.repetitions; i++) {
    const mine = time(item);
    const answer = await peer.ask({ ask: 'run', case: item.name, calls: item.calls });
    if (answer.error !== undefined) return { ...row, skipped: answer.error };
    if (i < 0) continue; // both warm up
    ours.push(mine);
    theirs.push(answer.seconds as number);
  }
  const scale = (item.unit === 'us' ? 1e6 : 1e3) / item.calls;
  row.ours = median(ours) * scale;
  row.peer = median(theirs) * scale;
  row.ratio = row.peer / row.ours;
  return row;
}

/** Growth of the resident memory from update 50 to update 1,000, each side in a fresh process. */
async function memory(python: string, peerName: string): Promise<Row> {
  const row: Row = {
    case: 'RSS after 1,000 updates / after 50',
    ours: null,
    peer: null,
    peerName,
    unit: 'x',
    ratio: null,
  };
  const script = fileURLToPath(new URL('./memory.ts', import.meta.url));
  const { stdout, stderr, status } = spawnSync(
    process.execPath,
    [...process.execArgv, script, '50', '1000'],
    { encoding: 'utf8' },
  );
  if (status !== 0) return { ...row, skipped: stderr.trim().split('\n').at(-1) ?? 'failed' };
  const [early, late] = JSON.parse(stdout).rss as [number, number];
  row.ours = late / early;
  const peer = new Peer(python);
  const answer = await peer.ask({ ask: 'memory', updates: [50, 1000] });
  peer.end();
  if (answer.error !== undefined) return { ...row, skipped: answer.error };
  const [first, last] = answer.rss as [number, number];
  row.peer = last / first;
  row.ratio = row.peer / row.ours;
  return row;
}

export const options = { python, page: flag('writes the section of docs/performance.md') };

export async function run({ python: given, say }: OptionsOf<typeof options>): Promise<Row[]> {
  const python = findPython(given);
  const folder = mkdtempSync(join(tmpdir(), 'rldf-bench-'));
  const peer = new Peer(python);
  try {
    const hello = await peer.ask({ ask: 'hello' });
    setThreads(hello.threads as number);
    const peerName = `PyTorch ${hello.torch}`;
    const rows: Row[] = [];
    for (const item of cases()) {
      say(`bench: ${item.title}`);
      rows.push(await measure(peer, peerName, item, folder));
    }
    say('bench: memory');
    rows.push(await memory(python, peerName));
    return rows;
  } finally {
    peer.end();
    rmSync(folder, { recursive: true, force: true });
  }
}
