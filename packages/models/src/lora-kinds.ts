/**
 * Adapters whose updates are no pair of matrices, as files of LyCORIS and PEFT have them: LoHa (Hyeon-Woo et al. 2022), LoKr (Yeh et
 * al. 2023), and DoRA (Liu et al. 2024) on top of either or of LoRA. They are read and merged into the weights; they are not trained.
 */

import { type Device, keep, noGrad, scope, type Tensor, UserError } from '@rldf/torch';
import type { LoraPart } from './lora-files.js';

/** The tensors of a layer, by what files call them; `down`, `up` and `mid` are those of LoRA and LoCon. */
export const FACTORS = [
  ...['down', 'up', 'mid'],
  ...['hada_w1_a', 'hada_w1_b', 'hada_w2_a', 'hada_w2_b', 'hada_t1', 'hada_t2'],
  ...['lokr_w1', 'lokr_w1_a', 'lokr_w1_b', 'lokr_w2', 'lokr_w2_a', 'lokr_w2_b', 'lokr_t2'],
  ...['dora_scale', 'magnitude'],
] as const;
export type Factor = (typeof FACTORS)[number];
export type Factors = { [name in Factor]?: Tensor };

/** One layer whose whole weight is updated. */
export interface WeightLayer {
  part: LoraPart;
  path: string;
  /** In words, such as `LoKr`. */
  kind: string;
  factors: Factors;
  /** On the product of the factors. */
  scale: number;
}

/** What kind of adapter the tensors of a layer are, in words; undefined for LoRA and LoCon. */
export function kindOf(factors: Factors): string | undefined {
  const has = (start: string) => Object.keys(factors).some((name) => name.startsWith(start));
  const kind = has('hada_') ? 'LoHa' : has('lokr_') ? 'LoKr' : undefined;
  if (factors.dora_scale === undefined && factors.magnitude === undefined) return kind;
  return kind === undefined ? 'DoRA' : `${kind} with DoRA`;
}

/** The rank that alpha is divided by; undefined for a LoKr of whole matrices, which has none. */
export function rankOf({
  down,
  hada_w1_b: hada,
  lokr_w1_b: first,
  lokr_w2_b: second,
}: Factors): number | undefined {
  return (down ?? hada ?? first ?? second)?.shape[0];
}

/**
 * Refuses tensors that do not belong together.
 *
 * @param name of the layer, with its file
 * @returns [out, in · k · k] of the update
 * @throws UserError naming what is missing or does not fit
 */
export function checkFactors(name: string, factors: Factors): [out: number, inner: number] {
  const refuse = (what: string) => new UserError(`${name} — ${what}. Save the adapter again.`);
  const shape = (factor: Factor): readonly number[] => {
    const tensor = factors[factor];
    if (tensor === undefined) throw refuse(`${factor} is missing`);
    if (tensor.shape.length < 2 || tensor.numel === 0)
      throw refuse(`${factor} has shape [${tensor.shape}], which is no matrix`);
    return tensor.shape;
  };
  const rest = (sizes: readonly number[]) => sizes.slice(1).reduce((product, size) => product * size, 1);
  /** A product of two matrices, the second flattened; with a core in Tucker decomposition between them. */
  const product = (a: Factor, b: Factor, core?: Factor): [number, number] => {
    const [first, second] = [shape(a), shape(b)];
    const unfit = () =>
      refuse(`${a} [${first}] and ${b} [${second}] do not fit each other${core ? ` and ${core}` : ''}`);
    if (core === undefined || factors[core] === undefined) {
      if (rest(first) !== second[0]) throw unfit();
      return [first[0]!, rest(second)];
    }
    const middle = shape(core);
    const flat = first.length === 2 && second.length === 2;
    if (middle.length < 3 || !flat || middle[0] !== first[0] || middle[1] !== second[0]) throw unfit();
    return [first[1]!, second[1]! * rest(middle.slice(1))];
  };
  const kind = kindOf(factors) ?? '';
  if (kind.startsWith('LoHa')) {
    if ((factors.hada_t1 === undefined) !== (factors.hada_t2 === undefined))
      throw refuse(`${factors.hada_t1 === undefined ? 'hada_t1' : 'hada_t2'} is missing`);
    const [one, other] = [
      product('hada_w1_a', 'hada_w1_b', 'hada_t1'),
      product('hada_w2_a', 'hada_w2_b', 'hada_t2'),
    ];
    if (`${one}` !== `${other}`) throw refuse(`its two products have shapes [${one}] and [${other}]`);
    return one;
  }
  if (kind.startsWith('LoKr')) {
    const whole = (factor: Factor): [number, number] => [shape(factor)[0]!, rest(shape(factor))];
    const first = factors.lokr_w1 ? whole('lokr_w1') : product('lokr_w1_a', 'lokr_w1_b');
    const second = factors.lokr_w2 ? whole('lokr_w2') : product('lokr_w2_a', 'lokr_w2_b', 'lokr_t2');
    return [first[0] * second[0], first[1] * second[1]];
  }
  const [down, up] = [shape('down'), shape('up')];
  const rank = factors.mid ? shape('mid')[0]! : down[0]!;
  if (rest(up) !== rank) throw refuse(`up [${up}] does not fit rank ${rank}`);
  if (!factors.mid) return [up[0]!, rest(down)];
  const middle = shape('mid');
  if (middle.length < 3 || middle[1] !== down[0]) throw refuse(`mid [${middle}] does not fit down [${down}]`);
  return [up[0]!, rest(down) * rest(middle.slice(1))];
}

