import { noGrad } from '../autograd.js';
import type { Device } from '../device.js';
import { type DType, isFloating } from '../dtype.js';
import { UserError } from '../errors.js';
import { full, zeros } from '../factories.js';
import { refuseNonFinite } from '../finite.js';
import { native } from '../native.js';
import { noiseKey, normal, uniform } from '../random.js';
import { free, keep, scope } from '../scope.js';
import type { Tensor } from '../tensor.js';
import type { Conv2d, Linear } from './layers.js';

/** Tensors by name; the names equal Hugging Face's. */
export type StateDict = Map<string, Tensor>;

/** How a parameter starts when it is not loaded: `normal` is a standard deviation, `uniform` a bound. */
export type Init = 'zeros' | 'ones' | { constant: number } | { normal: number } | { uniform: number };

interface Options {
  dtype?: DType;
  device?: Device;
}

const setData = native.resolve('set_data', '');

/** Who is told of every store that is made. */
let listener: ((made: Parameters) => void) | undefined;

type Source = (name: string, shape: readonly number[], init: Init) => Tensor;

/**
 * The named parameters of a model. Layers ask for theirs by path while the model is being constructed, and the store
 * either draws them ({@link Parameters.random}) or hands them out of a state dict ({@link Parameters.from}).
 */
export class Parameters {
  /** Name -> leaf tensor, in the order of construction. */
  readonly entries: StateDict = new Map();
  /** Path -> layer: where low-rank adapters attach. */
  readonly layers = new Map<string, Linear | Conv2d>();
  readonly #source: Source;
  readonly #unused: () => string[];
  readonly #where: string;

  private constructor(source: Source, where: string, unused: () => string[] = () => []) {
    this.#source = source;
    this.#where = where;
    this.#unused = unused;
    listener?.(this);
  }

  /** Parameters drawn from their layers' initial distributions; each depends on seed and name alone. */
  static random(seed: number, { dtype = 'float32', device = 'cpu' }: Options = {}): Parameters {
    const options = { dtype, device };
    return new Parameters((name, shape, init) => {
      if (init === 'zeros') return zeros(shape, options);
      if (init === 'ones') return full(shape, 1, options);
      if ('constant' in init) return full(shape, init.constant, options);
      const key = [noiseKey(seed, `parameter ${name}`)];
      const [drawn, scale] =
        'normal' in init
          ? [normal(key, shape, options), init.normal]
          : [uniform(key, shape, options), init.uniform];
      const flat = drawn.squeeze(0);
      if ('uniform' in init) flat.mul_(2).add_(-1);
      flat.mul_(scale);
      drawn.free();
      return flat;
    }, 'random');
  }

  /**
   * Parameters out of a state dict: shapes are checked, dtype and device converted, memory copied in row-major order (so
   * that kernels depend neither on a mapped file's alignment nor on strides).
   * @param where names the origin in errors, such as the file
   * @throws UserError for a missing name, another shape, or whole numbers in place of weights
   */
  static from(
    state: StateDict,
    { dtype, device, where = 'state dict' }: Options & { where?: string } = {},
  ): Parameters {
    const used = new Set<string>();
    const source: Source = (name, shape) => {
      const found = state.get(name);
      if (found === undefined) {
        throw new UserError(
          `${where}: tensor "${name}" [${shape.join(', ')}] is missing — the file does not belong to this config, or is incomplete.`,
        );
      }
      // a single whole number is a counter: batch norms keep how many batches they have seen
      if (!isFloating(found.dtype) && shape.length > 0) {
        throw new UserError(
          `${where}: tensor "${name}" is ${found.dtype} — weights are floating-point numbers; whole ones are of a quantised or damaged file. Use the model in float32, float16 or bfloat16.`,
        );
      }
      const foundShape = found.shape;
      if (foundShape.length !== shape.length || foundShape.some((size, i) => size !== shape[i])) {
        throw new UserError(
          `${where}: tensor "${name}" has shape [${foundShape.join(', ')}], the config asks for [${shape.join(', ')}] — config and weights do not belong together.`,
        );
      }
      used.add(name);
      const target = {
        ...(dtype === undefined ? {} : { dtype }),
        ...(device === undefined ? {} : { device }),
      };
      const converted = found.to(target);
      // `clone` keeps strides, and an optimiser's kernel walks raw memory
      const copy = converted.isContiguous() ? converted.clone() : converted.contiguous();
      converted.free();
      return copy;
    };
    return new Parameters(source, where, () => [...state.keys()].filter((name) => !used.has(name)));
  }

  /** Runs `fn`. @returns what it returned, and all parameters that were made meanwhile */
  static async madeBy<T>(fn: () => Promise<T>): Promise<{ result: T; made: Parameters[] }> {
    const made: Parameters[] = [];
    const before = listener;
    listener = (one) => made.push(one);
    try {
      return { result: await fn(), made };
    } finally {
      listener = before;
    }
  }

  /** Where the first of them lies. */
  get device(): Device {
    return this.entries.values().next().value?.device ?? 'cpu';
  }

  /** Of the first of them. */
  get dtype(): DType {
    return this.entries.values().next().value?.dtype ?? 'float32';
  }

  /** Moves all in place: layers keep their tensors. Not while a graph needs them. */
  moveTo(device: Device): void {
    noGrad(() =>
      scope(() => {
        for (const tensor of this.entries.values())
          if (tensor.device !== device) native.call(setData, tensor.handle, tensor.to(device).handle);
      }),
    );
  }

  at(...names: (string | number)[]): ParameterPath {
    return new ParameterPath(this, names.join('.'));
  }

  /** @internal */
  create(name: string, shape: readonly number[], init: Init): Tensor {
    if (this.entries.has(name))
      throw new UserError(
        `${this.#where}: parameter "${name}" is asked for twice — two layers share a path.`,
      );
    const made = keep(this.#source(name, shape, init));
    this.entries.set(name, made);
    return made;
  }

  /** The living tensors by name (not copies). */
  state(): StateDict {
    return new Map(this.entries);
  }

  /** Turns gradients for all parameters on or off; returns them. */
  trainable(on = true): Tensor[] {
    const list = [...this.entries.values()];
    for (const parameter of list) parameter.requiresGrad_(on);
    return list;
  }

  /** @throws UserError if the state dict held names that no layer asked for, or a parameter holds NaN or infinity */
  assertAllUsed(): void {
    const left = this.#unused();
    if (left.length > 0) {
      const shown = left.slice(0, 5).join(', ');
      throw new UserError(
        `${this.#where}: ${left.length} tensors belong to no layer of this config: ${shown}${left.length > 5 ? ', ...' : ''} — config and weights do not belong together.`,
      );
    }
    refuseNonFinite(this.#where, this.entries);
  }

  /** Number of scalars. */
  get count(): number {
    return [...this.entries.values()].reduce((sum, parameter) => sum + parameter.numel, 0);
  }

  free(): void {
    free(this.entries);
  }
}

/** A place in a model's tree of names: `path.at('down_blocks', 0)`. */
export class ParameterPath {
  constructor(
    readonly parameters: Parameters,
    readonly name: string,
  ) {}

  at(...names: (string | number)[]): ParameterPath {
    return new ParameterPath(this.parameters, [this.name, ...names].filter((part) => part !== '').join('.'));
  }

  /** The parameter `name` of this place. */
  tensor(name: string, shape: readonly number[], init: Init): Tensor {
    return this.parameters.create(this.at(name).name, shape, init);
  }
}
