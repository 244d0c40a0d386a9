import { latentShape, type MicroConditioning, type PictureSize, type Pipeline } from '@rldf/models';
import type { Parameters } from '@rldf/torch';
import { UserError } from '@rldf/torch/errors';
import { computeTypeOf, offloadedParts, type PrecisionField } from '../config/precision.js';

/** What a recipe says of its model and of the pictures that it draws. */
export interface ModelSettings {
  device: string;
  precision?: PrecisionField | undefined;
  offload?: boolean | undefined;
  train: {
    unet: string;
    textEncoder: string;
    textEncoder2?: string | undefined;
    checkpointing?: boolean | undefined;
  };
  size?: PictureSize | undefined;
  microConditioning?: MicroConditioning | undefined;
  /** Of IP-RLDF. */
  grounding?: { beta: number } | null | undefined;
}

/** @throws UserError when the model is told no sizes */
export function tellSizes(pipeline: Pipeline, sizes: MicroConditioning, where: string): void {
  if (pipeline.textEncoder2 === undefined) {
    throw new UserError(
      `${where}: this model is told no sizes — only those of Stable Diffusion XL’s kind are. Leave it out`,
    );
  }
  pipeline.microConditioning = sizes;
}

/**
 * Has the model draw and learn as a recipe says.
 * @param judges weights of the networks of its reward
 * @throws UserError when the model cannot
 */
export function settle(
  pipeline: Pipeline,
  settings: ModelSettings,
  judges: readonly Parameters[] = [],
): void {
  const { train, size, microConditioning, grounding } = settings;
  if (pipeline.textEncoder2 === undefined && (train.textEncoder2 ?? 'none') !== 'none') {
    throw new UserError(
      `train.textEncoder2: ${train.textEncoder2} — this model has one text encoder. Leave it out, or use a model of Stable Diffusion XL’s kind`,
    );
  }
  if (microConditioning !== undefined) tellSizes(pipeline, microConditioning, 'microConditioning');
  if (!pipeline.unet.grounded && (train.unet === 'gated' || grounding)) {
    throw new UserError(
      `${grounding ? 'grounding' : 'train.unet: gated'}: this model has no gated layers — only those of GLIGEN’s kind have. ${grounding ? 'Leave it out' : 'Set train.unet: lora'}, or use a model of that kind (docs/models.md)`,
    );
  }
  if (grounding) pipeline.groundingBeta = grounding.beta;
  const computeType = computeTypeOf(settings);
  if (computeType !== undefined) pipeline.unet.computeType = computeType;
  if (train.checkpointing === true) pipeline.checkpointing = true;
  const away = offloadedParts(settings);
  if (away.size > 0) {
    const parts = [...away].flatMap((part) => pipeline.parameters[part] ?? []);
    pipeline.judges = judges;
    pipeline.offloaded = new Set([...parts, ...judges]);
    for (const parameters of pipeline.offloaded) parameters.moveTo('cpu');
  }
  if (size !== undefined) pipeline.size = size;
  latentShape(pipeline); // refuses now what drawing would refuse later
}
