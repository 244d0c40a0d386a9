// Whether all that runs on the CPU runs on a GPU, and how far apart the two end; how fast and with how much memory.
// npm run bench -- device [--device cuda] [--page] [--output FOLDER] [--smoke]
import { spawn } from 'node:child_process';
import { mkdirSync, writeFileSync } from 'node:fs';
import { cpus } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { type Device, deviceName } from '@rldf/torch';
import { methods } from 'rldf';
import { device, flag, type OptionsOf, output } from '../shared/options.js';
import { markdownTable, provenance } from '../shared/page.js';
import type { Result } from '../shared/rows.js';
import type { DeviceRow } from './row.js';

interface Job {
  /** Name of the table that the rows go to. */
  check: string;
  /** What the process is asked for. */
  ask: string;
  device: Device;
  env?: Record<string, string>;
  /** Put before what the rows say. */
  label?: string;
}

/** Our default is 0: no float32 convolution in TF32 (10 bits of mantissa). Libtorch's own default is this. */
const withTf32 = { NVIDIA_TF32_OVERRIDE: '1' };

const titles: Record<string, string> = {
  pictures: 'The same seeds: latents and bytes beside float32 on the CPU',
  methods: 'Every method: a whole run on the tiny model, the adapter beside that of the same run on the CPU',
  quickstart: 'The quickstart',
  speed: 'Speed of drawing with the shipped model, 14 steps',
  scores: 'Rewards and detectors on the same pictures',
  gradients: 'Gradients of the shipped model’s adapter',
  resumed: 'Killed and resumed beside straight, in bytes',
};

/** Said under a title. */
const notes: Record<string, string> = {
  pictures:
    'rldf sets the environment variable `NVIDIA_TF32_OVERRIDE` to 0, unless it is set; else cuDNN would compute float32 convolutions in TF32 (10 bits of mantissa). `with TF32` is the same with the variable at 1. Relative: ‖a − b‖ / ‖b‖.',
  methods:
    'An adapter that differs by 0 is that of the start: in so short a run validation may never rise, and the start is kept. Adam divides by the size of the gradient: where that is next to nothing, rounding decides the sign of a step. The seconds are of processes that run side by side and load their kernels.',
  speed: 'Until the bytes are in the memory of the host; the median of the repetitions.',
  resumed: 'Adapter, optimiser, statistics and metrics of two runs of the command line.',
};

/** Marks rows of it: they are for information, and fail nothing. */
const tf32 = 'with TF32: ';

/** Those that may run at the same time, and those that are timed. */
function jobs(device: Device): { together: Job[]; alone: Job[] } {
  const both = (check: string): Job[] => [
    { check, ask: check, device },
    ...(device === 'cpu' ? [] : [{ check, ask: check, device, env: withTf32, label: tf32 }]),
  ];
  const timed = (check: string): Job[] =>
    device === 'cpu'
      ? [{ check, ask: check, device }]
      : [...both(check), { check, ask: check, device: 'cpu' }];
  return {
    together: [
      ...both('pictures'),
      ...Object.keys(methods).map((name) => ({ check: 'methods', ask: `methods:${name}`, device })),
      ...both('gradients'),
      { check: 'scores', ask: 'scores', device },
      { check: 'resumed', ask: 'resumed', device },
    ],
    alone: [...timed('quickstart'), ...timed('speed')],
  };
}

/** Seconds after which a check is given up. */
const patience = 240;

export const options = {
  device,
  smoke: flag('as little as shows that it runs'),
  output,
  page: flag('writes docs/results/device'),
};

