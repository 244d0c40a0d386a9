// HPSv2 (Wu et al. 2023, arXiv 2306.09341): the cosine, 0.25 to 0.33 on photographs. Version 2.0 and 2.1 do not compare.
import { clipModelReward } from 'rldf';

export const { reward, differentiable } = clipModelReward(process.env.HPSV2 ?? 'xswu/HPSv2', {
  scaled: false,
});