/** A LoCon's down matrix and its core in Tucker decomposition, [r', in, 1, 1] and [r, r', k, k], as one: [r, in, k, k]. */
export function downOf({ down, mid }: Factors): Tensor {
  return mid === undefined
    ? down!
    : scope(() => tucker(mid.to('float32'), undefined, down!.to('float32').flatten(1)));
}

/** @throws UserError when the update is not of the weight's size, or is for a model that is */
export function checkSize(where: string, factors: Factors, weight: Tensor): void {
  const refuse = (what: string) => {
    throw new UserError(
      `${where} — ${what}, the layer [${weight.shape}]. Use an adapter made for this model.`,
    );
  };
  const [out, inner] = checkFactors(where, factors);
  if (out !== weight.shape[0] || out * inner !== weight.numel)
    refuse(`its update has shape [${out}, ${inner}]`);
  const lengths = factors.magnitude ?? factors.dora_scale;
  if (lengths !== undefined && !ofInputs(factors, weight) && lengths.numel !== out)
    refuse(`its lengths (DoRA) have shape [${lengths.shape}]`);
}

/** Whether the lengths are those of what an input goes through, as LyCORIS has them with `wd_on_output: false`. */
function ofInputs({ dora_scale: scale, magnitude }: Factors, weight: Tensor): boolean {
  if (magnitude !== undefined || scale === undefined) return false;
  return scale.shape.length > 1 && scale.shape[0] === 1 && scale.numel === weight.shape[1];
}

/**
 * What an adapter adds to a weight, float32 and shaped as it.
 *
 * @param weight [out, in] or [out, in, k, k] before any adapter, of the size that `checkSize` asks for
 */
export function weightUpdate({ factors, scale }: WeightLayer, weight: Tensor): Tensor {
  return noGrad(() =>
    scope(() => {
      const update = productOf(factors).reshape(weight.shape).mul(scale);
      if (factors.dora_scale === undefined && factors.magnitude === undefined) return update;
      const original = weight.to('float32');
      return decomposed(factors, original.add(update)).sub(original);
    }),
  );
}

function productOf(factors: Factors): Tensor {
  const of = (name: Factor) => factors[name]!.to('float32');
  const product = (a: Factor, b: Factor, core: Factor) =>
    factors[core] === undefined
      ? of(a).flatten(1).matmul(of(b).flatten(1))
      : tucker(of(core), of(a), of(b)).flatten(1); // [out, in · k · k]
  const kind = kindOf(factors) ?? '';
  if (kind.startsWith('LoHa'))
    return product('hada_w1_a', 'hada_w1_b', 'hada_t1').mul(product('hada_w2_a', 'hada_w2_b', 'hada_t2'));
  if (kind.startsWith('LoKr')) {
    const first = factors.lokr_w1
      ? of('lokr_w1').flatten(1)
      : of('lokr_w1_a').flatten(1).matmul(of('lokr_w1_b').flatten(1)); // [a, c]
    const second = factors.lokr_w2 ? of('lokr_w2').flatten(1) : product('lokr_w2_a', 'lokr_w2_b', 'lokr_t2'); // [b, d]
    const [[a, c], [b, d]] = [first.shape, second.shape] as [[number, number], [number, number]];
    return first
      .reshape([a, 1, c, 1])
      .mul(second.reshape([1, b, 1, d]))
      .reshape([a * b, c * d]);
  }
  return of('up')
    .flatten(1)
    .matmul(downOf({ down: of('down'), ...(factors.mid && { mid: of('mid') }) }).flatten(1));
}

/** Σ_ij core[i, j, k, l] a[i, p] b[j, q] -> [p, q, k, l]; without a, i stays. */
function tucker(core: Tensor, a: Tensor | undefined, b: Tensor): Tensor {
  const [i, j, ...kernel] = core.shape as [number, number, ...number[]];
  const size = kernel.reduce((product, length) => product * length, 1);
  const left =
    a === undefined ? core.reshape([i, j * size]) : a.transpose(0, 1).matmul(core.reshape([i, j * size]));
  const rows = left.shape[0]!;
  const right = left.reshape([rows, j, size]).permute([0, 2, 1]).matmul(b); // [p, k · l, q]
  return right.permute([0, 2, 1]).reshape([rows, b.shape[1]!, ...kernel]);
}

/** The weight with the lengths that DoRA learned: of its rows, each what makes an output, or of what an input goes through. */
function decomposed(factors: Factors, weight: Tensor): Tensor {
  const lengths = (factors.magnitude ?? factors.dora_scale)!;
  const kept = ofInputs(factors, weight) ? 1 : 0;
  const others = weight.shape.map((_, i) => i).filter((i) => i !== kept);
  const now = weight.square().sum(others, true).sqrt(); // [out, 1, ...] or [1, in, ...]
  return weight.mul(lengths.to('float32').reshape(now.shape).div(now));
}

/** Copies the tensors of a layer, to live until freed. */
export function keepFactors(factors: Factors, device: Device): Factors {
  return Object.fromEntries(
    Object.entries(factors).map(([name, tensor]) => [name, keep(tensor.to({ device }).clone())]),
  );
}
