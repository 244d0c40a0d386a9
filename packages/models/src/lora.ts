import {
  Conv2d,
  type DType,
  InternalError,
  isFloating,
  isHalf,
  keep,
  Linear,
  type LowRankBranch,
  noGrad,
  noiseKey,
  normal,
  type Parameters,
  refuseNonFinite,
  type Seed,
  type StateDict,
  scope,
  type Tensor,
  UserError,
  uniform,
  zeros,
} from '@rldf/torch';

/** The attention projections of the U-Net that diffusers adapts by default. */
export const UNET_ATTENTION: readonly string[] = ['to_q', 'to_k', 'to_v', 'to_out.0'];
/** The attention projections of CLIP's text tower. */
export const TEXT_ATTENTION: readonly string[] = ['q_proj', 'k_proj', 'v_proj', 'out_proj'];

export interface LoraOptions {
  rank: number;
  /** The update is scaled by alpha / rank; the rank by default. */
  alpha?: number;
  /** Ends of layer paths, such as `to_q` or `attn2.to_k`. */
  targets: readonly string[];
  /** Of the down projection, PEFT's names: uniform within 1/sqrt(in) (`default`), or normal with std 1/rank. */
  init?: 'default' | 'gaussian';
  seed: Seed;
}

/** A layer that can have adapters. */
export type AdaptableLayer = Linear | Conv2d;

/** One adapted layer. */
export interface LoraModule {
  /** Name of the layer in its network. */
  path: string;
  layer: AdaptableLayer;
  /** Linear: down [rank, in], up [out, rank]; convolution: down [rank, in, k, k], up [out, rank, 1, 1]. */
  branch: LowRankBranch;
  rank: number;
  alpha: number;
}

/** One layer whose weight is updated as a whole (LoHa, LoKr, DoRA): merged as long as the adapter is there, and not trained. */
export interface WeightModule {
  path: string;
  layer: AdaptableLayer;
  update: WeightUpdate;
}

/** What is added to a weight, times the adapter's strength. */
export interface WeightUpdate {
  /** Freed with the adapter. */
  tensors: readonly Tensor[];
  /** Of the weight before any adapter, and shaped as it. */
  of(original: Tensor): Tensor;
  scale: number;
}

/**
 * Low-rank adapters (Hu et al. 2021) on layers of one network: W x + strength * alpha/rank * up(down(x)).
 *
 * Several adapters may sit on one network; their updates add up. At first `up` is zero, so nothing changes.
 */
export class LoraAdapter {
  readonly modules: readonly LoraModule[];
  /** Layers of other kinds, of files. */
  readonly updates: readonly WeightModule[];
  #strength = 1;
  #merged = false;

  /** Puts the branches onto their layers, and the updates into them; use `attach` or `loadLora`. */
  constructor(modules: readonly LoraModule[], updates: readonly WeightModule[] = []) {
    this.modules = modules;
    this.updates = updates;
    for (const { layer, branch } of modules) layer.branches.push(branch);
    for (const { layer, update } of updates) mergeOf(layer).updates.push(update);
    this.strength = 1;
  }

  /** The layers that the adapter changes. */
  get layers(): AdaptableLayer[] {
    return [...this.modules, ...this.updates].map(({ layer }) => layer);
  }

