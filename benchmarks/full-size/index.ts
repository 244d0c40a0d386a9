// Real configurations at full size with random weights on the CPU, in turns with diffusers: what is drawn, what it takes, and
// what `rldf plan` said of it; then one update of three methods, whose adapter diffusers draws with too. Every step is a process
// of its own. Not in CI: minutes a case, and 24 GB of memory for XL.
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { initialNoiseKeys } from '@rldf/models';
import { free, normal, UserError, writeSafetensors } from '@rldf/torch';
import { checkRecipe, findModel } from 'rldf';
import { drawingMemory, plan } from 'rldf/run';
import { stringify } from 'yaml';
import { pythonEnvironment } from '../shared/environments.js';
import { flag, type OptionsOf, output, python, text, whole, words } from '../shared/options.js';
import { Peer } from '../shared/peer.js';
import type { Result } from '../shared/rows.js';
import { largestDifference, strengthen } from '../stable-diffusion/tools.js';
import {
  type Case,
  cases,
  guidance,
  type Name,
  names,
  prompt,
  recipeOf,
  size,
  steps,
  type TrainingName,
  trainings,
} from './cases.js';

export const options = {
  model: text('NAME', `${names.join(', ')}; or the first word behind the benchmark’s name`),
  folder: text(
    'FOLDER',
    'keeps the random weights there, or takes those that are; default: a scratch folder',
  ),
  only: words('STEP', 'only these: float32, bfloat16, ddpo, alignprop, ip-rldf'),
  threads: whole('of either side; default: 1'),
  python,
  output,
  page: flag('not used'),
};

export interface FullSizeRow {
  model: Name;
  /** What was done, and in what. */
  step: string;
  seconds: { ours: number; peer?: number };
  /** The most bytes of the process; and ours in tensors, as measured and as planned. */
  process: { ours: number; peer?: number };
  tensors: { measured: number; planned: number };
  /** Of the latents beside diffusers', relative to the largest; of an adapter, with what it changes. */
  difference?: number;
  effect?: number;
}

export async function run(given: OptionsOf<typeof options>): Promise<Result> {
  const name = (given.model ?? 'sd15') as Name;
  if (!names.includes(name))
    throw new UserError(`full-size: there is no "${name}" — one of ${names.join(', ')}.`);
  const scratch = given.folder ?? mkdtempSync(join(tmpdir(), 'rldf-full-size-'));
  mkdirSync(scratch, { recursive: true });
  const bench = new FullSize(name, scratch, given);
  try {
    await bench.all();
  } finally {
    if (given.folder === undefined) rmSync(scratch, { recursive: true, force: true });
  }
  return { data: bench.rows, text: describe(bench.rows) };
}

class FullSize {
  readonly rows: FullSizeRow[] = [];
  readonly #case: Case;
  readonly #model: string;
  readonly #python: string;
  readonly #threads: number;

  constructor(
    readonly name: Name,
    readonly folder: string,
    readonly given: OptionsOf<typeof options>,
  ) {
    this.#case = cases[name]();
    this.#model = join(folder, name);
    this.#python = pythonEnvironment('diffusers', { python: given.python, say: given.say });
    this.#threads = given.threads ?? 1;
  }

  async all(): Promise<void> {
    if (!existsSync(join(this.#model, 'model_index.json'))) await this.#make();
    const latents = join(this.folder, 'latents.safetensors');
    const noise = normal(initialNoiseKeys([7]), [4, size[0] / 8, size[1] / 8]);
    writeSafetensors(latents, new Map([['latents', noise]]));
    free(noise);
    for (const dtype of ['float32', 'bfloat16'] as const) if (this.#wanted(dtype)) await this.#draw(dtype);
    for (const training of Object.keys(trainings) as TrainingName[])
      if (this.#wanted(training)) await this.#train(training);
  }

  #wanted(step: string): boolean {
    return this.given.only?.includes(step) ?? true;
  }

  async #make(): Promise<void> {
    const began = performance.now();
    const tokenizer = join(findModel('emoji').path, 'tokenizer');
    const { configs } = this.#case;
    const made = await this.#ask('peer', { ask: 'make', model: this.#model, configs, tokenizer, seed: 0 });
    this.given.say(
      `${this.name}: ${JSON.stringify(made)} in ${((performance.now() - began) / 1000).toFixed(0)} s`,
    );
  }

  #question(dtype: string, file: string, adapter?: string) {
    const { objects } = this.#case;
    return {
      ask: 'draw',
      model: this.#model,
      dtype,
      latents: join(this.folder, 'latents.safetensors'),
      prompts: [prompt],
      steps,
      guidance,
      size,
      file: join(this.folder, file),
      ...(objects && { objects }),
      ...(adapter !== undefined && { adapter }),
    };
  }

  async #draw(dtype: 'float32' | 'bfloat16'): Promise<void> {
    const planned = await drawingMemory({
      folder: this.#model,
      dtype,
      batchSize: 1,
      height: size[0],
      width: size[1],
      guided: true,
    });
    const ours = await this.#ask('ours', this.#question(dtype, `ours-${dtype}.safetensors`));
    const peer = await this.#ask('peer', this.#question(dtype, `peer-${dtype}.safetensors`));
    this.#add({
      model: this.name,
      step: `draw, ${dtype}`,
      seconds: { ours: ours.seconds!, peer: peer.seconds! },
      process: { ours: ours.process!, peer: peer.process! },
      tensors: { measured: ours.tensors!, planned },
      difference: largestDifference(this.#files(dtype), 'latents', true),
    });
  }

