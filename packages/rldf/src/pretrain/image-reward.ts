// A cross-attention scorer in ImageReward's form on ranked pictures (Xu et al. 2023, arXiv 2304.05977).

import { mean, standardDeviation } from '@rldf/common/base/stats';
import { loadWorldClip } from '@rldf/common/instruments/frozen-clip';
import { loadArt } from '@rldf/emoji-world';
import { ImageRewardModel } from '@rldf/models';
import { noGrad, Parameters, scope } from '@rldf/torch';
import { imageRewardConfig } from '../rewards/scorers.js';
import { tokenTensor } from './clip.js';
import { fitTrainee } from './fit.js';
import { measureRankings, rankingLoss, rankingOptions, repeatRows } from './preference.js';
import { GROUP, type RankingBatch, rankingBatch } from './rankings.js';
import { type Stage, writeWithCard } from './stage.js';

export const imageRewardStage: Stage = {
  defaults: { steps: 500, batchSize: 48, learningRate: 1.5e-3, seed: 14, sceneSeed: 1014 },
  async *run(context) {
    const { seed, sceneSeed, training } = context;
    const { clip, tokenizer } = loadWorldClip('clip');
    const parameters = Parameters.random(seed);
    const model = new ImageRewardModel(imageRewardConfig, clip, parameters.at());
    const art = await loadArt('noto');
    const options = await rankingOptions('feedback', context);
    const groups = Math.floor(training.batchSize / GROUP);
    const raw = ({ captions, images }: RankingBatch) =>
      model.raw(repeatRows(tokenTensor(tokenizer, captions)), images);
    const loss = (step: number) =>
      scope(() => {
        const batch = rankingBatch(art, 'train', sceneSeed, step * groups, groups, options);
        return rankingLoss(raw(batch).to('float32'), batch.ranks);
      });
    const fixed = ['mean', 'deviation'];
    const trainable = [...parameters.entries]
      .filter(([name]) => !fixed.includes(name))
      .map(([, parameter]) => parameter.requiresGrad_());
    yield* fitTrainee({ parameters: trainable, loss }, { warmup: 60, emaDecay: 0.99, ...training });
    if (training.signal?.aborted) return;
    const ordinary = noGrad(() =>
      scope(() => raw(rankingBatch(art, 'validation', sceneSeed, 0, 64, options)).toNumbers()),
    );
    noGrad(() => {
      model.mean.mul_(0).add_(mean(ordinary));
      model.deviation.mul_(0).add_(standardDeviation(ordinary));
    });
    const metrics = measureRankings(art, sceneSeed, options, raw);
    const card = {
      name: 'image-reward',
      class: 'ImageRewardModel',
      role: 'feedback',
      startedFrom: 'clip',
      metrics,
      description:
        'Scorer in ImageReward’s form: text tokens attend to the patches of the first CLIP (frozen), an MLP scores; trained on rankings by the feedback rules.',
    } as const;
    writeWithCard(context, card, parameters.state());
  },
};
