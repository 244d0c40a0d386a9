/** How fast this machine is at a plan's own operators: the costliest are run, the others are reckoned from them. */

import { type Device, F, noGrad, scope, type shapes, type Tensor, zeros } from '@rldf/torch';
import type { WorkPrediction } from './miniature.js';

type Work = shapes.Work;

/** Seconds of one picture's step (drawn; learned from), and of one picture's decoding. */
export interface Seconds {
  drawing: number;
  learning: number;
  decoding: number;
}

/** What an operator without a measurement of its own is reckoned with, until some are measured. */
const guesses = { operationsPerSecond: 2e10, bytesPerSecond: 5e9 };

/** A call that would take more seconds than this by the guesses is not tried: nothing could end it. */
const longest = 2;

/** An operand larger than this is not tried. */
const largest = 512e6;

/**
 * @param budget seconds for trying
 * @param device where
 */
export function calibrate(work: WorkPrediction, budget: number, device: Device = 'cpu'): Seconds {
  const end = performance.now() + 1000 * budget;
  const all = [...work.drawing, ...work.learning, ...work.decoding];
  const distinct = new Map<string, Work>();
  for (const one of all) {
    const known = distinct.get(keyOf(one));
    distinct.set(
      keyOf(one),
      known
        ? {
            ...one,
            calls: one.calls + known.calls,
            operations: one.operations + known.operations,
            bytes: one.bytes + known.bytes,
          }
        : one,
    );
  }
  const byCost = [...distinct.values()].sort((a, b) => guess(b) - guess(a));
  const measured = new Map<string, number>();
  for (const one of byCost) {
    if (performance.now() > end) break;
    const short = guess(one) / one.calls < longest;
    const call = one.operations > 0 && short ? operatorOf(one, device) : undefined;
    if (call !== undefined) measured.set(keyOf(one), secondsOf(call, end));
  }
  const tried = byCost.filter((one) => measured.has(keyOf(one)));
  const sum = (read: (one: Work) => number) => tried.reduce((total, one) => total + read(one), 0);
  const rate =
    tried.length === 0
      ? guesses.operationsPerSecond
      : sum(({ operations }) => operations) / sum((one) => one.calls * (measured.get(keyOf(one)) as number));
  const memory = bandwidth(device);
  const overhead =
    secondsOf(() => scope(() => void zeros([1], { device }).add(1)), performance.now() + 50) / 2;
  const seconds = (list: readonly Work[]) =>
    list.reduce((total, one) => {
      const known = measured.get(keyOf(one));
      if (known !== undefined) return total + one.calls * known;
      return total + one.operations / rate + one.bytes / memory + one.calls * overhead;
    }, 0);
  return {
    drawing: Math.max(0, seconds(work.drawing) - seconds(work.decoding)) / work.drawnSteps,
    learning: seconds(work.learning) / work.learnedSteps,
    decoding: seconds(work.decoding) / work.pictures,
  };
}

const keyOf = ({ name, shapes: operands, lists }: Work) => JSON.stringify([name, operands, lists]);

const guess = ({ operations, bytes }: Work) =>
  operations / guesses.operationsPerSecond + bytes / guesses.bytesPerSecond;

/** The operator on tensors of its shapes; nothing if it is not one of the costly kinds. */
function operatorOf({ name, shapes: operands, lists }: Work, device: Device): (() => void) | undefined {
  const bytes = operands.reduce((sum, shape) => sum + 4 * shape.reduce((a, b) => a * b, 1), 0);
  if (bytes > largest) return undefined;
  const made = (use: (...tensors: Tensor[]) => Tensor) => {
    const tensors = operands.map((shape) => zeros(shape, { device }));
    return Object.assign(() => noGrad(() => scope(() => finished(use(...tensors)))), { tensors });
  };
  switch (name) {
    case 'rldf::conv3x3':
      return made((x, weight, bias) => F.conv2d(x as Tensor, weight as Tensor, bias, { padding: 1 }));
    case 'conv2d':
      return made((x, weight, bias) =>
        F.conv2d(x as Tensor, weight as Tensor, bias, {
          stride: lists[0]?.[0] ?? 1,
          padding: lists[1]?.[0] ?? 0,
        }),
      );
    case 'linear':
      return made((x, weight, bias) => F.linear(x as Tensor, weight as Tensor, bias));
    case 'scaled_dot_product_attention':
      return made((q, k, v) => F.scaledDotProductAttention(q as Tensor, k as Tensor, v as Tensor));
    default:
      return undefined;
  }
}

/** The fastest of up to four calls after one to warm up, within the time. Frees the operands. */
function secondsOf(call: (() => void) & { tensors?: Tensor[] }, end: number): number {
  let best = Number.POSITIVE_INFINITY;
  for (let i = 0; i < 5 && (i < 2 || performance.now() < end); i++) {
    const began = performance.now();
    call();
    const seconds = (performance.now() - began) / 1000;
    if (i > 0) best = Math.min(best, seconds);
    if (i === 0 && seconds > 0.5) {
      best = seconds;
      break;
    }
  }
  for (const tensor of call.tensors ?? []) tensor.free();
  return best;
}

/** Waits for a device that works on its own. */
function finished(result: Tensor): void {
  if (result.device !== 'cpu') result.flatten(0).narrow(0, 0, 1).item();
}

/** Bytes a second, read and written, of elementwise operators that do not fit into the caches. */
function bandwidth(device: Device): number {
  const x = zeros([1 << 22], { device });
  const seconds = secondsOf(() => noGrad(() => scope(() => finished(x.silu()))), performance.now() + 200);
  x.free();
  return (8 * (1 << 22)) / seconds;
}
