// What a policy gradient can know. An adapter that was trained in any way and does raise a reward is a direction; DDPO's estimate of the
// reward's slope along it is the mean of advantage × score over its own pictures. How strongly do the two go together, step by step, and from how many
// pictures could it be told that this direction raises the reward and not its opposite?
//
//   s_t = d/dλ log p_λ(x_{t-1} | x_t, c) at λ = 0 = ε_t · (dμ_λ/dλ) / σ_t,   p_λ: the policy with the adapter at strength λ
//   R_t = correlation of s_t with the advantage Â
//
// Scores of different steps are uncorrelated, so all steps together, each weighed as well as possible, reach R² = Σ R_t². A mean of n products is two
// standard errors above 0 from n = 4 / R² on.
import type { Scene } from '@rldf/emoji-world';
import { type Behaviour, decodeImages, latentShape, loadLora, loadPipeline } from '@rldf/models';
import {
  cat,
  free,
  keep,
  noGrad,
  noiseKey,
  normal,
  Random,
  scope,
  type Tensor,
  UserError,
} from '@rldf/torch';
import { findModel, loadReward, mean, scorePictures } from 'rldf';
import { policyMoments, policyScheduler, TextFeatures } from 'rldf/learning';
import { type OptionsOf, text, whole, words } from '../shared/options.js';
import { markdownTable } from '../shared/page.js';
import { promptsNamed } from '../shared/prompts.js';
import type { Result } from '../shared/rows.js';

const SEED = 21;
const [PROMPTS, PICTURES, STEPS, GUIDANCE, BATCH] = [32, 16, 10, 3, 64];
const SMALL = 0.05; // strength for the derivative, by a difference

export const options = {
  adapter: text('FILE', 'LoRA that raises the reward'),
  rewards: words('NAME', 'whose slope is asked for'),
  prompts: text('NAME', 'kind of training prompts, or a set of them; default: relation'),
  texts: words('PROMPT', 'these prompts instead'),
  of: whole(`so many prompts; default: ${PROMPTS}`),
  pictures: whole(`of each prompt; default: ${PICTURES}`),
  guidance: whole(`of the policy; default: ${GUIDANCE}`),
};

/** Of each picture, one a step. */
interface Scores {
  images: Tensor;
  scores: number[][];
  /** KL(p_1 ‖ p_0) of each step along the ways of some of them. */
  kl: number[][];
}

