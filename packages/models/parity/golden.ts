import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import {
  type ParameterPath,
  Parameters,
  readSafetensors,
  type StateDict,
  Tensor,
  UserError,
} from '@rldf/torch';

/** Where the goldens lie; the mutation test runs copies of the code against the originals. */
export const goldenFolder = process.env.RLDF_GOLDENS ?? join(import.meta.dirname, '..', 'goldens');

export type Numbers = ArrayLike<number>;

/** One output of the code under test: a tensor, or plain numbers. */
export type Output = Tensor | Numbers;

/** The largest error of one comparison, as a share of the expected tensor's largest magnitude. */
export interface Difference {
  name: string;
  error: number;
}

/** What the reference implementation was given, and what it answered. */
export class Golden {
  readonly name: string;
  readonly #tensors: StateDict;
  /** The golden's JSON: class, config, options. */
  readonly json: { [key: string]: unknown };

  constructor(name: string) {
    const base = join(goldenFolder, name);
    if (!existsSync(`${base}.json`)) {
      throw new UserError(`golden ${name}: ${base}.json is missing — make it with parity/make-goldens.py.`);
    }
    this.name = name;
    this.json = JSON.parse(readFileSync(`${base}.json`, 'utf8'));
    this.#tensors = existsSync(`${base}.safetensors`)
      ? readSafetensors(`${base}.safetensors`).tensors
      : new Map();
  }

  /** @throws UserError when the golden holds no such tensor */
  tensor(name: string): Tensor {
    const found = this.#tensors.get(name);
    if (found) return found.clone();
    throw new UserError(`golden ${this.name}: there is no tensor "${name}" — cases and goldens disagree.`);
  }

  input(name: string): Tensor {
    return this.tensor(`inputs.${name}`);
  }

  /** Tensors under a prefix, which is removed. */
  group(prefix: string): StateDict {
    return new Map(
      [...this.#tensors]
        .filter(([name]) => name.startsWith(prefix))
        .map(([name, tensor]) => [name.slice(prefix.length), tensor]),
    );
  }
}

/** Builds a network on a golden's weights, all of which it must use; gradients are recorded. */
export function build<Model>(
  golden: Golden,
  make: (path: ParameterPath) => Model,
): { model: Model; parameters: Parameters } {
  return buildOn(golden, golden.group('weights.'), make);
}

/** The same on weights that were renamed. */
export function buildOn<Model>(
  golden: Golden,
  state: StateDict,
  make: (path: ParameterPath) => Model,
): { model: Model; parameters: Parameters } {
  const parameters = Parameters.from(state, { dtype: 'float32', where: `golden ${golden.name}` });
  const model = make(parameters.at());
  parameters.assertAllUsed();
  parameters.trainable(true);
  return { model, parameters };
}

/** Compares outputs with the golden's tensors of the same names, under `outputs.`, `blocks.` and `gradients.`. */
export function compare(
  golden: Golden,
  outputs: { [name: string]: Output },
  prefixes: readonly string[],
): Difference[] {
  const differences: Difference[] = [];
  for (const prefix of prefixes) {
    for (const [name, expected] of golden.group(prefix)) {
      const found = outputs[`${prefix}${name}`];
      const shapes = found instanceof Tensor && `${found.shape}` !== `${expected.shape}`;
      const error =
        found === undefined || shapes
          ? Number.POSITIVE_INFINITY
          : relativeError(numbers(found), numbers(expected));
      const note = found === undefined ? ' (missing)' : shapes ? ` (shape ${found.shape})` : '';
      differences.push({ name: `${prefix}${name}${note}`, error });
    }
  }
  return differences;
}

/** max |found - expected| / max |expected|; infinite for another length or a number that is not finite. */
export function relativeError(found: Numbers, expected: Numbers): number {
  if (found.length !== expected.length) return Number.POSITIVE_INFINITY;
  let error = 0;
  let scale = 0;
  for (let i = 0; i < expected.length; i++) {
    const difference = Math.abs(found[i]! - expected[i]!);
    if (!Number.isFinite(difference)) return Number.POSITIVE_INFINITY;
    error = Math.max(error, difference);
    scale = Math.max(scale, Math.abs(expected[i]!));
  }
  return scale === 0 ? error : error / scale;
}

export function numbers(output: Output): Numbers {
  if (!(output instanceof Tensor)) return output;
  const array = output.detach().toArray();
  return array instanceof BigInt64Array ? Array.from(array, Number) : array;
}
