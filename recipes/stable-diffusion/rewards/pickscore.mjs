// PickScore (Kirstain et al. 2023, arXiv 2305.01569): exp(logit_scale) x cosine, about 20 on photographs.
import { clipModelReward } from 'rldf';

export const { reward, differentiable } = clipModelReward(
  process.env.PICKSCORE ?? 'yuvalkirstain/PickScore_v1',
);
