import { UserError } from './errors.js';
import { native } from './native.js';

const op = {
  cudaDevices: native.resolve('rldf::cuda_devices', ''),
  setThreads: native.resolve('rldf::set_threads', ''),
  setWinograd: native.resolve('rldf::set_winograd', ''),
  threads: native.resolve('rldf::threads', ''),
  version: native.resolve('rldf::version', ''),
};

export type Device = 'cpu' | 'cuda' | `cuda:${number}`;

/** The devices of this machine, `cpu` first. */
export function availableDevices(): Device[] {
  const cuda = Array.from({ length: native.call(op.cudaDevices) as number }, (_, i) => `cuda:${i}` as const);
  return ['cpu', ...cuda];
}

/** The device's full name. A device that is not there is a {@link UserError} that names what is. */
export function deviceName(device: Device): string {
  if (device === 'cpu') return 'cpu';
  const available = availableDevices();
  const wanted = device === 'cuda' ? 'cuda:0' : device;
  if (!available.includes(wanted)) {
    throw new UserError(
      `device: "${device}" is not here — this libtorch sees ${available.join(', ')}. Set device to one of these.`,
    );
  }
  return wanted;
}

/** CPU threads that libtorch uses inside one operator. */
export function threads(): number {
  return native.call(op.threads);
}

export function setThreads(count: number): void {
  if (count < 1 || count > 1024) {
    throw new UserError(`setThreads: ${count} threads were asked for — from 1 to 1024 there can be.`);
  }
  native.call(op.setThreads, count);
}

/**
 * Whether 3x3 convolutions with frozen weights take Winograd's algorithm (kernels/winograd.cc): half the time, and as
 * accurate as the definition. On unless switched off.
 *
 * @returns whether this machine has it: x86-64 with AVX-512; elsewhere libtorch's convolution is taken
 */
export function setWinograd(on: boolean): boolean {
  return native.call(op.setWinograd, on);
}

/** Version of the linked libtorch, such as `2.13.0`. */
export function torchVersion(): string {
  return native.call(op.version);
}
