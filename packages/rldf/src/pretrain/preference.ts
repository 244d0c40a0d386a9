// Preference models in PickScore's form: low-rank fine-tuning of a CLIP on ranked pictures (Kirstain et al. 2023, arXiv 2305.01569).
import { join } from 'node:path';
import { mean } from '@rldf/common/base/stats';
import { loadWorldClip } from '@rldf/common/instruments/frozen-clip';
import { instrumentsFolder } from '@rldf/common/instruments/instruments';
import { type ArtSet, loadArt } from '@rldf/emoji-world';
import { pairLoss, TunedPreferenceModel } from '@rldf/models';
import { free, noGrad, scope, type Tensor, tensor } from '@rldf/torch';
import type { Reward } from '../rewards/reward.js';
import { preferenceBases } from '../rewards/scorers.js';
import { tokenTensor } from './clip.js';
import { fitTrainee } from './fit.js';
import { loadPatchBasis } from './patch-basis.js';
import {
  feedbackRules,
  GROUP,
  judgeRules,
  type RankingBatch,
  type RankingOptions,
  rankedPairs,
  rankingBatch,
} from './rankings.js';
import { drawPictures } from './rankings-drawn.js';
import { type Stage, type StageContext, writeWithCard } from './stage.js';

const RANK = 8;

/** Starts from the first CLIP; may be a training reward. */
export const preferenceStage: Stage = {
  defaults: { steps: 240, batchSize: 48, learningRate: 2e-3, seed: 12, sceneSeed: 1012 },
  run: (context) => tune('preference', context),
};

/** Starts from the second CLIP, by other rules: the unseen judge of preference. */
export const judgePreferenceStage: Stage = {
  defaults: { steps: 240, batchSize: 48, learningRate: 2e-3, seed: 106, sceneSeed: 1106 },
  run: (context) => tune('judge-preference', context),
};

async function* tune(name: keyof typeof preferenceBases, context: StageContext) {
  const { seed, sceneSeed, training, output } = context;
  const { clip, parameters, tokenizer } = loadWorldClip(preferenceBases[name], output);
  const model = TunedPreferenceModel.attach(clip, parameters, { rank: RANK, seed });
  const art = await loadArt('noto');
  const role = name === 'judge-preference' ? 'judge' : 'feedback';
  const options = await rankingOptions(role, context);
  const groups = Math.floor(training.batchSize / GROUP);
  const scores = ({ captions, images }: RankingBatch) =>
    model.score(repeatRows(clip.encodeText(tokenTensor(tokenizer, captions))), images);
  const loss = (step: number) =>
    scope(() => {
      const batch = rankingBatch(art, 'train', sceneSeed, step * groups, groups, options);
      return rankingLoss(scores(batch).to('float32'), batch.ranks);
    });
  const trainable = [...model.adapter.trainable(), clip.logitScale.requiresGrad_()];
  yield* fitTrainee({ parameters: trainable, loss }, { warmup: 40, emaDecay: 0.98, ...training });
  if (training.signal?.aborted) return;
  const metrics = measureRankings(art, sceneSeed, options, scores);
  const card = {
    name,
    class: 'TunedPreferenceModel',
    role,
    startedFrom: preferenceBases[name],
    metrics,
    description:
      role === 'judge'
        ? 'Unseen judge of preference in PickScore’s form: low-rank updates of the second CLIP, tuned on rankings by the judge’s rules. For evaluation only.'
        : 'Preference model in PickScore’s form: low-rank updates of the first CLIP, tuned on rankings by the feedback rules.',
  } as const;
  writeWithCard(context, card, model.state());
}

/** Seeds of the base model's pictures among the ranked ones. */
const DRAWN_SEEDS = { feedback: 12, judge: 106 };

/** How pictures are spoiled and ranked for feedback models, or for the judge. */
export async function rankingOptions(
  role: 'feedback' | 'judge',
  { folder, from, log }: Pick<StageContext, 'folder' | 'from' | 'log'>,
): Promise<RankingOptions> {
  const file = join(folder, `drawn-for-${role}.safetensors`);
  const drawn = await drawPictures(from ?? 'emoji', file, DRAWN_SEEDS[role], log);
  if (role === 'judge') return { rules: judgeRules, blur: { kind: 'gaussian' }, drawn };
  const basis = loadPatchBasis(join(instrumentsFolder, 'patch-basis.safetensors'));
  return { rules: feedbackRules, blur: { kind: 'mixed', basis }, drawn };
}

