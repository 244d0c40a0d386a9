/** CLIP score: 100 x the cosine between picture and prompt (Hessel et al. 2021, arXiv 2104.08718, without its rescaling). */

import { type Device, noGrad, type Tensor } from '@rldf/torch';
import { UserError } from '../base/errors.js';
import { listModels } from '../instruments/models.js';
import { type FrozenClip, idsOf, loadClipFolder, pixelsOf, rewardFromScores } from './frozen-clip.js';
import type { Reward } from './reward.js';

export function clipScore(frozen: FrozenClip): Reward {
  const { clip } = frozen;
  const scores = (images01: Tensor, prompts: readonly string[]) => {
    const texts = noGrad(() => clip.encodeText(idsOf(frozen, prompts).to(images01.device))); // [B, D]
    return clip.encodeImage(pixelsOf(frozen, images01)).mul(texts).sum(1).mul(100); // [B]
  };
  return rewardFromScores('clip-score', '', scores, clip.logitScale.device);
}

/**
 * A CLIP folder, by default that of the built-in world, loaded again for this reward alone.
 * @throws UserError when it is not there
 */
export function loadClipScore(folder: string = worldClip(), device: Device = 'cpu'): Reward {
  return clipScore(loadClipFolder(folder, device));
}

/** The folder of the built-in world's CLIP. @throws UserError when this copy of rldf has none */
export function worldClip(): string {
  const path = listModels().find(({ kind }) => kind === 'clip')?.path;
  if (path === undefined) {
    throw new UserError(
      'reward clip-score: no CLIP model ships with this copy of rldf — choose another reward, or pre-train one with `rldf pretrain clip`',
    );
  }
  return path;
}
