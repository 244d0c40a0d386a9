import { latentShape, type MicroConditioning, type PictureSize, type Pipeline } from '@rldf/models';
import { UserError } from '@rldf/torch/errors';

/** What a recipe says of its model and of the pictures that it draws. */
export interface ModelSettings {
  train: { textEncoder2?: string | undefined };
  size?: PictureSize | undefined;
  microConditioning?: MicroConditioning | undefined;
}

/**
 * Has the model draw as a recipe says.
 * @throws UserError when the model cannot
 */
export function settle(pipeline: Pipeline, { train, size, microConditioning }: ModelSettings): void {
  if (pipeline.textEncoder2 === undefined && (train.textEncoder2 ?? 'none') !== 'none') {
    throw new UserError(
      `train.textEncoder2: ${train.textEncoder2} — this model has one text encoder. Leave it out, or use a model of Stable Diffusion XL’s kind`,
    );
  }
  if (microConditioning !== undefined) {
    if (pipeline.textEncoder2 === undefined) {
      throw new UserError(
        'microConditioning: this model is told no sizes — only those of Stable Diffusion XL’s kind are. Leave it out',
      );
    }
    pipeline.microConditioning = microConditioning;
  }
  if (size !== undefined) pipeline.size = size;
  latentShape(pipeline); // refuses now what drawing would refuse later
}
