// Our side of `npm run bench -- stable-diffusion`, in processes of their own: one JSON question a line, one JSON answer a
// line, as peers/stable_diffusion_peer.py.
import { readFileSync } from 'node:fs';
import { createInterface } from 'node:readline';
import {
  decodeLatents,
  encodePrompts,
  generate,
  LoraAdapter,
  type LoraPair,
  loadLora,
  loadPipeline,
  type Pipeline,
  UNET_ATTENTION,
} from '@rldf/models';
import {
  type Device,
  type DType,
  free,
  noGrad,
  readSafetensors,
  scope,
  setThreads,
  type Tensor,
  writeSafetensors,
  zeros,
} from '@rldf/torch';
import { loadRecipe } from 'rldf';
import { guidedConditioning } from 'rldf/learning';
import { followed, plain } from '../memory/index.js';
import { openTraining } from '../shared/open-training.js';

interface Question {
  ask: 'load' | 'draw' | 'adapter' | 'depth' | 'context' | 'train' | 'used';
  device: Device;
  threads: number;
  model: string;
  dtype: DType;
  latents: string;
  prompts: string[];
  steps: number;
  guidance: number;
  /** Pictures and latents in float32; or an adapter, null for none. */
  file: string | null;
  /** File and overrides; `name=value`. */
  recipe: string;
  overrides: string[];
  /** Where what was learned is exported to. */
  folder?: string;
  /** In one graph, or each step run again. */
  whole: boolean;
}

let pipeline: Pipeline;
let adapters: LoraPair = {};

const seconds = () => Number(process.hrtime.bigint()) / 1e9;

/** From prompts to bytes, as a user has them. */
async function draw({ latents, prompts, steps, guidance, file }: Question): Promise<object> {
  const noise = readSafetensors(latents).tensors.get('latents') as Tensor;
  const options = { prompts, seeds: prompts.map((_, i) => i), latents: noise, steps };
  const start = seconds();
  const drawn = await generate(pipeline, { ...options, guidanceScale: guidance, scheduler: 'DDIMScheduler' });
  drawn.images.bytes();
  const took = seconds() - start;
  if (file !== null) {
    noGrad(() =>
      scope(() => {
        const images = decodeLatents(pipeline, drawn.latents).div(2).add(0.5).clamp(0, 1);
        const state = { images, latents: drawn.latents };
        const here = Object.entries(state).map(([name, of]): [string, Tensor] => [
          name,
          of.to({ dtype: 'float32', device: 'cpu' }).contiguous(),
        ]);
        writeSafetensors(file, new Map(here));
      }),
    );
  }
  free(drawn);
  free(noise);
  return { seconds: took };
}

function adapter({ file }: Question): object {
  for (const one of Object.values(adapters)) one?.remove();
  adapters = file === null ? {} : loadLora(file, pipeline.parameters);
  return {};
}

/** The gradient of one picture through `steps` denoising steps, with respect to an adapter on the attention. */
async function depth({ steps, guidance, whole }: Question): Promise<object> {
  const adapter = LoraAdapter.attach(pipeline.parameters.unet, {
    rank: 4,
    targets: UNET_ATTENTION,
    init: 'gaussian',
    seed: 0,
  });
  const parameters = adapter.trainable();
  const text = noGrad(() =>
    scope(() => guidedConditioning(encodePrompts(pipeline, ['']), encodePrompts(pipeline, ['a cat']))),
  );
  const drawing = {
    conditioning: () => text,
    behaviours: [{ seed: 0, path: [0], guidance: Array<number>(steps).fill(guidance) }],
    steps,
    eta: 0,
  };
  const start = seconds();
  if (whole) plain(pipeline, drawing, parameters);
  else await followed(pipeline, drawing, parameters);
  synchronise(pipeline.unet.device);
  const took = seconds() - start;
  adapter.remove();
  free(text);
  return { seconds: took };
}

/** Waits until the device has done all it was given. */
const synchronise = (device: Device) => scope(() => zeros([1], { device }).add(1).item());

/** Trains by a recipe; seconds of each phase of its last epoch, which is not the first where there are more. */
async function train({ recipe: file, overrides, folder }: Question): Promise<object> {
  const recipe = loadRecipe(file, overrides);
  const device = recipe.device as Device;
  const began = seconds();
  const training = await openTraining(recipe);
  const loading = seconds() - began;
  let phases: Record<string, number> = {};
  let metrics = {};
  let phase = 'drawing';
  let since = seconds();
  const until = (of: string) => {
    synchronise(device);
    const now = seconds();
    phases[of] = (phases[of] ?? 0) + now - since;
    since = now;
  };
  for await (const event of training.run(0)) {
    if (event.kind === 'progress') {
      if (event.phase === phase) continue;
      until(event.share === 0 ? phase : event.phase); // most phases report when a part of them is done
      phase = event.phase;
      continue;
    }
    until(phase);
    metrics = { ...event.metrics, pictures: event.pictures };
    if (event.step < recipe.epochs) phases = {};
    phase = 'drawing';
  }
  const start = seconds();
  const exported = folder === undefined ? [] : await training.exportTo(folder);
  return { loading, phases, metrics, exported, exporting: seconds() - start };
}

async function answer(question: Question): Promise<object> {
  setThreads(question.threads);
  switch (question.ask) {
    case 'load': {
      const start = seconds();
      pipeline = loadPipeline(question.model, { device: question.device, dtype: question.dtype });
      return { seconds: seconds() - start };
    }
    case 'draw':
      return draw(question);
    case 'adapter':
      return adapter(question);
    case 'context': // what a process takes on the device before it holds anything
      synchronise(question.device);
      return {};
    case 'depth':
      return depth(question);
    case 'train':
      return train(question);
    case 'used': {
      const [, peak] = /VmHWM:\s+(\d+)/.exec(readFileSync('/proc/self/status', 'utf8')) ?? [];
      return { process: Number(peak) * 1024 };
    }
  }
}

for await (const line of createInterface({ input: process.stdin })) {
  const reply = await answer(JSON.parse(line)).catch((error: Error) => ({
    error: error.stack ?? error.message,
  }));
  process.stdout.write(`${JSON.stringify(reply)}\n`);
}
