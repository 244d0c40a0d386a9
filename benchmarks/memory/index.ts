// Memory: what `rldf plan` predicts beside what is measured, and memory against the number of denoising steps. Draws
// docs/images/memory-steps.svg with --output docs/images.
import { spawnSync } from 'node:child_process';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import {
  DDIMScheduler,
  encodePrompts,
  LoraAdapter,
  latentShape,
  loadPipeline,
  type Pipeline,
  UNET_ATTENTION,
} from '@rldf/models';
import {
  allocatedBytes,
  free,
  GradientAccumulator,
  grad,
  noGrad,
  noiseKey,
  normal,
  peakBytes,
  resetPeakBytes,
  scope,
  setThreads,
  type Tensor,
} from '@rldf/torch';
import { findModel, loadRecipe } from 'rldf';
import {
  DifferentiableSampler,
  type Drawing,
  type GradientPasses,
  guidedConditioning,
  lastSteps,
  networkGradient,
  policyMoments,
} from 'rldf/learning';
import { curveSvg, plan } from 'rldf/run';
import { type OptionsOf, output } from '../shared/options.js';
import type { Result } from '../shared/rows.js';

export interface MemoryRow {
  case: string;
  /** Bytes in libtorch's tensors, the most at once. */
  predicted: number;
  measured: number;
  /** predicted / measured */
  ratio: number;
  /** Bytes of the whole process, the most at once. */
  resident: number;
  /** Resident beyond the tensors' peak: Node.js, libtorch, pictures, and what the heap keeps. */
  besides: number;
}

export interface StepsRow {
  steps: number;
  checkpointed: number;
  plain: number;
}

/** One epoch each. */
const cases: Record<string, string[]> = {
  'emoji/compressibility: LoRA on the time embedding, 64 drawn and 32 learned at once': [],
  'whole U-Net, 8 drawn and 2 learned at once': [
    'train.unet=full',
    'sample.batchSize=8',
    'train.batchSize=2',
    'sample.promptsPerEpoch=4',
    'sample.steps=6',
  ],
  'text encoder LoRA, CLIP score, 16 at once': [
    'train.unet=none',
    'train.textEncoder=lora',
    'reward=clip-score',
    'sample.batchSize=16',
    'train.batchSize=16',
    'sample.promptsPerEpoch=8',
    'sample.steps=6',
  ],
};

/** Common to all: short, and with small evaluations. */
const short = ['epochs=1', 'evaluate.every=1', 'threads=1'];

export const options = { output };

export async function run({ say, output }: OptionsOf<typeof options>): Promise<Result> {
  const rows: MemoryRow[] = [];
  for (const [name, overrides] of Object.entries(cases)) {
    const recipe = loadRecipe(
      fileURLToPath(new URL('../../recipes/emoji/compressibility.yaml', import.meta.url)),
      [...short, ...overrides],
    );
    const { memory } = await plan(recipe, { calibration: 0 });
    const { peak, resident } = measure(recipe);
    rows.push({
      case: name,
      predicted: memory.peak,
      measured: peak,
      ratio: memory.peak / peak,
      resident,
      besides: resident - peak,
    });
    say(`${name}: predicted ${megabytes(memory.peak)}, measured ${megabytes(peak)} MB`);
  }
  const steps = await againstSteps(say);
  if (output !== undefined) {
    mkdirSync(output, { recursive: true });
    const points = steps.flatMap(({ steps: step, checkpointed, plain }) => [
      { step, value: checkpointed / 1e6, series: 'checkpointed at each step' },
      { step, value: plain / 1e6, series: 'plain back-propagation' },
    ]);
    const options = {
      title: 'Reward gradient through all denoising steps',
      xTitle: 'denoising steps',
      yTitle: 'MB beyond the weights',
    };
    writeFileSync(join(output, 'memory-steps.svg'), await curveSvg(points, options));
  }
  const text = [
    'most MB in tensors: predicted, measured, ratio; process in all, of it beside the tensors',
    ...rows.map(
      (row) =>
        `${megabytes(row.predicted)} ${megabytes(row.measured)}  ${row.ratio.toFixed(3)}  ${megabytes(row.resident)} ${megabytes(row.besides)}  ${row.case}`,
    ),
    'reward gradient through all T steps, MB beyond the weights: checkpointed, plain',
    ...steps.map((row) => `${megabytes(row.checkpointed)} ${megabytes(row.plain)}  T = ${row.steps}`),
  ];
  return { data: { rows, steps }, text: `${text.join('\n')}\n` };
}

