// Adapters of other kinds than LoRA, adapters for XL in kohya's layout, and schedulers' configurations.
import { copyFileSync, mkdirSync, readdirSync, writeFileSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import {
  createScheduler,
  generate,
  LoraAdapter,
  loadLora,
  loadPipeline,
  type Pipeline,
  readJson,
  type SchedulerConfig,
  saveLora,
  TEXT_ATTENTION,
  tinyXlPipeline,
} from '@rldf/models';
import { free, noiseKey, normal, scope } from '@rldf/torch';
import type { Kind } from './kinds.js';

const goldens = join(import.meta.dirname, '..', '..', 'packages', 'models', 'goldens');

/** Reads an adapter, draws with it, and takes it off; the weights must then be what they were. */
function drawing(
  pipeline: Pipeline,
): Required<Pick<Kind, 'leftBehind'>> & { use(path: string): Promise<void> } {
  const networks = Object.entries(pipeline.parameters);
  const sums = () =>
    networks.flatMap(([part, network]) =>
      [...network!.entries].map(
        ([name, weight]) => [`${part} ${name}`, scope(() => weight.sum().item())] as const,
      ),
    );
  const before = new Map(sums());
  return {
    async use(path) {
      const loaded = Object.values(loadLora(path, pipeline.parameters, 0.5)).filter(
        (adapter) => adapter !== undefined,
      );
      try {
        free(await generate(pipeline, { prompts: ['a cat'], seeds: [0], steps: 1 }));
      } finally {
        for (const adapter of loaded) adapter.remove();
      }
    },
    leftBehind() {
      const layers = networks.flatMap(([, network]) => [...network!.layers]);
      const [path] = layers.find(([, layer]) => 'branches' in layer && layer.branches.length > 0) ?? [];
      if (path !== undefined) return `an adapter stays on ${path}`;
      const [changed] = sums().find(([name, sum]) => sum !== before.get(name)) ?? [];
      return changed && `${changed} is not what it was`;
    },
  };
}

/** LoCon, LoHa, LoKr and DoRA as LyCORIS and PEFT write them. */
export function lycoris(folder: string): Kind {
  const pipeline = loadPipeline(join(goldens, 'pipeline'));
  const from = join(goldens, 'lora-kinds');
  const files = readdirSync(from).filter((name) => name.endsWith('.safetensors'));
  for (const file of files) copyFileSync(join(from, file), join(folder, file));
  const peft = ['peft-lokr', 'peft-dora'].flatMap((name) => {
    mkdirSync(join(folder, name));
    return readdirSync(join(from, name)).map((file) => {
      copyFileSync(join(from, name, file), join(folder, name, file));
      return join(name, file);
    });
  });
  const { use, leftBehind } = drawing(pipeline);
  const ofPeft = (file: string) => basename(dirname(file)).startsWith('peft');
  return {
    files: [...files, ...peft],
    read: (file) => use(ofPeft(file) ? dirname(file) : file),
    leftBehind,
  };
}

/** Adapters of an XL model's three networks, in kohya's layout and in diffusers'. */
export function xl(folder: string): Kind {
  const pipeline = tinyXlPipeline();
  const { unet, textEncoder, textEncoder2 } = pipeline.parameters;
  const adapter = (network: typeof unet, targets: readonly string[], seed: number) =>
    LoraAdapter.attach(network, { rank: 2, alpha: 4, targets, seed });
  const made = {
    unet: adapter(unet, ['to_q', 'to_out.0', 'conv1', 'linear_2'], 0),
    textEncoder: adapter(textEncoder, TEXT_ATTENTION, 1),
    textEncoder2: adapter(textEncoder2!, [...TEXT_ATTENTION, 'text_projection'], 2),
  };
  saveLora(join(folder, 'kohya.safetensors'), made, { format: 'kohya', layersPerBlock: 1 });
  saveLora(join(folder, 'diffusers.safetensors'), made);
  for (const one of Object.values(made)) one.remove();
  const { use, leftBehind } = drawing(pipeline);
  return {
    files: ['kohya.safetensors', 'kohya.safetensors', 'diffusers.safetensors'],
    read: use,
    leftBehind,
  };
}

/** A config of each scheduler, drawn with. */
export function schedulers(folder: string): Kind {
  const base = {
    beta_start: 0.00085,
    beta_end: 0.012,
    beta_schedule: 'scaled_linear',
    num_train_timesteps: 1000,
  };
  const configs: { [name: string]: SchedulerConfig } = {
    EulerAncestralDiscreteScheduler: { timestep_spacing: 'leading', steps_offset: 1 },
    UniPCMultistepScheduler: {
      solver_order: 3,
      solver_type: 'bh2',
      disable_corrector: [0],
      use_karras_sigmas: true,
    },
    LCMScheduler: { original_inference_steps: 50, timestep_scaling: 10, clip_sample: false },
    EulerDiscreteScheduler: {
      use_exponential_sigmas: true,
      sigma_min: 0.05,
      sigma_max: 12,
      final_sigmas_type: 'zero',
    },
    DPMSolverMultistepScheduler: { use_karras_sigmas: true, lambda_min_clipped: -5.1, solver_order: 2 },
    DDIMScheduler: {
      rescale_betas_zero_snr: true,
      prediction_type: 'v_prediction',
      timestep_spacing: 'trailing',
    },
  };
  const files = Object.entries(configs).map(([name, config]) => {
    writeFileSync(join(folder, `${name}.json`), JSON.stringify({ _class_name: name, ...base, ...config }));
    return `${name}.json`;
  });
  return {
    files,
    read(file) {
      const scheduler = createScheduler(readJson(file), undefined, file);
      scope(() => {
        let sample = normal([noiseKey(0, 'sample')], [2, 2]).mul(scheduler.initialNoiseScale && 1);
        try {
          for (const step of scheduler.setTimesteps(5).keys()) {
            const noise = normal([noiseKey(0, 'noise', step)], [2, 2]);
            sample = scheduler.step(scheduler.scaleModelInput(sample, step), step, sample, { noise });
          }
        } finally {
          scheduler.forget();
        }
      });
    },
  };
}
