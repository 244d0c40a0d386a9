/** Where published rewards come from. */

import type { PublishedReward } from '../config/fields.js';

export type PublishedName = PublishedReward['name'];

/** Where each is downloaded from, if a recipe does not say where it lies. */
export const publishedWeights: { readonly [name in PublishedName]: string } = {
  imagereward: 'THUDM/ImageReward',
  'hpsv2.1': 'xswu/HPSv2',
  hpsv2: 'xswu/HPSv2',
  pickscore: 'yuvalkirstain/PickScore_v1',
  'clip-score': 'openai/clip-vit-large-patch14',
  'laion-aesthetic': 'sac+logos+ava1-l14-linearMSE.pth',
};

/** What to download, where that is no repository of the hub. */
export const publishedFiles: { readonly [name in PublishedName]?: string } = {
  'laion-aesthetic':
    'sac+logos+ava1-l14-linearMSE.pth from github.com/christophschuhmann/improved-aesthetic-predictor',
};
