import { type ParameterPath, type StateDict, scope, type Tensor, UserError } from '@rldf/torch';
import { AestheticPredictor, widthsOf } from './aesthetic.js';
import { type BertConfig, BlipTextEncoder } from './bert.js';
import { type BlipVisionConfig, BlipVisionTransformer } from './blip-vision.js';

export interface BlipImageRewardConfig {
  vision_config: BlipVisionConfig;
  text_config: BertConfig & { vocab_size: number; max_position_embeddings: number };
  /** Outputs of the head's layers but the last. */
  widths: readonly number[];
}

/** Of the raw scores on ImageReward's training pictures, as its code has them. */
const MEAN = 0.16717362830052426;
const DEVIATION = 1.0333394966054072;

/**
 * ImageReward (Xu et al. 2023, arXiv 2304.05977) as published: BLIP's vision transformer, its text encoder with
 * cross-attention, and an MLP without activations on the state of the first token. Names are those of its own weights.
 */
export class BlipImageReward {
  readonly vision: BlipVisionTransformer;
  readonly text: BlipTextEncoder;
  readonly #head: AestheticPredictor;

  constructor(config: BlipImageRewardConfig, path: ParameterPath) {
    const blip = path.at('blip');
    const { vision_config: vision, text_config: text, widths } = config;
    this.vision = new BlipVisionTransformer(vision, blip.at('visual_encoder'));
    this.text = new BlipTextEncoder(blip.at('text_encoder'), text, vision.hidden_size);
    this.#head = new AestheticPredictor(path.at('mlp'), text.hidden_size, { widths, relu: false });
  }

  /**
   * @param ids [B, L]
   * @param mask bool [B, L]: which of them are no padding
   * @param pixels [B, 3, S, S], normalised as CLIP's; differentiable
   * @returns [B]
   */
  forward(ids: Tensor, mask: Tensor, pixels: Tensor): Tensor {
    return scope(() => {
      const states = this.text.forward(ids, mask, this.vision.forward(pixels)); // [B, L, width]
      return this.#head.forward(states.select(1, 0)).sub(MEAN).div(DEVIATION); // [B]
    });
  }
}

/** Width of an attention head of BERT and of BLIP's vision transformers. */
const HEAD = 64;

/**
 * The sizes of published weights, by the shapes of their tensors.
 * @param heads numbers of heads, where they are not one for 64 numbers of width
 * @throws UserError when the weights are no ImageReward's
 */
export function imageRewardConfigOf(
  state: StateDict,
  where: string,
  heads: { vision?: number; text?: number } = {},
): BlipImageRewardConfig {
  const shapeOf = (name: string): number[] => {
    const found = state.get(name);
    if (found !== undefined) return found.shape;
    throw new UserError(
      `${where}: tensor "${name}" is missing — these are not the weights of ImageReward. Give its ImageReward.pt, or the same as safetensors.`,
    );
  };
  const layers = (prefix: string, suffix: string) => {
    let count = 0;
    while (state.has(`${prefix}${count}${suffix}`)) count++;
    return count;
  };
  const vision = 'blip.visual_encoder.';
  const text = 'blip.text_encoder.';
  const [width = 0, , patch = 0] = shapeOf(`${vision}patch_embed.proj.weight`);
  const [, positions = 0] = shapeOf(`${vision}pos_embed`);
  const [vocabulary = 0, textWidth = 0] = shapeOf(`${text}embeddings.word_embeddings.weight`);
  return {
    vision_config: {
      hidden_size: width,
      num_hidden_layers: layers(`${vision}blocks.`, '.norm1.weight'),
      num_attention_heads: heads.vision ?? Math.max(1, Math.round(width / HEAD)),
      intermediate_size: shapeOf(`${vision}blocks.0.mlp.fc1.weight`)[0] ?? 0,
      image_size: Math.round(Math.sqrt(positions - 1)) * patch,
      patch_size: patch,
    },
    text_config: {
      hidden_size: textWidth,
      num_hidden_layers: layers(`${text}encoder.layer.`, '.attention.self.query.weight'),
      num_attention_heads: heads.text ?? Math.max(1, Math.round(textWidth / HEAD)),
      intermediate_size: shapeOf(`${text}encoder.layer.0.intermediate.dense.weight`)[0] ?? 0,
      vocab_size: vocabulary,
      max_position_embeddings: shapeOf(`${text}embeddings.position_embeddings.weight`)[0] ?? 0,
    },
    widths: widthsOf(state, 'mlp.layers.', where),
  };
}

/** What the published file holds beside what scores: BLIP's contrastive projections, and a constant. */
export function withoutUnusedOfImageReward(state: StateDict): StateDict {
  return new Map(
    [...state].filter(
      ([name]) => !/^blip\.((vision|text)_proj\.|text_encoder\.embeddings\.position_ids$)/.test(name),
    ),
  );
}
