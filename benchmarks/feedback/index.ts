// What the feedback models know: CLIP's nouns and relations, the preference models' rankings, and how far the training
// reward and the unseen judge of preference agree on the base model's pictures. Intervals are bootstraps over prompts.
import {
  type ArtSetName,
  captionOf,
  loadArt,
  nouns,
  renderScene,
  type SampleOptions,
  sampleScene,
} from '@rldf/emoji-world';
import { noGrad, noiseKey, Random, scope, setThreads } from '@rldf/torch';
import { bootstrapMean, listInstruments, mean, type Reward, rewards } from 'rldf';
import {
  feedbackRules,
  imagesOf,
  judgeRules,
  pairsToldRight,
  type RankingOptions,
  tokenTensor,
} from 'rldf/pretrain';
import {
  type FrozenClip,
  idsOf,
  loadPreference,
  loadWorldClip,
  type Reference,
  scoreReference,
} from 'rldf/rewards';
import type { InstrumentRow } from '../instruments/index.js';
import { type OptionsOf, whole } from '../shared/options.js';
import { drawReference } from '../shared/reference-pictures.js';
import type { Result } from '../shared/rows.js';
import { spearman, wilson } from '../shared/statistics.js';

/** Scenes of these seeds trained nothing. */
const HELD_OUT = 7101;

export const options = { pictures: whole('per measure; default: 768') };

export async function run({ say, pictures = 768 }: OptionsOf<typeof options>): Promise<Result> {
  setThreads(1);
  const rows = await feedbackRows(pictures, say);
  const text = rows.map(({ instrument, measure, value, ci95, count }) => {
    const shown = (x: number) => x.toFixed(3);
    return `${instrument.padEnd(18)} ${measure.padEnd(52)} ${shown(value)} [${ci95?.map(shown).join(', ')}], n = ${count}\n`;
  });
  return { data: rows, text: text.join('') };
}

export async function feedbackRows(
  pictures: number,
  say: (text: string) => void = () => {},
): Promise<InstrumentRow[]> {
  const here = listInstruments();
  const rows: InstrumentRow[] = [];
  for (const name of ['clip', 'clip-2'] as const) {
    if (name !== 'clip' && !here.includes(name)) continue;
    const frozen = loadWorldClip(name);
    for (const art of ['noto', 'twemoji', 'fluent-emoji-flat', 'openmoji'] as const)
      rows.push(await nounRow(name, frozen, art, pictures));
    rows.push(await relationRow(name, frozen, pictures));
    say(`${name} measured`);
  }
  for (const name of ['preference', 'image-reward', 'judge-preference'] as const)
    if (here.includes(name)) rows.push(...(await rankingRows(name, pictures)));
  if (['preference', 'judge-preference'].every((name) => here.includes(name))) {
    const reference = await drawReference();
    say('drew the base model’s pictures');
    rows.push(...(await agreementRows(reference)));
  }
  return rows;
}

/** Zero-shot: which of all nouns' captions is closest to a held-out picture of one noun? */
async function nounRow(
  name: string,
  frozen: FrozenClip,
  set: ArtSetName,
  pictures: number,
): Promise<InstrumentRow> {
  const art = await loadArt(set);
  const captions = nouns.map(({ singular, article }) => `${article} ${singular}`);
  const options: SampleOptions = { kinds: { single: 1 } };
  let right = 0;
  for (let start = 0; start < pictures; start += 64) {
    const count = Math.min(64, pictures - start);
    const scenes = Array.from({ length: count }, (_, i) => sampleScene('test', HELD_OUT, start + i, options));
    const found = noGrad(() =>
      scope(() =>
        frozen.clip
          .forward(idsOf(frozen, captions), imagesOf(scenes.map((scene) => renderScene(scene, art))))
          .logitsPerImage.argmax(1)
          .toNumbers(),
      ),
    );
    right += found.filter((index, i) => nouns[index]?.name === scenes[i]?.objects[0]?.noun).length;
  }
  return share(name, `noun of ${nouns.length}, zero-shot, ${set}`, right, pictures);
}

