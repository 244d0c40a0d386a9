import { noGrad } from './autograd.js';
import { dtypeNumber, isFloating } from './dtype.js';
import { UserError } from './errors.js';
import { stack } from './factories.js';
import { native } from './native.js';
import { scope } from './scope.js';
import { type Tensor, wrap } from './tensor.js';

const sum = native.resolve('sum', '');

/**
 * Name of the first tensor that holds NaN or infinity; nothing where all are finite, which costs one pass over the numbers
 * and one number read back.
 */
export function firstNonFinite(
  tensors: Iterable<readonly [name: string, tensor: Tensor]>,
): string | undefined {
  const floating = [...tensors].filter(([, tensor]) => isFloating(tensor.dtype) && tensor.numel > 0);
  if (floating.length === 0) return undefined;
  return noGrad(() =>
    scope(() => {
      // in float64, where finite numbers of the narrower types never sum up to infinity
      const sums = floating.map(([, { handle }]) => wrap(native.call(sum, handle, dtypeNumber('float64'))));
      if (Number.isFinite(stack(sums).sum().item())) return undefined;
      return floating.find(([, tensor]) => tensor.isfinite().sum().item() < tensor.numel)?.[0];
    }),
  );
}

/** What NaN in a file mostly means, and what to do. */
const diverged =
  'the training that wrote it had diverged, or the file is damaged. Use an earlier checkpoint.';

/**
 * @param where names the file in the message
 * @param why ends the message
 * @throws UserError naming the first tensor that holds NaN or infinity
 */
export function refuseNonFinite(where: string, tensors: ReadonlyMap<string, Tensor>, why = diverged): void {
  const broken = firstNonFinite(tensors);
  if (broken === undefined) return;
  const shape = tensors.get(broken)?.shape.join(', ');
  throw new UserError(`${where}: tensor "${broken}" [${shape}] holds NaN or infinity — ${why}`);
}
