import { arange, F, type ParameterPath, scope, type Tensor } from '@rldf/torch';
import { CLIPTextModelWithProjection } from './clip-text.js';
import { CLIPVisionModelWithProjection } from './clip-vision.js';
import type { CLIPConfig } from './configs.js';

export interface CLIPOutput {
  /** Unit vectors, [texts, projection_dim] and [pictures, projection_dim]. */
  textEmbeds: Tensor;
  imageEmbeds: Tensor;
  /** Cosine times the learnt scale, [pictures, texts]. */
  logitsPerImage: Tensor;
}

/** Both CLIP towers and the temperature (Radford et al. 2021; transformers' class of this name). */
export class CLIPModel {
  readonly config: CLIPConfig;
  readonly text: CLIPTextModelWithProjection;
  readonly vision: CLIPVisionModelWithProjection;
  /** Natural logarithm of the scale, a scalar. */
  readonly logitScale: Tensor;

  /** @throws UserError when the config asks for something that is not built, or contradicts itself */
  constructor(config: CLIPConfig, path: ParameterPath, where = 'CLIPModel config') {
    const projection = config.projection_dim ?? 512;
    this.config = config;
    this.text = new CLIPTextModelWithProjection(
      { ...config.text_config, projection_dim: projection },
      path,
      `${where} text_config`,
    );
    this.vision = new CLIPVisionModelWithProjection(
      { ...config.vision_config, projection_dim: projection },
      path,
      `${where} vision_config`,
    );
    this.logitScale = path.tensor('logit_scale', [], { constant: config.logit_scale_init_value ?? 2.6592 });
  }

  /** Unit vectors of prompts: ids [B, L] -> [B, projection_dim]. */
  encodeText(ids: Tensor): Tensor {
    return scope(() => normalise(this.text.forward(ids).textEmbeds));
  }

  /** Unit vectors of pictures: pixels [B, 3, S, S] -> [B, projection_dim]. */
  encodeImage(pixels: Tensor): Tensor {
    return scope(() => normalise(this.vision.forward(pixels).imageEmbeds));
  }

  forward(ids: Tensor, pixels: Tensor): CLIPOutput {
    return scope(() => {
      const textEmbeds = this.encodeText(ids);
      const imageEmbeds = this.encodeImage(pixels);
      const logitsPerImage = imageEmbeds.matmul(textEmbeds.transpose(0, 1)).mul(this.logitScale.exp());
      return { textEmbeds, imageEmbeds, logitsPerImage };
    });
  }
}

/**
 * Contrastive loss (Radford et al. 2021, figure 3): picture i belongs to text i, in both directions.
 *
 * @param logitsPerImage [B, B]
 * @returns scalar
 */
export function contrastiveLoss(logitsPerImage: Tensor): Tensor {
  return scope(() => {
    const target = arange(0, logitsPerImage.shape[0]!, 1, { dtype: 'int64', device: logitsPerImage.device }); // [B]
    const perImage = F.crossEntropy(logitsPerImage, target);
    return perImage.add(F.crossEntropy(logitsPerImage.transpose(0, 1), target)).div(2);
  });
}

/** [B, D] -> unit vectors [B, D] */
function normalise(vectors: Tensor): Tensor {
  return vectors.div(vectors.square().sum(-1, true).sqrt());
}
