// Files as others write them: PEFT's folders, adapters in LDM's names, sharded variants of models.
import { copyFileSync, mkdirSync, readdirSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import {
  generate,
  type LoraAdapter,
  loadLora,
  loadPipeline,
  openModel,
  type Pipeline,
  savePipeline,
  saveSingleFile,
  tinyCheckpoint,
  tinyPipeline,
} from '@rldf/models';
import {
  free,
  noiseKey,
  normal,
  readSafetensors,
  readTorchFile,
  type StateDict,
  scope,
  tensor,
  writeSafetensors,
} from '@rldf/torch';
import type { Kind } from './kinds.js';

/** Matrices of rank 2 for layers of a network, by the names that a file gives them. */
function matrices(
  layers: readonly { path: string; down: string; up: string }[],
  { parameters }: Pipeline,
): StateDict {
  const state: StateDict = new Map();
  for (const { path, down, up } of layers) {
    const [out, input] = parameters.unet.entries.get(`${path}.weight`)!.shape as [number, number];
    const draw = (rows: number, columns: number) =>
      scope(() => normal([noiseKey(0, path)], [rows, columns]).squeeze(0));
    state.set(down, draw(2, input));
    state.set(up, draw(out, 2));
  }
  return state;
}

const attention = ['down_blocks.0', 'mid_block', 'up_blocks.1'].map(
  (block) => `${block}.attentions.0.transformer_blocks.0.attn1.to_q`,
);

/** Reads an adapter, draws with it, and takes it off. */
function drawing(pipeline: Pipeline): Pick<Kind, 'leftBehind'> & { use(path: string): Promise<void> } {
  return {
    async use(path) {
      const loaded = Object.values(loadLora(path, pipeline.parameters, 0.5)).filter(
        (adapter): adapter is LoraAdapter => adapter !== undefined,
      );
      try {
        free(await generate(pipeline, { prompts: ['a cat'], seeds: [0], steps: 1 }));
      } finally {
        for (const adapter of loaded) adapter.remove();
      }
    },
    leftBehind() {
      const layers = [...pipeline.parameters.unet.layers, ...pipeline.parameters.textEncoder.layers];
      const [path] = layers.find(([, layer]) => 'branches' in layer && layer.branches.length > 0) ?? [];
      return path && `an adapter stays on ${path}`;
    },
  };
}

export function peft(folder: string): Kind {
  const pipeline = tinyPipeline();
  mkdirSync(join(folder, 'unet'));
  const prefix = 'base_model.model';
  const state = matrices(attention.map((path) => ({ path, down: `${prefix}.${path}.lora_A.weight`, up: `${prefix}.${path}.lora_B.weight` })), pipeline); // biome-ignore format: one line
  writeSafetensors(join(folder, 'unet', 'adapter_model.safetensors'), state, { format: 'pt' });
  free(state);
  const config = {
    alpha_pattern: { 'attn1\\.to_[qk]': 16, '.*mid_block.*': 4 },
    auto_mapping: null,
    bias: 'none',
    init_lora_weights: true,
    layer_replication: null,
    lora_alpha: 4,
    lora_bias: false,
    peft_type: 'LORA',
    r: 4,
    rank_pattern: { '(down|up)_blocks\\.\\d.*': 2, mid_block: 8, to_q: 2 },
    target_modules: ['to_q'],
    use_dora: false,
    use_rslora: true,
  };
  writeFileSync(join(folder, 'unet', 'adapter_config.json'), JSON.stringify(config));
  const { use, leftBehind } = drawing(pipeline);
  return {
    files: ['unet/adapter_config.json', 'unet/adapter_config.json', 'unet/adapter_model.safetensors'],
    read: () => use(join(folder, 'unet')),
    ...(leftBehind === undefined ? {} : { leftBehind }),
  };
}

export function ldm(folder: string): Kind {
  const pipeline = tinyPipeline();
  const blocks = ['input_blocks_1_1', 'middle_block_1', 'output_blocks_2_1'];
  const layers = attention.map((path, i) => {
    const name = `lora_unet_${blocks[i]}_transformer_blocks_0_attn1_to_q`;
    return { path, down: `${name}.lora_down.weight`, up: `${name}.lora_up.weight` };
  });
  const state = matrices(layers, pipeline);
  for (const { down } of layers)
    state.set(down.replace('lora_down.weight', 'alpha'), tensor([2], { shape: [] }));
  writeSafetensors(join(folder, 'kohya.safetensors'), state, { ss_network_dim: '2' });
  const dotted: StateDict = new Map(
    layers.flatMap(({ down, up }, i) => {
      const name = `diffusion_model.${blocks[i]!.replace(/_(?=\d)/g, '.')}.transformer_blocks.0.attn1.to_q`;
      return [
        [`${name}.lora_A.weight`, state.get(down)!] as const,
        [`${name}.lora_B.weight`, state.get(up)!] as const,
      ];
    }),
  );
  writeSafetensors(join(folder, 'comfy.safetensors'), dotted);
  free(state);
  const { use, leftBehind } = drawing(pipeline);
  return {
    files: ['kohya.safetensors', 'comfy.safetensors'],
    read: use,
    ...(leftBehind === undefined ? {} : { leftBehind }),
  };
}

/** A model whose weights are variants, whole and in shards, and whose scheduler is that of Stable Diffusion 1.x. */
export function shards(folder: string): Kind {
  const pipeline = tinyPipeline();
  pipeline.schedulerConfig = {
    ...pipeline.schedulerConfig,
    _class_name: 'PNDMScheduler',
    skip_prk_steps: true,
  };
  const model = join(folder, 'model');
  savePipeline(pipeline, model, { dtype: 'float16' });
  for (const network of Object.values(pipeline.parameters)) network.free();
  const unet = join(model, 'unet');
  const whole = join(unet, 'diffusion_pytorch_model.safetensors');
  const { tensors } = readSafetensors(whole);
  const parts = [1, 2].map((part) => `diffusion_pytorch_model.fp16-0000${part}-of-00002.safetensors`);
  const shard = [...tensors.keys()].map((name, i) => [name, parts[i % 2]!] as const);
  for (const part of parts) {
    const own = shard.filter(([, of]) => of === part).map(([name]) => [name, tensors.get(name)!] as const);
    writeSafetensors(join(unet, part), new Map(own));
  }
  free(tensors);
  rmSync(whole);
  const index = 'diffusion_pytorch_model.safetensors.index.fp16.json';
  writeFileSync(join(unet, index), JSON.stringify({ metadata: {}, weight_map: Object.fromEntries(shard) }));
  const text = join(model, 'text_encoder');
  for (const name of readdirSync(text).filter((name) => name === 'model.safetensors'))
    renameSync(join(text, name), join(text, 'model.fp16.safetensors'));
  return {
    files: [
      `model/unet/${index}`,
      `model/unet/${index}`,
      `model/unet/${parts[1]}`,
      'model/text_encoder/model.fp16.safetensors',
      'model/scheduler/scheduler_config.json',
    ],
    async read() {
      const read = loadPipeline(model);
      try {
        free(await generate(read, { prompts: ['a cat'], seeds: [0], steps: 4 }));
      } finally {
        for (const network of Object.values(read.parameters)) network.free();
      }
    },
  };
}

/** A whole model in one file, in LDM's names: as others write it, and with our configurations in its header. */
export function singleFiles(folder: string): Kind {
  const pipeline = tinyCheckpoint('sd2');
  const whole = join(folder, 'whole.safetensors');
  saveSingleFile(pipeline, whole, { dtype: 'float16' });
  for (const network of Object.values(pipeline.parameters)) network.free();
  scope(() => {
    const { tensors, metadata } = readSafetensors(whole);
    const embedding = 'cond_stage_model.model.token_embedding.weight';
    tensors.set(embedding, tensors.get(embedding)!.narrow(0, 0, 10).contiguous()); // small enough to be damaged often
    writeSafetensors(join(folder, 'own.safetensors'), tensors, metadata);
    writeSafetensors(join(folder, 'foreign.safetensors'), tensors);
  });
  return {
    files: ['own.safetensors', 'foreign.safetensors'],
    read: (file) =>
      scope(() => {
        const model = openModel(file);
        model.config('scheduler');
        for (const part of ['unet', 'vae', 'text_encoder'] as const) {
          const { config } = model.config(part);
          const { state } = model.weights(part);
          if (Object.keys(config).length === 0 || state.size === 0) throw new Error(`${part}: nothing`);
        }
      }),
  };
}

/** A checkpoint by torch.save. */
export function torchFiles(folder: string): Kind {
  const good = join(import.meta.dirname, '..', '..', 'packages', 'models', 'goldens', 'torch-files');
  copyFileSync(join(good, 'kinds.pt'), join(folder, 'kinds.pt'));
  return {
    files: ['kinds.pt'],
    read: (file) => scope(() => void [...readTorchFile(file).values()].map((tensor) => tensor.toNumbers())),
  };
}
