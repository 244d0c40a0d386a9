// A reward as a function of latents: decoded without rounding, judged, and differentiated back to the latents.
import { decodeLatents, type Pipeline, refuseBlack } from '@rldf/models';
import { cat, enableGrad, gradOrUndefined, noGrad, scope, type Tensor } from '@rldf/torch';
import { UserError } from '../errors.js';
import { checkScores, type Reward } from '../rewards/reward.js';

// B pictures · C, h, w latent · H, W pixels

export interface Judging {
  pipeline: Pipeline;
  /** Pictures in [0, 1] and their prompts to rewards. */
  rewards: NonNullable<Reward['differentiable']>;
  /** What is minimised, of the rewards: [B] -> [B]. */
  loss(rewards: Tensor): Tensor;
  /** Named in errors. */
  method: string;
}

export interface Judged {
  /** Of the summed losses times the weight, with respect to the latents: [B, C, h, w]. */
  gradient: Tensor;
  /** uint8 [B, H, W, 3] */
  images: Tensor;
  rewards: number[];
  losses: number[];
}

/** Pixels that are decoded and judged with a graph at once. */
const mostPixels = 2 ** 20;

/**
 * @param latents x_0 [B, C, h, w]
 * @throws UserError when a reward is no finite number, or does not depend on the pictures
 */
export function judge(latents: Tensor, prompts: readonly string[], weight: number, judging: Judging): Judged {
  const [count, , height, width] = latents.shape as [number, number, number, number];
  const size = Math.max(1, Math.floor(mostPixels / (height * width * judging.pipeline.vae.downFactor ** 2)));
  return scope(() => {
    const chunks = Array.from({ length: Math.ceil(count / size) }, (_, i) => {
      const start = i * size;
      const some = latents.narrow(0, start, Math.min(size, count - start));
      return enableGrad(() => judgeChunk(some, prompts.slice(start, start + size), weight, judging));
    });
    return noGrad(() => ({
      gradient: cat(chunks.map(({ gradient }) => gradient)),
      images: cat(chunks.map(({ images }) => images)),
      rewards: chunks.flatMap(({ rewards }) => rewards),
      losses: chunks.flatMap(({ losses }) => losses),
    }));
  });
}

function judgeChunk(
  latents: Tensor,
  prompts: readonly string[],
  weight: number,
  { pipeline, rewards: rewardsOf, loss, method }: Judging,
): Judged {
  return scope(() => {
    const leaf = latents.detach().requiresGrad_();
    const decoded = decodeLatents(pipeline, leaf); // [B, 3, H, W]
    refuseBlack(decoded.detach());
    const images01 = decoded.div(2).add(0.5).clamp(0, 1); // [B, 3, H, W]
    const found = rewardsOf(images01, prompts); // [B]
    const rewards = checkScores('as a differentiable function', found.detach().flatten().toNumbers(), {
      prompts,
    });
    const losses = loss(found); // [B]
    const [gradient] = losses.requiresGrad ? gradOrUndefined(losses.sum().mul(weight), [leaf]) : [];
    if (gradient === undefined) {
      throw new UserError(
        `${method}: the reward does not depend on the pictures — there is no gradient to follow. Compute it from \`images01\` by tensor operations alone.`,
      );
    }
    const pixels = images01.detach().permute([0, 2, 3, 1]);
    const images = pixels.mul(255).round().to('uint8').contiguous(); // [B, H, W, 3]
    return { gradient, images, rewards, losses: losses.detach().toNumbers() };
  });
}
