// LAION's aesthetic head: an MLP on the first CLIP's picture embeddings, fitted to noisy ratings of 1 to 10 that ask how a picture looks, not what it shows.

import { loadWorldClip } from '@rldf/common/instruments/frozen-clip';
import { type ArtSet, HashRandom, loadArt, type Split } from '@rldf/emoji-world';
import { AestheticPredictor } from '@rldf/models';
import { F, noGrad, noiseKey, Parameters, Random, scope, type Tensor, tensor } from '@rldf/torch';
import { fitTrainee } from './fit.js';
import { rankingOptions } from './preference.js';
import { qualityOf, type RankingOptions, type Rules, rankingBatch } from './rankings.js';
import { NO_FLAWS } from './rankings-flaws.js';
import { type Stage, writeWithCard } from './stage.js';

/** What each flaw costs of a flawless picture's rating. */
const aestheticRules: Rules = {
  ...NO_FLAWS,
  incomplete: 3,
  blur: 5,
  noise: 5,
  faded: 4,
  nothing: 7,
  generated: 1,
};
const FLAWLESS = 8;
/** Standard deviation of a rater, in points. */
const RATING_NOISE = 0.7;
const PICTURES = 6144;
const BATCH = 128;

export const aestheticStage: Stage = {
  defaults: { steps: 2000, batchSize: 256, learningRate: 1e-3, seed: 15, sceneSeed: 1015 },
  async *run(context) {
    const { seed, sceneSeed, training } = context;
    const { clip } = loadWorldClip('clip');
    const parameters = Parameters.random(seed);
    const head = new AestheticPredictor(parameters.at(), clip.config.projection_dim ?? 512);
    const art = await loadArt('noto');
    const options = await rankingOptions('feedback', context);
    const embed = (images: Tensor) => clip.encodeImage(images);
    const { embeddings, ratings } = ratedPictures(
      art,
      'train',
      sceneSeed,
      PICTURES,
      options,
      embed,
      RATING_NOISE,
    );
    context.log(`embedded ${PICTURES} pictures`);
    const loss = (step: number) =>
      scope(() => {
        const rows = new Random(noiseKey(seed, 'rows', step));
        const index = Array.from({ length: training.batchSize }, () => rows.integer(PICTURES));
        const predicted = head.forward(embeddings.indexSelect(0, tensor(index, { dtype: 'int64' })));
        return F.mseLoss(predicted, tensor(index.map((i) => ratings[i] as number)));
      });
    yield* fitTrainee({ parameters: parameters.trainable(), loss }, { weightDecay: 1e-2, ...training });
    if (training.signal?.aborted) return;
    const held = ratedPictures(art, 'test', sceneSeed, 1024, { ...options }, embed, 0);
    const predicted = noGrad(() => scope(() => head.forward(held.embeddings).toNumbers()));
    const metrics = { correlation: correlation(predicted, held.ratings) };
    const card = {
      name: 'aesthetic',
      class: 'AestheticPredictor',
      role: 'feedback',
      startedFrom: 'clip',
      metrics,
      description:
        'Aesthetic head in LAION’s form: an MLP on the first CLIP’s picture embeddings (frozen), fitted to ratings of 1 to 10 by written rules: sharp, clean, whole, in contrast.',
    } as const;
    writeWithCard(context, card, parameters.state());
  },
};

/** Pictures as embeddings [N, D], and their ratings. */
function ratedPictures(
  art: ArtSet,
  split: Split,
  seed: number,
  count: number,
  options: RankingOptions,
  embed: (images: Tensor) => Tensor,
  noise: number,
): { embeddings: Tensor; ratings: number[] } {
  const ratings: number[] = [];
  const rows: number[] = [];
  let width = 0;
  for (let start = 0; start < count; start += BATCH) {
    noGrad(() =>
      scope(() => {
        const { images, flaws } = rankingBatch(art, split, seed, start / 4, BATCH / 4, options);
        const embedded = embed(images);
        width = embedded.shape[1] as number;
        rows.push(...embedded.toNumbers());
        for (const [i, found] of flaws.entries()) {
          const random = new HashRandom(seed, start + i, 0x617465);
          const deviate = 2 * (random.uniform() + random.uniform() + random.uniform() - 1.5);
          const rating = FLAWLESS + qualityOf(found, aestheticRules) + noise * deviate;
          ratings.push(Math.max(1, Math.min(10, rating)));
        }
      }),
    );
  }
  return { embeddings: tensor(Float32Array.from(rows), { shape: [count, width] }), ratings };
}

/** Pearson's. */
function correlation(a: readonly number[], b: readonly number[]): number {
  const centred = (values: readonly number[]) => {
    const middle = values.reduce((sum, value) => sum + value, 0) / values.length;
    return values.map((value) => value - middle);
  };
  const [x, y] = [centred(a), centred(b)];
  const dot = (p: readonly number[], q: readonly number[]) =>
    p.reduce((sum, value, i) => sum + value * (q[i] as number), 0);
  return dot(x, y) / Math.sqrt(dot(x, x) * dot(y, y));
}