function measure(recipe: object): { peak: number; resident: number } {
  const script = fileURLToPath(new URL('./run.ts', import.meta.url));
  const words = ['--conditions=rldf-source', '--import', 'tsx', script, JSON.stringify(recipe)];
  const { stdout, status } = spawnSync(process.execPath, words, {
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  if (status !== 0) throw new Error(`memory-run ended with ${status}`);
  return JSON.parse(stdout.trim().split('\n').at(-1) as string) as { peak: number; resident: number };
}

/** Four pictures of the shipped model, gradients with respect to LoRA on the attention. */
async function againstSteps(say: (text: string) => void): Promise<StepsRow[]> {
  setThreads(1);
  const pipeline = loadPipeline(findModel('emoji').path);
  const adapter = LoraAdapter.attach(pipeline.parameters.unet, {
    rank: 8,
    targets: UNET_ATTENTION,
    init: 'gaussian',
    seed: 0,
  });
  const parameters = adapter.trainable();
  const prompts = ['a cat', 'a dog', 'a bird', 'a fish'];
  const hiddenStates = noGrad(() =>
    scope(
      () => guidedConditioning(encodePrompts(pipeline, ['']), encodePrompts(pipeline, prompts)).hiddenStates,
    ),
  );
  const rows: StepsRow[] = [];
  for (const steps of [1, 2, 4, 8, 16, 32]) {
    const drawing: Drawing = {
      conditioning: () => ({ hiddenStates }),
      behaviours: prompts.map((_, i) => ({ seed: 0, path: [i], guidance: Array<number>(steps).fill(3) })),
      steps,
      eta: 0,
    };
    const peak = async (checkpointed: boolean) => {
      const before = allocatedBytes();
      resetPeakBytes();
      await (checkpointed ? followed(pipeline, drawing, parameters) : plain(pipeline, drawing, parameters));
      return peakBytes() - before;
    };
    rows.push({ steps, checkpointed: await peak(true), plain: await peak(false) });
    say(
      `T = ${steps}: checkpointed ${megabytes(rows.at(-1)!.checkpointed)}, plain ${megabytes(rows.at(-1)!.plain)} MB`,
    );
  }
  adapter.remove();
  for (const weights of Object.values(pipeline.parameters)) weights.free();
  free(hiddenStates as Tensor);
  return rows;
}

/** As the methods do it. The gradient of half the squared latents stands for a reward's. */
export async function followed(pipeline: Pipeline, drawing: Drawing, parameters: Tensor[]): Promise<void> {
  const sums = new GradientAccumulator(parameters);
  const all = drawing.behaviours.map(() => lastSteps(drawing.steps, drawing.steps));
  const sample = await finish(new DifferentiableSampler(pipeline, drawing).sample(all));
  const gradient = noGrad(() => sample.latents.clone());
  const network = networkGradient(parameters);
  const passes: GradientPasses = {
    record: (fn) => network.record(fn),
    backward(outputs, { gradOutput, input }) {
      const found = network.grad(outputs, input ? [input] : [], { gradOutputs: [gradOutput] });
      sums.add(found.parameters);
      return found.inputs[0];
    },
  };
  await finish(sample.backward(gradient, passes));
  free(gradient);
  sample.free();
  sums.free();
}

/** One graph of all steps. */
export function plain(
  pipeline: Pipeline,
  { conditioning, behaviours, steps, eta }: Drawing,
  parameters: Tensor[],
): void {
  scope(() => {
    const scheduler = new DDIMScheduler(pipeline.schedulerConfig);
    scheduler.setTimesteps(steps);
    const keys = behaviours.map((b) => noiseKey(b.seed, 'rollout start', ...b.path));
    let latents = normal(keys, latentShape(pipeline), { device: pipeline.unet.device });
    for (let step = 0; step < steps; step++) {
      const text = conditioning([...behaviours.keys()]);
      latents = policyMoments(pipeline, scheduler, latents, step, text, behaviours, eta).mean;
    }
    grad(latents, parameters, { gradOutputs: [latents.detach()] });
  });
}

async function finish<T>(generator: AsyncGenerator<unknown, T>): Promise<T> {
  for (let next = await generator.next(); ; next = await generator.next()) if (next.done) return next.value;
}

const megabytes = (bytes: number) => (bytes / 1e6).toFixed(1).padStart(7);