/** Each row `GROUP` times in a row: [G, D] -> [G * GROUP, D] */
export function repeatRows(rows: Tensor): Tensor {
  const [groups, ...rest] = rows.shape as [number, ...number[]];
  return rows
    .unsqueeze(1)
    .expand([groups, GROUP, ...rest])
    .reshape([groups * GROUP, ...rest]);
}

/** Pair loss over all pairs of each group. scores [G * GROUP] */
export function rankingLoss(scores: Tensor, ranks: readonly number[]): Tensor {
  return scope(() => {
    const { preferred, other } = rankedPairs(ranks);
    const rows = (indices: number[]) => scores.indexSelect(0, tensor(indices, { dtype: 'int64' }));
    return pairLoss(rows(preferred), rows(other));
  });
}

/** Least difference of quality that counts as one. */
const CLEAR = 0.5;

/**
 * On held-out combinations of words: `pairs`, the share of pairs with clearly different quality that are told right;
 * `pairsOfContent`, the same where only what is shown differs, not how.
 */
export function measureRankings(
  art: ArtSet,
  seed: number,
  options: RankingOptions,
  scores: (batch: RankingBatch) => Tensor,
): { pairs: number; pairsOfContent: number } {
  const { drawn: _, ...written } = options;
  const told = Array.from({ length: 12 }, (_, batch) =>
    noGrad(() =>
      scope(() => {
        const ranked = rankingBatch(art, 'test', seed, batch * 16, 16, written);
        return clearPairs(ranked, scores(ranked).toNumbers());
      }),
    ),
  ).flat();
  return {
    pairs: mean(told.flatMap(({ all }) => all)),
    pairsOfContent: mean(told.flatMap(({ content }) => content)),
  };
}

/** The same of a reward: 1 and 0 for each clear pair told right or wrong, one list a group; batches of 16 groups. */
export async function pairsToldRight(
  seed: number,
  options: RankingOptions,
  reward: Reward,
  batches: number,
): Promise<{ all: number[][]; content: number[][] }> {
  const art = await loadArt('noto');
  const told: { all: number[]; content: number[] }[] = [];
  for (let batch = 0; batch < batches; batch++) {
    const { images: pixels, ...ranked } = rankingBatch(art, 'test', seed, batch * 16, 16, options);
    const images = scope(() =>
      pixels.add(1).mul(127.5).round().permute([0, 2, 3, 1]).to('uint8').contiguous(),
    );
    const prompts = ranked.captions.flatMap((caption) => Array<string>(GROUP).fill(caption));
    const scores = await reward.score({ images, prompts, meta: prompts.map(() => null) });
    free([pixels, images]);
    told.push(...clearPairs(ranked, scores));
  }
  return { all: told.map(({ all }) => all), content: told.map(({ content }) => content) };
}

/** For each group: which of its pairs of clearly different quality are told right, all and those of sharp pictures. */
function clearPairs(
  { qualities, flaws }: Pick<RankingBatch, 'qualities' | 'flaws'>,
  scores: readonly number[],
) {
  return Array.from({ length: scores.length / GROUP }, (_, group) => {
    const all: number[] = [];
    const content: number[] = [];
    for (let a = group * GROUP; a < (group + 1) * GROUP; a++) {
      for (let b = a + 1; b < (group + 1) * GROUP; b++) {
        const difference = (qualities[a] as number) - (qualities[b] as number);
        if (Math.abs(difference) < CLEAR) continue;
        const hit = Number((scores[a] as number) > (scores[b] as number) === difference > 0);
        all.push(hit);
        if (isSharp(flaws[a]) && isSharp(flaws[b])) content.push(hit);
      }
    }
    return { all, content };
  });
}

const isSharp = (flaws: RankingBatch['flaws'][number] | undefined) =>
  flaws !== undefined &&
  flaws.blur + flaws.noise + flaws.faded + flaws.incomplete + flaws.nothing + flaws.generated === 0;
