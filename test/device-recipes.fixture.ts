import type { Recipe } from 'rldf';
import { minimalRecipe } from 'rldf/testing';

// A short run of each method that uses all that lies on a device: trained networks, detector, judge, both adapters.

const own: Record<string, object> = {
  'ip-rldf': {
    prompts: ['a cat to the left of a dog', 'a dog above a cat', 'a cat below a dog'],
    ...{ reward: 'spatial', detector: 'detector', relabel: true, rescale: 0.5 },
  },
  ddpo: { reward: 'image-reward' },
  dpok: { reward: 'preference', train: { textEncoder: 'lora', clipNats: 5 } },
  alignprop: { reward: [{ reward: 'aesthetic' }, { reward: 'clip-score', floor: 'base' }] },
};

/** One epoch, watched for hacking. @param model folder */
export function deviceRecipe(method: string, model: string, device: string): Recipe {
  const one = { maxPrompts: 1 };
  const more = { model, epochs: 1, watch: { judge: 'clip-score' }, evaluate: one, report: one };
  return minimalRecipe(method, { ...more, ...own[method], device });
}