  #files(what: string): [string, string] {
    return [join(this.folder, `ours-${what}.safetensors`), join(this.folder, `peer-${what}.safetensors`)];
  }

  async #train(training: TrainingName): Promise<void> {
    const { precision } = this.#case;
    const recipe = recipeOf(training, this.#model, precision, this.#threads);
    const file = join(this.folder, `${training}.yaml`);
    writeFileSync(file, stringify(recipe));
    const { memory } = await plan(checkRecipe(recipe), { calibration: 0 });
    const folder = join(this.folder, `${training}-adapter`);
    mkdirSync(folder, { recursive: true });
    const ours = await this.#ask('ours', { ask: 'train', recipe: file, overrides: [], folder });
    this.given.say(`${this.name}: ${training} ${JSON.stringify(ours.metrics)}`);
    const row: FullSizeRow = {
      model: this.name,
      step: `${training}, LoRA, ${precision}`,
      seconds: { ours: ours.seconds! },
      process: { ours: ours.process! },
      tensors: { measured: ours.tensors!, planned: Math.max(memory.phases.drawing, memory.phases.learning) },
    };
    if (training === 'ip-rldf')
      Object.assign(row, await this.#adapter(join(folder, 'pytorch_lora_weights.safetensors')));
    this.#add(row);
  }

  /** Drawn with by both sides, with numbers of a size that shows. */
  async #adapter(trained: string): Promise<{ difference: number; effect: number }> {
    const strong = join(this.folder, 'strong', 'pytorch_lora_weights.safetensors');
    mkdirSync(join(this.folder, 'strong'), { recursive: true });
    strengthen(trained, strong);
    const { precision } = this.#case;
    const without = join(this.folder, `ours-${precision}.safetensors`);
    if (!existsSync(without))
      await this.#ask('ours', this.#question(precision, `ours-${precision}.safetensors`));
    await this.#ask('ours', this.#question(precision, 'ours-adapter.safetensors', strong));
    await this.#ask('peer', this.#question(precision, 'peer-adapter.safetensors', strong));
    const files = this.#files('adapter');
    return {
      difference: largestDifference(files, 'latents', true),
      effect: largestDifference([files[0], without], 'latents', true),
    };
  }

  /** Asks a process of its own. */
  async #ask(
    side: 'ours' | 'peer',
    question: object,
  ): Promise<{ [key: string]: number | undefined } & { metrics?: unknown }> {
    const threads = this.#threads;
    const environment = { OMP_NUM_THREADS: String(threads) };
    const peer =
      side === 'ours'
        ? new Peer(process.execPath, '../full-size/ours.ts', process.execArgv, environment)
        : new Peer(this.#python, 'full_size_peer.py', ['-u'], environment);
    try {
      const answer = await peer.ask({ threads, ...question });
      if (answer.error !== undefined) throw new Error(answer.error);
      return answer as never;
    } finally {
      await peer.kill();
    }
  }

  #add(row: FullSizeRow): void {
    this.rows.push(row);
    this.given.say(JSON.stringify(row));
    const { output } = this.given;
    if (output === undefined) return;
    mkdirSync(output, { recursive: true });
    const file = join(output, 'full-size.json');
    const before = existsSync(file) ? (JSON.parse(readFileSync(file, 'utf8')) as FullSizeRow[]) : [];
    const others = before.filter(({ model, step }) => model !== row.model || step !== row.step);
    writeFileSync(file, `${JSON.stringify([...others, row], null, 2)}\n`);
  }
}

/** As a table in Markdown. */
export function describe(rows: readonly FullSizeRow[]): string {
  const gigabytes = (bytes: number | undefined) => (bytes === undefined ? '' : (bytes / 1e9).toFixed(2));
  const lines = rows.map(({ model, step, seconds, process, tensors, difference, effect }) =>
    [
      model,
      step,
      seconds.ours.toFixed(0),
      seconds.peer?.toFixed(0) ?? '',
      gigabytes(tensors.measured),
      gigabytes(tensors.planned),
      (tensors.planned / tensors.measured).toFixed(3),
      gigabytes(process.ours),
      gigabytes(process.peer),
      difference === undefined
        ? ''
        : difference.toExponential(1) + (effect === undefined ? '' : ` of ${effect.toExponential(1)}`),
    ].join(' | '),
  );
  return [
    '| model | step | s | s, diffusers | GB in tensors | planned | ratio | GB of the process | diffusers | latents apart |',
    '|---|---|---:|---:|---:|---:|---:|---:|---:|---:|',
    ...lines.map((line) => `| ${line} |`),
    '',
  ].join('\n');
}
