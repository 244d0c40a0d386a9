// LAION's aesthetic predictor (Schuhmann et al. 2022), about 1 to 10; the prompt is not looked at.
import { aestheticReward } from 'rldf';

export const { reward, differentiable } = aestheticReward(
  process.env.CLIP_VIT_L14 ?? 'openai/clip-vit-large-patch14',
  process.env.AESTHETIC_HEAD ?? 'sac+logos+ava1-l14-linearMSE.pth',
);
