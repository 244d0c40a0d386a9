import { cat, Linear, type ParameterPath, scope, type Tensor } from '@rldf/torch';
import { AestheticPredictor } from './aesthetic.js';
import { type BertConfig, CrossAttentionLayer } from './bert.js';
import type { CLIPModel } from './clip.js';

export type ImageRewardConfig = BertConfig;

/**
 * A scorer in ImageReward's form (Xu et al. 2023, arXiv 2304.05977): text tokens attend to the picture's patches, the
 * first token's state goes through an MLP. ImageReward starts from BLIP; here a frozen CLIP supplies token states and
 * patches. Names below `text_encoder` and `mlp` are BLIP's and ImageReward's.
 */
export class ImageRewardModel {
  readonly #clip: CLIPModel;
  readonly #project: Linear;
  readonly #layers: CrossAttentionLayer[];
  readonly #head: AestheticPredictor;
  /** Of the raw scores on ordinary pictures, scalars: the reward is (raw - mean) / deviation. Not trained. */
  readonly mean: Tensor;
  readonly deviation: Tensor;

  /** @param clip frozen; not part of this model's state */
  constructor(config: ImageRewardConfig, clip: CLIPModel, path: ParameterPath) {
    const { hidden_size: width } = config;
    const text = path.at('text_encoder');
    this.#clip = clip;
    this.#project = new Linear(
      text.at('embeddings', 'projection'),
      clip.config.text_config.hidden_size ?? 512,
      width,
    );
    const visionWidth = 2 * (clip.config.vision_config.hidden_size ?? 768);
    this.#layers = Array.from(
      { length: config.num_hidden_layers },
      (_, layer) => new CrossAttentionLayer(text.at('encoder', 'layer', layer), config, visionWidth),
    );
    this.#head = new AestheticPredictor(path.at('mlp'), width);
    this.mean = path.tensor('mean', [], { constant: 0 });
    this.deviation = path.tensor('deviation', [], { constant: 1 });
  }

  /**
   * @param ids [B, L]
   * @param pixels [B, 3, S, S], normalised as CLIP's preprocessor does; differentiable
   * @returns [B]
   */
  forward(ids: Tensor, pixels: Tensor): Tensor {
    return scope(() => this.raw(ids, pixels).sub(this.mean).div(this.deviation));
  }

  /** Before standardisation: what the loss is taken of. */
  raw(ids: Tensor, pixels: Tensor): Tensor {
    return scope(() => {
      const { hiddenStates, lastHiddenState } = this.#clip.vision.forward(pixels, { hiddenStates: true });
      // what the first layer saw is added to what the last one made of it: sharpness is lost on the way
      const patches = cat([(hiddenStates as Tensor[])[1] as Tensor, lastHiddenState], -1); // [B, 1 + patches, 2 D]
      let states = this.#project.forward(this.#clip.text.forward(ids).lastHiddenState); // [B, L, width]
      for (const layer of this.#layers) states = layer.forward(states, patches);
      return this.#head.forward(states.select(1, 0)); // [B]
    });
  }
}
