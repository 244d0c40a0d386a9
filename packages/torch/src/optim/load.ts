import { UserError } from '../errors.js';
import type { Tensor } from '../tensor.js';

/** Copies a saved list of tensors over an object's own; nothing is written unless all shapes agree. */
export function loadTensors(where: string, own: readonly Tensor[], saved: unknown): void {
  const list = Array.isArray(saved) ? (saved as Tensor[]) : undefined;
  if (list?.length !== own.length) {
    throw new UserError(
      `${where}: the saved state has ${list?.length ?? 'no'} tensors for ${own.length} parameters — it belongs to another model or adapter.`,
    );
  }
  own.forEach((tensor, i) => {
    const shapes = [tensor.shape, (list[i] as Tensor).shape].map((shape) => `[${shape.join(', ')}]`);
    if (shapes[0] !== shapes[1]) {
      throw new UserError(
        `${where}: saved tensor ${i} has shape ${shapes[1]}, the parameter ${shapes[0]} — it belongs to another model or adapter.`,
      );
    }
  });
  own.forEach((tensor, i) => {
    tensor.copy_(list[i] as Tensor);
  });
}