/** Is the true caption of two objects closer than the one that swaps them? A coin is right half of the time. */
async function relationRow(name: string, frozen: FrozenClip, pictures: number): Promise<InstrumentRow> {
  const art = await loadArt('noto');
  const opposite = { left: 'right', right: 'left', above: 'below', below: 'above' } as const;
  let right = 0;
  for (let start = 0; start < pictures; start += 64) {
    const count = Math.min(64, pictures - start);
    const scenes = Array.from({ length: count }, (_, i) =>
      sampleScene('test', HELD_OUT, start + i, { kinds: { relation: 1 }, plainShare: 1 }),
    );
    const told = (turned: boolean) =>
      scenes.map((scene) =>
        captionOf(turned && scene.relation ? { ...scene, relation: opposite[scene.relation] } : scene),
      );
    right += noGrad(() =>
      scope(() => {
        const seen = frozen.clip.encodeImage(imagesOf(scenes.map((scene) => renderScene(scene, art))));
        const cosine = (texts: string[]) =>
          frozen.clip.encodeText(tokenTensor(frozen.tokenizer, texts)).mul(seen).sum(1);
        return cosine(told(false))
          .gt(cosine(told(true)))
          .to('float32')
          .sum()
          .item();
      }),
    );
  }
  return share(name, 'relation told from its opposite (coin: 0.5)', right, pictures);
}

/** Pairs of held-out scenes, spoiled by known amounts, that are told right. */
async function rankingRows(
  name: 'preference' | 'image-reward' | 'judge-preference',
  pictures: number,
): Promise<InstrumentRow[]> {
  const judge = name === 'judge-preference';
  const reward = judge ? loadPreference(name) : await (rewards[name] as (typeof rewards)[string]).load();
  const options: RankingOptions = { rules: judge ? judgeRules : feedbackRules, blur: { kind: 'gaussian' } };
  const groups = await pairsToldRight(HELD_OUT, options, reward, Math.ceil(pictures / 64));
  const row = (measure: string, perGroup: number[][]): InstrumentRow => {
    const means = perGroup.filter((group) => group.length > 0).map(mean);
    const random = new Random(noiseKey(1, ''));
    const { interval } = bootstrapMean(means, { random, resamples: 2000 });
    return {
      instrument: name,
      measure,
      value: mean(means),
      ci95: interval,
      unit: 'share',
      count: means.length,
    };
  };
  return [
    row('pairs told right, by its own rules (groups)', groups.all),
    row('the same, sharp pictures only: content (groups)', groups.content),
  ];
}

async function agreementRows(reference: Reference): Promise<InstrumentRow[]> {
  const judge = loadPreference('judge-preference');
  const rows: InstrumentRow[] = [];
  const byJudge = await scoreReference(judge, reference);
  for (const name of ['clip-score', 'preference', 'image-reward', 'aesthetic']) {
    const entry = rewards[name];
    if (entry === undefined || (name !== 'clip-score' && !listInstruments().includes(name))) continue;
    const reward: Reward = await entry.load();
    const scores = await scoreReference(reward, reference);
    rows.push(...correlationRows(name, scores, byJudge));
  }
  return rows;
}

/** Rank correlation with the judge over all pictures, and within each prompt. One list a prompt. */
function correlationRows(name: string, a: number[][], b: number[][]): InstrumentRow[] {
  const random = new Random(noiseKey(2, ''));
  const overall = (prompts: readonly number[]) =>
    spearman(
      prompts.flatMap((p) => a[p] as number[]),
      prompts.flatMap((p) => b[p] as number[]),
    );
  const all = a.map((_, p) => p);
  const resampled = Array.from({ length: 1000 }, () => overall(all.map(() => random.integer(all.length))));
  resampled.sort((x, y) => x - y);
  const within = all.map((p) => spearman(a[p] as number[], b[p] as number[]));
  const { interval } = bootstrapMean(within, { random, resamples: 2000 });
  return [
    {
      instrument: name,
      measure: 'rank correlation with the unseen judge, all pictures',
      value: overall(all),
      ci95: [resampled[25] as number, resampled[974] as number],
      unit: 'correlation',
      count: a.flat().length,
    },
    {
      instrument: name,
      measure: 'the same within prompts (prompts)',
      value: mean(within),
      ci95: interval,
      unit: 'correlation',
      count: within.length,
    },
  ];
}

function share(instrument: string, measure: string, right: number, count: number): InstrumentRow {
  return { instrument, measure, value: right / count, ci95: wilson(right, count), unit: 'share', count };
}