  /**
   * New adapters on all layers of a network whose path ends in one of the targets.
   *
   * @throws UserError when a target fits no layer
   */
  static attach(parameters: Parameters, options: LoraOptions): LoraAdapter {
    const { rank, alpha = rank, targets } = options;
    if (!Number.isInteger(rank) || rank < 1) {
      throw new UserError(`LoRA: rank is ${rank} — must be an integer of at least 1. Use 4 to 32.`);
    }
    const fits = (path: string, target: string) => path === target || path.endsWith(`.${target}`);
    const unknown = targets.find(
      (target) => ![...parameters.layers.keys()].some((path) => fits(path, target)),
    );
    if (unknown !== undefined || targets.length === 0) {
      const ends = new Set([...parameters.layers.keys()].map((path) => path.split('.').slice(-2).join('.')));
      throw new UserError(
        `LoRA: target ${JSON.stringify(unknown ?? null)} — fits no layer of this network. ` +
          `Layers end in: ${[...ends].sort().join(', ')}.`,
      );
    }
    const modules = [...parameters.layers]
      .filter(([path]) => targets.some((target) => fits(path, target)))
      .map(([path]) => {
        const layer = adaptable(parameters, path, 'LoRA');
        const { device } = layer.weight;
        const dtype = adapterType(layer);
        const down = keep(drawDown(path, layer, options));
        const up = keep(zeros(branchShapes(layer, rank).up, { dtype, device }));
        return { path, layer, rank, alpha, branch: { down, up, scale: alpha / rank } };
      });
    return new LoraAdapter(modules);
  }

