/** In what each part of the model computes. */

import type { LoadOptions } from '@rldf/models';
import type { Device, DType } from '@rldf/torch';

export const precisions = ['float32', 'bfloat16', 'float16'] as const;
export type Precision = (typeof precisions)[number];

/** A recipe's field: one for all parts, or one each. */
export type PrecisionField = Precision | { [part in Part]?: Precision | undefined };

interface Placed {
  device: string;
  precision?: PrecisionField | undefined;
  offload?: boolean | undefined;
  train: { unet: string; textEncoder: string; textEncoder2?: string | undefined };
}

export type Part = 'unet' | 'vae' | 'textEncoder' | 'textEncoder2';

const precisionOf = (field: PrecisionField | undefined, part: Part): Precision =>
  typeof field === 'string' ? field : (field?.[part] ?? 'float32');

/** Narrower than the weights, where all of the U-Net learns: its weights stay float32 then, so that small steps are not lost. */
export function computeTypeOf({ precision, train }: Placed): 'bfloat16' | 'float16' | undefined {
  const wanted = precisionOf(precision, 'unet');
  return train.unet === 'full' && wanted !== 'float32' ? wanted : undefined;
}

/** Parts that are off the device while nothing is computed with them: all that are not in every step, and do not learn. */
export function offloadedParts({ device, offload, train }: Placed): ReadonlySet<Part> {
  if (offload !== true || device === 'cpu') return new Set();
  const encoders = (['textEncoder', 'textEncoder2'] as const).filter(
    (part) => (train[part] ?? 'none') === 'none',
  );
  return new Set(['vae', ...encoders]);
}

/** How the model of a recipe is loaded. What learns in full is float32, and so are text encoders that learn. */
export function loadOptionsOf(recipe: Placed): LoadOptions {
  const { precision, train } = recipe;
  const away = offloadedParts(recipe);
  const device = (part: Part) => (away.has(part) ? 'cpu' : recipe.device) as Device;
  const type = (part: Part): DType => precisionOf(precision, part);
  const ofEncoder = (part: 'textEncoder' | 'textEncoder2') =>
    (train[part] ?? 'none') === 'none' ? type(part) : 'float32';
  return {
    dtype: {
      unet: train.unet === 'full' ? 'float32' : type('unet'),
      vae: type('vae'),
      textEncoder: ofEncoder('textEncoder'),
      textEncoder2: ofEncoder('textEncoder2'),
    },
    device: {
      unet: device('unet'),
      vae: device('vae'),
      textEncoder: device('textEncoder'),
      textEncoder2: device('textEncoder2'),
    },
  };
}
