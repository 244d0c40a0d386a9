// Stable Diffusion's architecture at full size with random weights, on whatever device is here: speed, memory and files do
// not depend on the weights' values. Drawing beside diffusers, training by the shipped recipes, adapters to and fro. Steps
// stand alone: what fails is reported and the others go on.
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { initialNoiseKeys } from '@rldf/models';
import { type Device, free, normal, writeSafetensors } from '@rldf/torch';
import { findModel, loadRecipe } from 'rldf';
import { plan } from 'rldf/run';
import { pythonEnvironment } from '../shared/environments.js';
import { device, flag, type OptionsOf, output, python, text, wholes, words } from '../shared/options.js';
import { provenance } from '../shared/page.js';
import { Peer } from '../shared/peer.js';
import { median, type Result, speedRatio } from '../shared/rows.js';
import {
  exact,
  type Precision,
  precisions,
  prompts,
  recipeFile,
  type Size,
  type SizeName,
  sizes,
  type TrainingCase,
} from './cases.js';
import { pageText, writePage } from './page.js';
import type { AdapterRow, DepthRow, DrawingRow, StableDiffusionResults, TrainingRow } from './results.js';
import { ask, largestDifference, rldf, strengthen, threads } from './tools.js';

const guidance = 7.5;
const repetitions = { least: 3, most: 20 };

export const options = {
  size: text('SIZE', 'sd15 or tiny; default: tiny on the CPU, else sd15'),
  device,
  python,
  batches: wholes('pictures drawn at once'),
  ways: words('STEP', 'only these steps of it'),
  output,
  page: flag('writes docs/results/stable-diffusion'),
};

type Options = OptionsOf<typeof options>;

export async function run(given: Options): Promise<Result> {
  const { say, device = 'cpu' } = given;
  const name = (given.size ?? (device === 'cpu' ? 'tiny' : 'sd15')) as SizeName;
  const folder = mkdtempSync(join(tmpdir(), 'rldf-sd-'));
  const bench = new Bench(
    name,
    device,
    folder,
    pythonEnvironment('diffusers', { python: given.python, say }),
    given,
  );
  try {
    await bench.all();
  } finally {
    await bench.end();
    rmSync(folder, { recursive: true, force: true });
  }
  const { results } = bench;
  if (results.failures.length > 0) process.exitCode = 1;
  if (given.page) writePage(results);
  return { data: results, text: pageText(results) };
}

class Bench {
  readonly results: StableDiffusionResults;
  readonly #size: Size;
  readonly #model: string;
  #peer: Peer;
  /** Bytes that a process takes on the device before it holds anything. */
  #context = 0;
  readonly #only: readonly string[] | undefined;

  constructor(
    readonly name: SizeName,
    readonly device: Device,
    readonly folder: string,
    readonly python: string,
    readonly options: Options,
  ) {
    this.#size = sizes[name];
    this.#model = join(folder, 'model');
    this.#peer = this.#startPeer();
    this.#only = options.ways;
    const { steps } = this.#size;
    this.results = {
      provenance: provenance(threads),
      size: name,
      device,
      guidance,
      steps,
      environment: {},
      model: {},
      drawing: [],
      training: [],
      depth: [],
      adapters: [],
      seconds: {},
      failures: [],
    };
  }

  async all(): Promise<void> {
    const { trainings } = this.#size;
    const model = await this.#step('model', () => this.#make());
    if (!model) return;
    await this.#step('exact', () => this.#compare(exact));
    for (const precision of precisions(this.device))
      await this.#step(`draw ${precision.name}`, () => this.#draw(precision));
    await this.#step('unload', async () => void (await ask(this.#peer, { ask: 'unload' })));
    for (const one of trainings) await this.#step(`train ${one.name}`, () => this.#train(one));
    await this.#step('depth', () => this.#depth());
    await this.#step('rldf train', () => this.#commandLine());
    await this.#step('adapters', () => this.#adapters());
  }

  end(): Promise<void> {
    return this.#peer.kill();
  }

