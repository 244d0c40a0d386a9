// A GPU that is not there, in place of the addon (RLDF_TORCH_ADDON): tensors that are said to lie on cuda:0 are computed on the
// CPU, but as on a GPU no operator takes tensors of two devices. So a machine without a GPU finds what lies in the wrong place.
const addon = require('../packages/torch/build/torch.node');

const gpu = 'cuda:0';
const there = new Set();
const copyInto = new Set([addon.resolve('copy_', '')]);
const contiguous = addon.resolve('contiguous', '');
const schemas = new Map();
/** Shapes by the handle on the CPU. */
const fetched = new Map();

/** At the commas outside of brackets and quotes. */
const split = (list) =>
  (list.match(/(?:[^,(["]|\([^)]*\)|\[[^\]]*\]|"[^"]*")+/g) ?? [])
    .map((text) => text.trim())
    .filter((text) => text !== '*');

/** Such as `Tensor(a!)[] self`, `int[2] stride=1`: what stands before its name, without `(a!)`. */
const kindOf = (text) => text.replace(/\([^)]*\)/, '').split(/[? =]/)[0];

function kindsOf(operator) {
  if (!schemas.has(operator)) {
    const [, given, made] = /^[^(]*\((.*)\) -> (.*)$/.exec(addon.schema(operator));
    const results = split(made.replace(/^\((.*)\)$/, '$1')).map(kindOf);
    schemas.set(operator, { arguments: split(given).map(kindOf), results });
  }
  return schemas.get(operator);
}

/** Operators that are not computed like all others. */
const special = { 'rldf::cuda_devices': new Set(), 'rldf::grad': new Set() };

/** Gradients lie where the inputs do. */
function gradients(operator, args) {
  const found = addon.call(operator, ...args);
  for (const [i, handle] of args[1].entries()) if (there.has(handle)) mark(found[i]);
  return found;
}

/** What the tests look at. */
const seen = {
  /** Shapes of the tensors that an operator moved from the GPU to the CPU, but for those whose bytes were read there. */
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
  device: (handle) => (there.has(handle) ? gpu : 'cpu'),
  resolve(name, overload) {
    const operator = addon.resolve(name, overload);
    if (name === 'copy_') copyInto.add(operator);
    special[name]?.add(operator);
    return operator;
  },
  call(operator, ...args) {
    if (special['rldf::cuda_devices'].has(operator)) return 1;
    if (special['rldf::grad'].has(operator)) return gradients(operator, args);
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
    const result = addon.call(operator, ...args.map((arg, i) => (i === place && arg === gpu ? 'cpu' : arg)));
    if (operator === contiguous && fetched.has(args[0])) fetched.set(result, fetched.get(args[0]));
    if (asked === 'cpu' && onGpu.length > 0) {
      fetched.set(result, addon.shape(result));
      seen.fetched.push(fetched.get(result));
    }
    const isThere = asked === gpu || (asked !== 'cpu' && !copyInto.has(operator) && onGpu.length > 0);
    if (isThere && kinds.results.some((kind) => kind.startsWith('Tensor'))) mark(result);
    return result;
  },
  copyBytes(handle, bytes, into) {
    if (!into && fetched.has(handle)) seen.fetched.splice(seen.fetched.indexOf(fetched.get(handle)) >>> 0, 1);
    return addon.copyBytes(handle, bytes, into);
  },
};