export async function run({
  adapter,
  rewards: names,
  prompts: named = 'relation',
  texts,
  of = PROMPTS,
  pictures = PICTURES,
  guidance = GUIDANCE,
  say,
}: OptionsOf<typeof options>): Promise<Result> {
  if (adapter === undefined || names === undefined)
    throw new UserError('policy-signal: --adapter FILE and --rewards NAME are needed.');
  const pipeline = loadPipeline(findModel('emoji').path);
  const { unet, textEncoder } = pipeline.parameters;
  const loras = Object.values(loadLora(adapter, { unet, textEncoder }));
  const all: readonly { prompt: string; scene: Scene | null }[] =
    texts?.map((prompt) => ({ prompt, scene: null })) ?? promptsNamed(named);
  const scenes = new Random(noiseKey(SEED, 'scenes')).shuffle(all).slice(0, of);
  const chosen = scenes.flatMap(({ prompt, scene }, p) =>
    Array.from({ length: pictures }, (_, i) => ({ prompt, scene, path: [p, i] })),
  );
  const scheduler = policyScheduler(pipeline, STEPS, 1);
  const shape = latentShape(pipeline);

  /** Draws by the policy without the adapter, and looks on the way at what it would change. */
  const draw = (rows: typeof chosen, looksAtKl: boolean): Scores => {
    const told = rows.map(({ prompt }) => prompt);
    const behaviours = rows.map(
      ({ path }): Behaviour => ({ seed: SEED, path, guidance: Array<number>(STEPS).fill(guidance) }),
    );
    const at = (strength: number) => {
      for (const lora of loras) lora.strength = strength;
      const features = new TextFeatures(pipeline, ['', ...told]);
      const text = keep(features.forDrawing(behaviours, '', told));
      features.free();
      return { strength, text };
    };
    const states = [at(0), at(SMALL), ...(looksAtKl ? [at(1)] : [])];
    const scores: number[][] = [];
    const kl: number[][] = [];
    const keys = (name: string, ...more: number[]) =>
      rows.map(({ path }) => noiseKey(SEED, name, ...path, ...more));
    let current = keep(scope(() => normal(keys('start'), shape).mul(scheduler.initialNoiseScale)));
    for (let step = 0; step < STEPS; step++) {
      const next = scope(() => {
        const moments = states.map(({ strength, text }) => {
          for (const lora of loras) lora.strength = strength;
          return policyMoments(pipeline, scheduler, current, step, text, behaviours, 1);
        });
        const [base, up, whole] = moments.map(({ mean }) => mean) as [Tensor, Tensor, Tensor?];
        const { std } = moments[0]!;
        const noise = normal(keys('step', step), shape); // ε [B, C, h, w]
        const slope = up.sub(base).mul(1 / (SMALL * std));
        scores.push(noise.mul(slope).flatten(1).sum(1).toNumbers());
        const moved = whole?.sub(base).mul(1 / std);
        kl.push(moved?.mul(moved).flatten(1).sum(1).mul(0.5).toNumbers() ?? []);
        return base.add(noise.mul(std));
      });
      keep(next);
      current.free();
      current = next;
    }
    for (const lora of loras) lora.strength = 0;
    const images = keep(scope(() => decodeImages(pipeline, current)));
    free([current, ...states.map(({ text }) => text)]);
    return { images, scores, kl };
  };

  const parts: Scores[] = [];
  for (let start = 0; start < chosen.length; start += BATCH) {
    parts.push(noGrad(() => draw(chosen.slice(start, start + BATCH), start === 0)));
    say(`${Math.min(start + BATCH, chosen.length)} of ${chosen.length} drawn`);
  }
  const steps = Array.from({ length: STEPS }, (_, step) => step);
  const scores = steps.map((step) => parts.flatMap((part) => part.scores[step] as number[]));
  const kl = steps.map((step) => mean(parts.flatMap((part) => part.kl[step] as number[])));
  if (kl.every((nats) => nats === 0))
    throw new UserError(
      `policy-signal: ${adapter} changes nothing — a direction is needed. Where training never rose on validation, its adapter is that of the start: train on, or at another rate.`,
    );
  const images = noGrad(() => cat(parts.map((part) => part.images)));
  const results = await Promise.all(
    names.map(async (name) => {
      const { total } = await scorePictures(await loadReward(name), {
        images,
        prompts: chosen.map(({ prompt }) => prompt),
        meta: chosen.map(({ scene }) => scene),
      });
      const advantages = standardised(total, pictures);
      return { name, correlations: scores.map((score) => correlation(score, advantages)) };
    }),
  );
  images.free();
  free(parts.map((part) => part.images));

  const n = chosen.length;
  const signals = results.map(({ name, correlations }) => {
    const excess = correlations.reduce((sum, r) => sum + r * r - 1 / n, 0); // what chance alone gives is taken off
    return { name, correlations, r2: excess, pictures: excess > 0 ? 4 / excess : Number.POSITIVE_INFINITY };
  });
  const rows = [
    ...signals.map(({ name, correlations, r2, pictures }) => [
      `\`${name}\`: R`,
      ...correlations.map((r) => (Math.abs(r) * Math.sqrt(n) > 2 ? `**${r.toFixed(3)}**` : r.toFixed(3))),
      r2.toFixed(4),
      Number.isFinite(pictures) ? String(Math.round(pictures)) : 'none seen',
    ]),
    ['KL of the adapter, nats', ...kl.map((nats) => nats.toPrecision(2)), '', ''],
  ];
  const header = ['step', ...steps.map((step) => String(step + 1)), 'Σ R² − n⁻¹', 'pictures'];
  return {
    data: {
      settings: { adapter, prompts: texts ?? named, of: scenes.length, pictures, guidance, seed: SEED },
      signals,
      kl,
    },
    text: `${markdownTable(header, rows)}\n\n${n} pictures: a correlation's standard error is ${(1 / Math.sqrt(n)).toFixed(3)}\n`,
  };
}

/** Within each prompt's pictures, which stand together; 0 where all are equal. */
function standardised(values: readonly number[], each: number): number[] {
  return values.map((value, i) => {
    const start = Math.floor(i / each) * each;
    const own = values.slice(start, start + each);
    const middle = mean(own);
    const spread = Math.sqrt(mean(own.map((one) => (one - middle) ** 2)));
    return spread > 0 ? (value - middle) / spread : 0;
  });
}

/** About 0, which both have as their mean by construction: a score's expectation is 0, an advantage's mean is. */
function correlation(a: readonly number[], b: readonly number[]): number {
  const product = (x: readonly number[], y: readonly number[]) =>
    mean(x.map((value, i) => value * (y[i] as number)));
  return product(a, b) / Math.sqrt(product(a, a) * product(b, b));
}