  /** Runs one step; a failure is noted. Writes what there is so far. @returns whether it succeeded */
  async #step(name: string, work: () => Promise<void>): Promise<boolean> {
    const always = name === 'model' || name === 'unload';
    if (!always && this.#only !== undefined && !this.#only.some((word) => name.startsWith(word))) return true;
    const began = performance.now();
    let failed = false;
    try {
      await work();
    } catch (error) {
      failed = true;
      const message = (error as Error).message;
      this.results.failures.push({ step: name, message });
      this.options.say(`bench: ${name} FAILED: ${message}`);
      await this.#peer.kill(); // it may be in the middle of something
      this.#peer = this.#startPeer();
    }
    this.results.seconds[name] = (performance.now() - began) / 1000;
    this.options.say(`bench: ${name}: ${this.results.seconds[name]?.toFixed(1)} s`);
    const { output } = this.options;
    if (output !== undefined) {
      mkdirSync(output, { recursive: true });
      writeFileSync(join(output, 'results.json'), `${JSON.stringify(this.results, null, 2)}\n`);
    }
    return !failed;
  }

  #startPeer(): Peer {
    return new Peer(this.python, 'stable_diffusion_peer.py', ['-u']);
  }

  #startOurs(environment: Record<string, string> = {}): Peer {
    return new Peer(process.execPath, '../stable-diffusion/ours.ts', process.execArgv, environment);
  }

  /** Bytes in use on the whole device; null on the CPU. */
  async #used(): Promise<number | null> {
    return (await ask(this.#peer, { ask: 'used', device: this.device })).device as number | null;
  }

  async #make(): Promise<void> {
    const { configs } = this.#size;
    this.results.environment = await ask(this.#peer, { ask: 'hello' });
    this.results.model = await ask(this.#peer, {
      ask: 'make',
      model: this.#model,
      configs,
      tokenizer: join(findModel('emoji').path, 'tokenizer'),
      dtype: 'float16',
      seed: 0,
      device: this.device,
    });
    await ask(this.#peer, { ask: 'unload' });
    const ours = this.#startOurs();
    const before = await this.#used();
    await ask(ours, { ask: 'context', device: this.device });
    const after = await this.#used();
    await ours.kill();
    this.#context = before === null || after === null ? 0 : after - before;
    this.results.context = this.#context;
    this.options.say(`bench: model ${JSON.stringify(this.results.model)}, context ${this.#context}`);
  }

  #question(batch: number, steps: number) {
    const latents = join(this.folder, `latents-${batch}.safetensors`);
    const size = this.#size.configs.unet.sample_size as number;
    const noise = normal(initialNoiseKeys(Array.from({ length: batch }, (_, i) => i)), [4, size, size]);
    writeSafetensors(latents, new Map([['latents', noise]]));
    free(noise);
    return { ask: 'draw', latents, prompts: prompts.slice(0, batch), steps, guidance, file: null };
  }

  /** Both sides with the model, ours first; with how long loading took. */
  async #both(precision: Precision): Promise<{ ours: Peer; loading: { ours: number; peer: number } }> {
    const { dtype, tf32 } = precision;
    await ask(this.#peer, { ask: 'unload' });
    const ours = this.#startOurs(precision.environment);
    const model = { ask: 'load', model: this.#model, device: this.device, dtype };
    const loading = { ours: (await ask(ours, model)).seconds as number, peer: 0 };
    loading.peer = (await ask(this.#peer, { ...model, tf32 })).took as number;
    return { ours, loading };
  }

  async #compare(precision: Precision): Promise<void> {
    const { ours } = await this.#both(precision);
    try {
      const difference = await this.#difference(ours, this.#question(2, this.#size.exactSteps));
      this.results.exact = {
        precision: precision.name,
        steps: this.#size.exactSteps,
        batch: 2,
        ...difference,
      };
      this.options.say(`bench: exact ${JSON.stringify(difference)}`);
    } finally {
      await ours.kill();
    }
  }

  /** Both draw the same; largest differences of what they drew, and ours as file. */
  async #difference(
    ours: Peer,
    question: object,
    theirQuestion = question,
  ): Promise<{ pictures: number; latents: number }> {
    const files = ['ours', 'peer'].map((side) => join(this.folder, `${side}.safetensors`)) as [
      string,
      string,
    ];
    await ask(ours, { ...question, file: files[0] });
    await ask(this.#peer, { ...theirQuestion, file: files[1] });
    return {
      pictures: largestDifference(files, 'images'),
      latents: largestDifference(files, 'latents', true),
    };
  }

  async #draw(precision: Precision): Promise<void> {
    await ask(this.#peer, { ask: 'unload' });
    const empty = await this.#used();
    const { ours, loading } = await this.#both(precision);
    const loaded = await this.#used();
    const theirs = (await ask(this.#peer, { ask: 'used' })).reserved as number | null;
    let memory =
      empty === null || loaded === null || theirs === null
        ? undefined
        : { ours: loaded - empty - theirs - this.#context, peer: theirs };
    try {
      let way: string | undefined;
      const { batches = this.#size.batches } = precision;
      for (const batch of this.options.batches ?? batches) {
        const question = this.#question(batch, this.#size.steps);
        const growth = async (side: Peer) => {
          const before = (await this.#used()) ?? 0;
          const { seconds } = await ask(side, question);
          return { seconds: seconds as number, bytes: ((await this.#used()) ?? 0) - before };
        };
        const first = { ours: await growth(ours), peer: await growth(this.#peer) };
        if (memory) memory = { ours: memory.ours + first.ours.bytes, peer: memory.peer + first.peer.bytes };
        way ??= await this.#fastestWay(question);
        const taken: [ours: number[], peer: number[]] = [[], []];
        const draw = async (side: Peer) => (await ask(side, question)).seconds as number;
        const wanted = Math.floor(this.#size.seconds / (first.ours.seconds + first.peer.seconds));
        const count = Math.min(repetitions.most, Math.max(repetitions.least, wanted));
        for (let i = 0; i < count; i++) {
          taken[0].push(await draw(ours));
          taken[1].push(await draw(this.#peer));
        }
        const row: DrawingRow = {
          precision: precision.name,
          batch,
          peer: way,
          perSecond: { ours: batch / median(taken[0]), peer: batch / median(taken[1]) },
          ...speedRatio(...taken),
          seconds: { ours: taken[0], peer: taken[1] },
          loading,
          ...(memory === undefined ? {} : { memory }),
          difference: await this.#difference(ours, question),
        };
        this.results.drawing.push(row);
        this.options.say(`bench: ${JSON.stringify(row)}`);
      }
    } finally {
      await ours.kill();
    }
  }

  /** Which of diffusers' memory layouts is faster, judged at the smallest batch; it is left switched on. */
  async #fastestWay(question: object): Promise<string> {
    const taken: [number, string][] = [];
    for (const way of ['eager', 'channels_last']) {
      await ask(this.#peer, { ask: 'way', way });
      await ask(this.#peer, question);
      taken.push([(await ask(this.#peer, question)).seconds as number, way]);
    }
    const [, best] = taken.sort(([a], [b]) => a - b)[0] as [number, string];
    await ask(this.#peer, { ask: 'way', way: best });
    return best;
  }

  /** The most bytes that come on top on the device while something runs. */
  async #most<T>(work: Promise<T>): Promise<{ result: T; bytes: number | null }> {
    const before = await this.#used();
    let most = before;
    let running = true;
    const ended = work.finally(() => {
      running = false;
    });
    ended.catch(() => {}); // awaited below
    while (running && before !== null) {
      most = Math.max(most as number, (await this.#used()) as number);
      await Promise.race([ended.catch(() => {}), new Promise((resolve) => setTimeout(resolve, 50))]);
    }
    const result = await ended;
    return { result, bytes: before === null ? null : (most as number) - before };
  }

  #overrides({ overrides }: Pick<TrainingCase, 'overrides'>): string[] {
    return [`model=${this.#model}`, `device=${this.device}`, ...overrides];
  }

  async #train(one: TrainingCase): Promise<void> {
    const file = recipeFile(one.recipe);
    const overrides = this.#overrides(one);
    const { planned } = this.#size;
    const prediction = plan(loadRecipe(file, overrides), {
      calibration: 0,
      ...(planned === undefined ? {} : { model: planned }),
    }).catch((error: Error) => error);
    const ours = this.#startOurs();
    try {
      const exported = one.adapter ? { folder: join(this.folder, one.recipe) } : {};
      const { result, bytes } = await this.#most(
        ask(ours, { ask: 'train', recipe: file, overrides, ...exported }),
      );
      const { process: resident } = await ask(ours, { ask: 'used' });
      const phases = result.phases as Record<string, number>;
      const { drawing = 0, scoring = 0, learning = 0 } = phases;
      const predicted = await prediction;
      if (predicted instanceof Error)
        this.results.failures.push({ step: `plan ${one.name}`, message: predicted.message });
      const row: TrainingRow = {
        name: one.name,
        recipe: one.recipe,
        overrides: one.overrides,
        loading: result.loading as number,
        sampling: drawing,
        update: scoring + learning,
        memory: bytes === null ? null : bytes - this.#context,
        resident: resident as number,
        planned: predicted instanceof Error ? null : predicted.memory.peak,
        exporting: one.adapter ? (result.exporting as number) : null,
        metrics: result.metrics as Record<string, number>,
      };
      this.results.training.push(row);
      this.options.say(`bench: ${JSON.stringify(row)}`);
    } finally {
      await ours.kill();
    }
  }

  async #depth(): Promise<void> {
    const { again, whole } = this.#size.depths;
    const before = await this.#used();
    const ours = this.#startOurs();
    try {
      await ask(ours, { ask: 'load', model: this.#model, device: this.device, dtype: 'float32' });
      const loaded = await this.#used();
      const cases = [
        ...again.map((steps) => ({ steps, whole: false })),
        ...whole.map((steps) => ({ steps, whole: true })),
      ];
      for (const { steps, whole } of cases) {
        const question = { ask: 'depth', steps, whole, guidance };
        await ask(ours, question); // warm
        const { seconds } = await ask(ours, question);
        const after = await this.#used();
        const row: DepthRow = {
          steps,
          whole,
          seconds: seconds as number,
          beyondModel: loaded === null || after === null ? null : after - loaded,
          inAll: before === null || after === null ? null : after - before - this.#context,
        };
        this.results.depth.push(row);
        this.options.say(`bench: ${JSON.stringify(row)}`);
      }
    } finally {
      await ours.kill();
    }
  }

  /** `rldf train` itself: validation, checkpoints, report and export. */
  async #commandLine(): Promise<void> {
    const [case_] = this.#size.trainings as [TrainingCase];
    const short = [
      ...case_.overrides.filter((word) => !word.startsWith('epochs=')),
      'epochs=1',
      'evaluate.maxPrompts=2',
      'report.maxPrompts=2',
      'report.picturesPerPrompt=1',
    ];
    const sets = this.#overrides({ overrides: short }).flatMap((word) => ['--set', word]);
    const runs = join(this.folder, 'runs');
    const words = ['train', recipeFile(case_.recipe), '--name', 'first', '--runs', runs, ...sets];
    const began = performance.now();
    const { bytes } = await this.#most(rldf(words));
    const adapter = join(runs, 'first', 'adapters', 'pytorch_lora_weights.safetensors');
    const exported = join(this.folder, 'exported.safetensors');
    await rldf(['export', adapter, '--format', 'diffusers', '--output', exported]);
    const drawn = join(this.folder, 'drawn');
    const drawing = [
      'generate',
      'a cat',
      '--model',
      this.#model,
      '--device',
      this.device,
      '--adapter',
      adapter,
    ];
    await rldf([...drawing, '--steps', '3', '--output', drawn]);
    this.results.commandLine = {
      recipe: case_.recipe,
      seconds: (performance.now() - began) / 1000,
      memory: bytes === null ? null : bytes - this.#context,
      metrics: readFileSync(join(runs, 'first', 'metrics.jsonl'), 'utf8')
        .trim()
        .split('\n')
        .map((line) => JSON.parse(line) as Record<string, number>),
    };
  }

  /** Adapters that were trained here, as they are and made strong, exported and drawn with by both sides. */
  async #adapters(): Promise<void> {
    const { ours } = await this.#both(exact);
    try {
      const question = this.#question(1, this.#size.exactSteps);
      const without = join(this.folder, 'without.safetensors');
      await ask(ours, { ...question, file: without });
      for (const { name, recipe } of this.#size.trainings.filter(({ adapter }) => adapter)) {
        const trained = join(this.folder, recipe, 'pytorch_lora_weights.safetensors');
        const strong = join(this.folder, `${recipe}-strong.safetensors`);
        strengthen(trained, strong);
        for (const [kind, adapter] of [
          ['as trained', trained],
          ['made strong', strong],
        ] as const) {
          const exported = `${adapter}.exported.safetensors`;
          await rldf(['export', adapter, '--format', 'diffusers', '--output', exported]);
          await ask(ours, { ask: 'adapter', file: adapter });
          await ask(this.#peer, { ask: 'adapter', file: exported });
          const difference = await this.#difference(ours, question);
          const files: [string, string] = [join(this.folder, 'ours.safetensors'), without];
          const row: AdapterRow = { name, kind, ...difference, effect: largestDifference(files, 'images') };
          this.results.adapters.push(row);
          this.options.say(`bench: ${JSON.stringify(row)}`);
        }
        await ask(ours, { ask: 'adapter', file: null });
      }
    } finally {
      await ours.kill();
    }
  }
}