export async function run(given: OptionsOf<typeof options>): Promise<Result> {
  const { device = 'cuda', smoke = false, page, output, say } = given;
  deviceName(device as Device);
  const rows: DeviceRow[] = [];
  const machine = provenance(cpus().length, device as Device);
  const receive = (row: DeviceRow) => {
    rows.push(row);
    say(line(row));
    const json = `${JSON.stringify({ device, machine, rows }, null, 2)}\n`;
    if (output !== undefined) {
      mkdirSync(output, { recursive: true });
      writeFileSync(join(output, 'device.json'), json);
      writeFileSync(join(output, 'device.md'), pageOf(machine, rows));
    }
    if (page) {
      writeFileSync(results('device.json'), json);
      writeFileSync(results('device.md'), pageOf(machine, rows));
    }
  };
  const { together, alone } = jobs(device as Device);
  const places = smoke || device === 'cpu' ? 1 : Math.max(1, Math.floor(cpus().length / 2));
  const queue = [...together];
  const worker = async () => {
    for (let job = queue.shift(); job !== undefined; job = queue.shift()) {
      await start(job, smoke, { OMP_NUM_THREADS: '2' }, receive);
    }
  };
  await Promise.all(Array.from({ length: places }, worker));
  for (const job of alone) await start(job, smoke, {}, receive);
  const failed = rows.filter(({ what, problem }) => problem !== undefined && !what.startsWith(tf32));
  if (failed.length > 0) process.exitCode = 1;
  return { data: { device, machine, rows }, text: pageOf(machine, rows) };
}

const results = (name: string) => fileURLToPath(new URL(`../../docs/results/${name}`, import.meta.url));

/** One process; whatever happens to it becomes a row. */
function start(
  { check, ask, device, env = {}, label = '' }: Job,
  smoke: boolean,
  more: Record<string, string>,
  receive: (row: DeviceRow) => void,
): Promise<void> {
  const script = fileURLToPath(new URL('./child.ts', import.meta.url));
  const words = [...process.execArgv, script, ask, device, String(smoke)];
  const child = spawn(process.execPath, words, {
    env: { ...process.env, ...more, ...env },
    stdio: ['ignore', 'ignore', 'pipe', 'pipe'],
    timeout: patience * 1000,
    killSignal: 'SIGKILL',
  });
  let errors = '';
  let text = '';
  child.stderr?.on('data', (data: Buffer) => {
    errors = `${errors}${data}`.slice(-8000);
  });
  const take = (part: string) => {
    const { what, ...rest } = JSON.parse(part) as Omit<DeviceRow, 'check'>;
    receive({ check, what: `${label}${what}`, ...rest });
  };
  child.stdio[3]?.on('data', (data: Buffer) => {
    const lines = `${text}${data}`.split('\n');
    text = lines.pop() as string;
    lines.forEach(take);
  });
  return new Promise((resolve) => {
    child.on('close', (status, signal) => {
      if (status !== 0) {
        const problem = `ended with ${signal ?? `exit code ${status}`}\n${errors.trim()}`;
        receive({ check, what: `${label}${ask}`, values: {}, problem });
      }
      resolve();
    });
  });
}

const shown = (value: number | string) =>
  typeof value === 'string'
    ? value
    : Number.isInteger(value)
      ? String(value)
      : Math.abs(value) >= 0.01
        ? value.toPrecision(4)
        : value.toExponential(1);

function line({ check, what, values, problem }: DeviceRow): string {
  const cells = Object.entries(values).map(([name, value]) => `${name} ${shown(value)}`);
  return `${problem === undefined ? 'ok    ' : 'FAILED'} ${check}: ${what}: ${cells.join(', ')}${problem === undefined ? '' : `\n${problem}`}`;
}

export function pageOf(machine: string, rows: readonly DeviceRow[]): string {
  const sections = Object.entries(titles).flatMap(([check, title]) => {
    const own = rows.filter((row) => row.check === check);
    if (own.length === 0) return [];
    const names = [...new Set(own.flatMap(({ values }) => Object.keys(values)))];
    const lines = own.map(({ what, values, problem }) => [
      what,
      ...names.map((name) => (values[name] === undefined ? '' : shown(values[name]))),
      problem === undefined ? 'yes' : 'no',
    ]);
    const note = notes[check];
    return [
      `## ${title}`,
      ...(note === undefined ? [] : [note]),
      markdownTable(['', ...names, 'passed'], lines),
    ];
  });
  const problems = rows.flatMap(({ check, what, problem }) =>
    problem === undefined
      ? []
      : [`- ${check}, ${what}: ${problem.split('\n').slice(0, 3).join(' ').slice(0, 500)}`],
  );
  return `${['# On a GPU', '`npm run bench -- device --page` writes this page.', machine, ...sections, ...(problems.length === 0 ? [] : ['## What failed', problems.join('\n')])].join('\n\n')}\n`;
}
