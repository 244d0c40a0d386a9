import { existsSync } from 'node:fs';
import { createRequire } from 'node:module';
import { fileURLToPath } from 'node:url';
import { UserError } from './errors.js';
import { shapesNative } from './shapes/native.js';

/** A tensor in the addon's slot table: generation * 2^24 + slot. Stale handles are refused. */
export type Handle = number;
export type OperatorNumber = number;

/** What the addon exports (packages/torch/native/addon.cc). */
export interface Native {
  /** An operator of libtorch, or one of ours: `rldf::name` (packages/torch/native/runtime.cc, kernels). */
  resolve(name: string, overload: string): OperatorNumber;
  // biome-ignore lint/suspicious/noExplicitAny: arguments and results follow the operator's schema
  call(operator: OperatorNumber, ...args: unknown[]): any;
  /** In libtorch's own words; schema.ts reads them. */
  schema(operator: OperatorNumber): string;
  listOperators(): string[];
  isLive(handle: Handle): boolean;
  shape(handle: Handle): number[];
  device(handle: Handle): string;
  dtype(handle: Handle): number;
  requiresGrad(handle: Handle): boolean;
  /** The bytes of a dense tensor on the CPU, from `bytes` into it or the other way. */
  copyBytes(handle: Handle, bytes: Uint8Array, into: boolean): void;
  /** Frees the handles in places [from, to); those that are stale are passed over. */
  free(handles: Float64Array, from: number, to: number): void;
  live(): [tensors: number, bytes: number];
}

/** RLDF_TORCH_ADDON names another build, such as one against another libtorch. */
export const addonFile =
  process.env.RLDF_TORCH_ADDON ?? fileURLToPath(new URL('../build/torch.node', import.meta.url));

/**
 * NVIDIA's libraries read it when they start: without it cuDNN computes float32 convolutions in TF32, with 10 bits of mantissa, and
 * gradients of adapters are 11 to 18 % off (docs/results/device.md). Whoever sets it to 1 has TF32; half precision is not
 * touched.
 */
function exactFloat32(): void {
  process.env.NVIDIA_TF32_OVERRIDE ??= '0';
}

function load(): Native {
  exactFloat32();
  if (!existsSync(addonFile)) {
    throw new UserError(
      `torch: the addon ${addonFile} is not built — run \`rldf setup\`, or \`npm run setup\` in the repository.`,
    );
  }
  try {
    return createRequire(import.meta.url)(addonFile) as Native;
  } catch (error) {
    throw new UserError(
      `torch: the addon does not load (${(error as Error).message}) — libtorch was moved, updated or removed. Run \`rldf setup\`, or \`npm run setup\` in the repository.`,
    );
  }
}

/** In place of the addon, with RLDF_TORCH=shapes, libtorch without numbers: to ask what a program would need. */
export const native: Native = process.env.RLDF_TORCH === 'shapes' ? shapesNative() : load();
