export * from './autograd.js';
export * from './device.js';
export * from './distributed.js';
export { type DType, isFloating, isHalf, itemSize } from './dtype.js';
export * from './errors.js';
export * from './factories.js';
export * from './finite.js';
export * as F from './functional.js';
export * from './nn/layers.js';
export * from './nn/parameters.js';
export * as ops from './ops.js';
export * from './optim/adamw.js';
export * from './optim/exponential-moving-average.js';
export * from './optim/gradients.js';
export * from './optim/schedules.js';
export * from './random.js';
export * from './safetensors.js';
export {
  allocatedBytes,
  forEachTensor,
  free,
  keep,
  liveBytes,
  liveTensors,
  peakBytes,
  resetPeakBytes,
  scope,
} from './scope.js';
export * from './seeds.js';
export * as shapes from './shapes/index.js';
export * from './signals.js';
export type { StateTree } from './state-tree.js';
export { Tensor } from './tensor.js';
export { readTorchFile } from './torch-file.js';