  /** Factor on the whole update; 0 is the network without the adapter. */
  get strength(): number {
    return this.#strength;
  }
  set strength(strength: number) {
    this.#strength = strength;
    for (const { branch, alpha, rank } of this.modules) branch.scale = (strength * alpha) / rank;
    for (const { update } of this.updates) update.scale = strength;
    if (this.#merged) for (const { layer } of this.modules) remerge(layer);
    for (const { layer } of this.updates) remerge(layer);
  }

  /** Down and up of every layer, in the order of `modules`. */
  parameters(): Tensor[] {
    return this.modules.flatMap(({ branch }) => [branch.down, branch.up]);
  }

  /** Turns gradients on or off; returns `parameters()`. */
  trainable(on = true): Tensor[] {
    return this.parameters().map((parameter) => parameter.requiresGrad_(on));
  }

  /** The living tensors under PEFT's names, `<path>.lora_A.weight` and `<path>.lora_B.weight`. */
  state(): StateDict {
    return new Map(
      this.modules.flatMap(({ path, branch }): [string, Tensor][] => [
        [`${path}.lora_A.weight`, branch.down],
        [`${path}.lora_B.weight`, branch.up],
      ]),
    );
  }

  /**
   * Copies values of `state()` back in.
   *
   * @throws UserError when a tensor is missing, of another shape, no weights, or holds NaN or infinity
   */
  load(state: StateDict, where = 'LoRA state'): void {
    noGrad(() => {
      for (const [name, tensor] of this.state()) {
        const found = state.get(name);
        if (!found || `${found.shape}` !== `${tensor.shape}`) {
          throw new UserError(
            `${where}: ${name} ${found ? `has shape [${found.shape}]` : 'is missing'} — expected shape ` +
              `[${tensor.shape}]. Attach the adapter with the rank and targets it was saved with.`,
          );
        }
        if (!isFloating(found.dtype)) {
          throw new UserError(
            `${where}: ${name} is ${found.dtype} — weights are floating-point numbers. Restore the file.`,
          );
        }
        tensor.copy_(found);
      }
    });
    refuseNonFinite(where, this.state());
    if (this.#merged) for (const { layer } of this.modules) remerge(layer);
  }

  /** Runs `fn` on the network without this adapter: the reference policy needs no second copy. */
  disabled<T>(fn: () => T): T {
    const strength = this.#strength;
    this.strength = 0;
    try {
      return fn();
    } finally {
      this.strength = strength;
    }
  }

  /** Adds the update into the weights: faster to run, not trainable. `unmerge` restores them bit for bit. */
  merge(): void {
    if (this.#merged) return;
    this.#merged = true;
    for (const { layer, branch } of this.modules) {
      layer.branches = layer.branches.filter((other) => other !== branch);
      mergeOf(layer).branches.push(branch);
      remerge(layer);
    }
  }

  /** Takes the update out of the weights again. */
  unmerge(): void {
    if (!this.#merged) return;
    this.#merged = false;
    for (const { layer, branch } of this.modules) {
      const entry = merges.get(layer);
      if (!entry) throw new InternalError('LoraAdapter.unmerge: the original weights are gone.');
      entry.branches = entry.branches.filter((other) => other !== branch);
      remerge(layer);
      layer.branches.push(branch);
    }
  }

  /** Takes the adapter off the network and frees it. */
  remove(): void {
    this.unmerge();
    for (const { layer, branch } of this.modules) {
      layer.branches = layer.branches.filter((other) => other !== branch);
    }
    for (const { layer, update } of this.updates) {
      const entry = mergeOf(layer);
      entry.updates = entry.updates.filter((other) => other !== update);
      remerge(layer);
      for (const tensor of update.tensors) tensor.free();
    }
    for (const parameter of this.parameters()) parameter.free();
  }
}

/** The layer at a path. @throws UserError when there is none */
export function adaptable(parameters: Parameters, path: string, where: string): AdaptableLayer {
  const layer = parameters.layers.get(path);
  if (layer instanceof Linear || layer instanceof Conv2d) return layer;
  throw new UserError(
    `${where}: layer ${path} — the network has no such layer. Use an adapter of the same architecture.`,
  );
}

/** Of a layer's adapter: the layer's own type, but float32 where that is half precision, in which small steps are lost. */
export const adapterType = ({ weight: { dtype } }: AdaptableLayer): DType =>
  isHalf(dtype) ? 'float32' : dtype;

/** What down and up of a layer's adapter look like. */
export function branchShapes(layer: AdaptableLayer, rank: number): { down: number[]; up: number[] } {
  const [out, ...inputs] = layer.weight.shape as [number, ...number[]]; // [out, in] or [out, in, k, k]
  return { down: [rank, ...inputs], up: inputs.length === 1 ? [out, rank] : [out, rank, 1, 1] };
}

function drawDown(path: string, layer: AdaptableLayer, { rank, init, seed }: LoraOptions): Tensor {
  const keys = [noiseKey(seed, `lora ${path}`)];
  const { device } = layer.weight;
  const dtype = adapterType(layer);
  const shape = branchShapes(layer, rank).down;
  return scope(() => {
    if (init === 'gaussian') return normal(keys, shape, { dtype, device }).select(0, 0).div(rank);
    const bound = 1 / Math.sqrt(shape.slice(1).reduce((product, size) => product * size, 1));
    return uniform(keys, shape, { dtype, device }).select(0, 0).mul(2).sub(1).mul(bound);
  });
}

interface Merge {
  original: Tensor;
  branches: LowRankBranch[];
  updates: WeightUpdate[];
}

/** Layers with updates merged into them, and their weights before. */
const merges = new WeakMap<AdaptableLayer, Merge>();

function mergeOf(layer: AdaptableLayer): Merge {
  const known = merges.get(layer);
  if (known !== undefined) return known;
  const entry = { original: noGrad(() => keep(layer.weight.clone())), branches: [], updates: [] };
  merges.set(layer, entry);
  return entry;
}

/** Writes original + sum of the merged updates into the weights; forgets the original when none is left. */
function remerge(layer: AdaptableLayer): void {
  const entry = merges.get(layer);
  if (!entry) return;
  noGrad(() =>
    scope(() => {
      let weight = entry.original;
      for (const { down, up, scale } of entry.branches) {
        if (scale === 0) continue;
        const update = up.flatten(1).matmul(down.flatten(1)); // [out, in] or [out, in · k · k]
        weight = weight.add(update.reshape(weight.shape), scale);
      }
      for (const { of, scale } of entry.updates) {
        if (scale !== 0) weight = weight.add(of(entry.original).to(weight.dtype), scale);
      }
      layer.weight.copy_(weight);
    }),
  );
  if (entry.branches.length + entry.updates.length > 0) return;
  entry.original.free();
  merges.delete(layer);
}
