// A GPU that is not there, in place of the addon (RLDF_TORCH_ADDON): tensors that are said to lie on cuda:0 are computed on the
// CPU, but as on a GPU no operator takes tensors of two devices. So a machine without a GPU finds what lies in the wrong place.
const addon = require('../packages/torch/build/torch.node');

const gpu = 'cuda:0';
const there = new Set();
const copyInto = new Set([addon.resolve('copy_', '')]);
const schemas = new Map();

function kindsOf(operator) {
  const kinds = schemas.get(operator) ?? {
    arguments: addon.schema(operator).map((argument) => argument.split(/[? ]/)[0]),
    results: addon.results(operator),
  };
  schemas.set(operator, kinds);
  return kinds;
}

/** What the tests look at. */
const seen = {
  /** Shapes of the tensors that an operator moved from the GPU to the CPU. */
  fetched: [],
  /** Tensors that were made on the GPU. */
  made: 0,
};

function mark(result) {
  for (const handle of [result].flat(2)) {
    if (typeof handle !== 'number') continue;
    there.add(handle);
    seen.made++;
  }
}

module.exports = {
  ...addon,
  seen,
  cudaDevices: () => 1,
  device: (handle) => (there.has(handle) ? gpu : 'cpu'),
  resolve(name, overload) {
    const operator = addon.resolve(name, overload);
    if (name === 'copy_') copyInto.add(operator);
    return operator;
  },
  call(operator, ...args) {
    const kinds = kindsOf(operator);
    const tensors = args
      .flatMap((arg, i) => (kinds.arguments[i]?.startsWith('Tensor') ? [arg].flat() : []))
      .filter((arg) => typeof arg === 'number');
    const onGpu = tensors.filter((handle) => there.has(handle));
    const onCpu = tensors.filter((handle) => !there.has(handle) && addon.shape(handle).length > 0); // numbers go with all
    if (onGpu.length > 0 && onCpu.length > 0 && !copyInto.has(operator)) {
      const devices = tensors.map((handle) => `${module.exports.device(handle)} [${addon.shape(handle)}]`);
      throw new Error(`Expected all tensors to be on the same device, but found ${devices.join(', ')}`);
    }
    const place = kinds.arguments.indexOf('Device');
    const asked = place === -1 ? undefined : args[place];
    if (asked === 'cpu' && onGpu.length > 0) seen.fetched.push(addon.shape(onGpu[0]));
    const result = addon.call(operator, ...args.map((arg, i) => (i === place && arg === gpu ? 'cpu' : arg)));
    const isThere = asked === gpu || (asked !== 'cpu' && !copyInto.has(operator) && onGpu.length > 0);
    if (isThere && kinds.results.some((kind) => kind.startsWith('Tensor'))) mark(result);
    return result;
  },
  grad(outputs, inputs, ...rest) {
    const gradients = addon.grad(outputs, inputs, ...rest);
    for (const [i, handle] of inputs.entries()) if (there.has(handle)) mark(gradients[i]);
    return gradients;
  },
};
