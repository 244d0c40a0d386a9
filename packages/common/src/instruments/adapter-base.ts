/** Which base model an adapter file was made on: a fingerprint in its metadata. */

import { createHash } from 'node:crypto';
import { adapterFile, type Pipeline, storedWeights } from '@rldf/models';
import { noGrad, readHeader, scope } from '@rldf/torch';
import { UserError } from '@rldf/torch/errors';
import { joinLicences, licenceMetadata, licencesIn } from '../base/licences.js';

/** Entry of a safetensors file's metadata. */
export const baseKey = 'rldf_base';

/** Of each weight, what goes into the fingerprint. */
const elements = 64;

/**
 * Tells base models apart by name, shape and first elements of every weight of U-Net and text encoders, in half precision, so
 * that the same weights in another precision agree. Adapters must not be merged.
 */
export function baseFingerprint({
  parameters: { unet, textEncoder, textEncoder2 },
  location,
}: Pipeline): string {
  const coarse = [unet, textEncoder, textEncoder2].some((one) => one?.dtype === 'bfloat16');
  if (coarse && location !== undefined) return storedFingerprint(location); // bfloat16 has fewer digits than are compared
  const first = { unet: unet.entries, textEncoder: textEncoder.entries };
  return fingerprintOf(textEncoder2 ? { ...first, textEncoder2: textEncoder2.entries } : first);
}

/** Of a model folder, of which little more than the fingerprint is made of is read. */
export function storedFingerprint(folder: string): string {
  return scope(() => fingerprintOf(storedWeights(folder)));
}

function fingerprintOf(weights: ReturnType<typeof storedWeights>): string {
  const hash = createHash('sha256');
  for (const network of ['unet', 'textEncoder', 'textEncoder2'] as const) {
    for (const [name, tensor] of [...(weights[network] ?? [])].sort(([a], [b]) => (a < b ? -1 : 1))) {
      hash.update(`${network}.${name} ${tensor.shape}\n`);
      const head = noGrad(() =>
        scope(() => {
          const flat = tensor.flatten(0);
          const first = flat.narrow(0, 0, Math.min(elements, tensor.numel));
          return first.to({ dtype: 'float16', device: 'cpu' }).contiguous().bytes();
        }),
      );
      hash.update(head);
    }
  }
  return hash.digest('hex').slice(0, 16);
}

/** Licences of what adapters were made from, as metadata of a file that is made of them; nothing if none says. */
export function licencesOfFiles(paths: readonly string[]): Record<string, string> {
  const joined = joinLicences(paths.map((path) => licencesIn(readHeader(adapterFile(path)).metadata)));
  return joined.length === 0 ? {} : licenceMetadata(joined);
}

/** The fingerprint in an adapter's file; nothing in files of other tools. */
export function baseOf(path: string): string | undefined {
  const { metadata, entries } = readHeader(adapterFile(path));
  if (entries.some(({ name }) => name.startsWith('training/')))
    throw new UserError(
      `${path}: is the state of a checkpoint, which only \`rldf resume\` reads — an adapter is what a run exports at its end. Use the file in the run's folder adapters`,
    );
  return metadata[baseKey];
}

/**
 * The fingerprint that files agree on; nothing if all are of other tools.
 * @param doing named in the message
 * @throws UserError when they name different base models
 */
export function commonBase(paths: readonly string[], doing: string): string | undefined {
  const known = paths.map((path) => ({ path, base: baseOf(path) })).filter(({ base }) => base !== undefined);
  const [first] = known;
  const other = known.find(({ base }) => base !== first?.base);
  if (first === undefined || other === undefined) return first?.base;
  throw new UserError(
    `${doing}: ${first.path} was made on the base model ${first.base}, ${other.path} on ${other.base} — adapters of different models do not add up. Train both on one model`,
  );
}

/**
 * @param base the model, or its folder before anything of it is loaded
 * @throws UserError when an adapter says that it was made on another base model
 */
export function checkBase(path: string, base: Pipeline | string, model: string): void {
  const own = baseOf(path);
  if (own === undefined) return;
  const found = typeof base === 'string' ? storedFingerprint(base) : baseFingerprint(base);
  if (own === found) return;
  throw new UserError(
    `${path}: made on another base model (${own}) than ${model} (${found}) — what it adds belongs to that one’s weights. Give the model it was trained on as --model; the run’s recipe.yaml names it`,
  );
}
