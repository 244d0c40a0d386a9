import type { Tensor } from './tensor.js';

/** A method's whole state: tensors and JSON. Saving and resuming is one generic function over it. */
export type StateTree =
  | Tensor
  | number
  | string
  | boolean
  | null
  | StateTree[]
  | { [key: string]: StateTree };
