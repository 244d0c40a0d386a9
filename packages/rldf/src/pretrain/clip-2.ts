// A second CLIP, smaller and from nothing: own seed, own scenes, own mix of them. The unseen judge of preference starts from it, nothing else may.

import { secondClipConfig } from '@rldf/common/instruments/configs';
import { tokenizerFolder } from '@rldf/common/instruments/models';
import type { SampleOptions } from '@rldf/emoji-world';
import { CLIPModel, CLIPTokenizer } from '@rldf/models';
import { Parameters } from '@rldf/torch';
import { measureClip, measureSiblings, pretrainClip } from './clip.js';
import { type Stage, writeWithCard } from './stage.js';

/** Fewer plain pictures of one noun, more of everything that a judge has to tell apart, and placed more freely. */
export const secondClipWorld: SampleOptions = {
  kinds: {
    single: 0.34,
    colour: 0.12,
    background: 0.08,
    count: 0.12,
    relation: 0.12,
    and: 0.08,
    activity: 0.06,
    people: 0.02,
    style: 0.04,
    long: 0.02,
  },
  places: { centre: 0.5, grid: 0.5 },
};

export const secondClipStage: Stage = {
  defaults: { steps: 3000, batchSize: 128, learningRate: 2e-3, seed: 105 },
  async *run(context) {
    const { seed, sceneSeed, training } = context;
    const tokenizer = CLIPTokenizer.load(tokenizerFolder);
    const parameters = Parameters.random(seed);
    const clip = new CLIPModel(secondClipConfig(tokenizer), parameters.at());
    yield* pretrainClip(clip, parameters, tokenizer, { warmup: 100, ...training, world: secondClipWorld });
    if (training.signal?.aborted) return;
    const metrics = {
      ownCaptionOf128: await measureClip(clip, tokenizer, sceneSeed),
      siblings: await measureSiblings(clip, tokenizer, sceneSeed),
    };
    const card = {
      name: 'clip-2',
      class: 'CLIPModel',
      role: 'judge',
      startedFrom: null,
      metrics,
      description:
        'A second CLIP with its own seed, scenes and sizes. The unseen judge of preference starts from it; nothing that trains or conditions may.',
    } as const;
    writeWithCard(context, card, parameters.state());
  },
};
