import {
  F,
  type Parameters,
  type StateDict,
  scope,
  stack,
  type Tensor,
  tensor,
  UserError,
} from '@rldf/torch';
import type { CLIPModel } from './clip.js';
import { LoraAdapter, TEXT_ATTENTION } from './lora.js';

/**
 * A preference model in PickScore's form (Kirstain et al. 2023, arXiv 2305.01569): a CLIP, fine-tuned on choices between
 * pictures. PickScore itself is a plain CLIP folder and can be read as one.
 */
export class PreferenceModel {
  constructor(readonly clip: CLIPModel) {}

  /**
   * exp(logit_scale) x cosine of picture and prompt; differentiable in both.
   * @param ids [B, L]
   * @param pixels [B, 3, S, S], normalised as CLIP's preprocessor does
   * @returns [B]
   */
  forward(ids: Tensor, pixels: Tensor): Tensor {
    return this.score(this.clip.encodeText(ids), pixels);
  }

  /** The same for prompts encoded before: texts [B, D], unit vectors. */
  score(texts: Tensor, pixels: Tensor): Tensor {
    return scope(() => this.clip.encodeImage(pixels).mul(texts).sum(1).mul(this.clip.logitScale.exp())); // [B]
  }
}

/**
 * Cross-entropy of each pair's softmax (PickScore, section 3.2), which is also ImageReward's pairwise logistic loss
 * (Xu et al. 2023, arXiv 2304.05977, equation 1): the mean of -log softmax(preferred, other)[preferred].
 *
 * @param preferred scores of the pictures that were preferred, [N]
 * @param other scores of those they were preferred to, [N]
 * @returns scalar
 */
export function pairLoss(preferred: Tensor, other: Tensor): Tensor {
  return scope(() => {
    const logits = stack([preferred, other], 1); // [N, 2]
    const first = tensor(new BigInt64Array(preferred.numel), { device: logits.device }); // zeros [N]
    return F.crossEntropy(logits, first);
  });
}

/** The layers of both towers that a low-rank fine-tuning changes. */
const TUNED = [...TEXT_ATTENTION, 'fc1', 'fc2', 'visual_projection', 'text_projection'];

/** A preference model that is a CLIP and low-rank updates of it: the updates and the temperature are its whole state. */
export class TunedPreferenceModel extends PreferenceModel {
  private constructor(
    clip: CLIPModel,
    readonly adapter: LoraAdapter,
  ) {
    super(clip);
  }

  /** Updates of a rank, at first without effect. `parameters` are those that the CLIP was built on. */
  static attach(clip: CLIPModel, parameters: Parameters, options: { rank: number; seed: number }) {
    return new TunedPreferenceModel(clip, LoraAdapter.attach(parameters, { ...options, targets: TUNED }));
  }

  /** @throws UserError when the state is of another CLIP */
  static load(
    clip: CLIPModel,
    parameters: Parameters,
    state: StateDict,
    where: string,
  ): TunedPreferenceModel {
    const [, down] = [...state].find(([name]) => name.endsWith('lora_A.weight')) ?? [];
    const scale = state.get('logit_scale');
    if (down === undefined || scale === undefined) {
      throw new UserError(
        `${where}: no low-rank updates or no logit_scale — a tuned preference model has both.`,
      );
    }
    const model = TunedPreferenceModel.attach(clip, parameters, { rank: down.shape[0] as number, seed: 0 });
    model.adapter.load(state, where);
    clip.logitScale.detach().copy_(scale);
    return model;
  }

  /** The living tensors: the updates under PEFT's names, and `logit_scale`. */
  state(): StateDict {
    return new Map([...this.adapter.state(), ['logit_scale', this.clip.logitScale]]);
  }
}
