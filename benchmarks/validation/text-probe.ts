// Whether a text encoder's features tell relations: a linear probe at the last noun's token, on nouns that it never saw.
import { captionOf, HashRandom, nouns, type Relation, type Scene } from '@rldf/emoji-world';
import type { Pipeline } from '@rldf/models';
import {
  AdamW,
  cat,
  F,
  free,
  grad,
  keep,
  Linear,
  noGrad,
  Parameters,
  scope,
  type Tensor,
  tensor,
} from '@rldf/torch';

const UPDATES = 300;
const PROMPTS = { learnt: 1024, unseen: 512 };

export function probeText(pipeline: Pipeline): { name: string; right: number; total: number }[] {
  const axes = [
    ['left', 'right'],
    ['above', 'below'],
  ] as const;
  return axes.map((sides) => ({ name: `text probe, ${sides.join(' or ')}`, ...probe(pipeline, sides) }));
}

/** Fits the probe on pairs of every other noun and asks it about pairs of the rest. */
function probe(pipeline: Pipeline, sides: readonly [Relation, Relation]): { right: number; total: number } {
  const parameters = Parameters.random(1);
  const layer = new Linear(parameters.at('probe'), pipeline.textEncoder.config.hidden_size ?? 512, 2);
  const weights = parameters.trainable();
  const optimiser = new AdamW(weights, { learningRate: 1e-2 });
  const learnt = features(pipeline, sides, 0, PROMPTS.learnt);
  const unseen = features(pipeline, sides, 1, PROMPTS.unseen);
  for (let update = 0; update < UPDATES; update++) {
    scope(() => {
      const loss = F.crossEntropy(layer.forward(learnt.states), learnt.sides);
      optimiser.step(grad(loss, weights));
    });
  }
  const right = noGrad(() =>
    scope(() => layer.forward(unseen.states).argmax(1).eq(unseen.sides).to('float32').sum().item()),
  );
  free([learnt, unseen, weights]);
  optimiser.free();
  return { right, total: PROMPTS.unseen };
}

/** States of the token before the end, [count, D], and which of the two relations the prompt tells. */
function features(
  { tokenizer, textEncoder }: Pipeline,
  sides: readonly [Relation, Relation],
  half: 0 | 1,
  count: number,
): { states: Tensor; sides: Tensor } {
  const names = nouns.filter((_, i) => i % 2 === half).map(({ name }) => name);
  const answers: number[] = [];
  const prompts = Array.from({ length: count }, (_, i) => {
    const random = new HashRandom(half, i, 0x70726f6265);
    const [a, b] = random.sample(names, 2) as [string, string];
    answers.push(random.integer(2));
    return captionOf(sceneOf(a, b, sides[answers[i] as 0 | 1]));
  });
  const { ids } = tokenizer.encode(prompts);
  const states = noGrad(() =>
    scope(() => {
      const all = textEncoder.forward(tensor(ids, { dtype: 'int64' })).lastHiddenState; // [count, L, D]
      const last = ids.map((row, i) => all.select(0, i).narrow(0, row.indexOf(tokenizer.endId) - 1, 1));
      return cat(last); // [count, D]
    }),
  );
  return keep({ states, sides: tensor(answers, { dtype: 'int64' }) });
}

/** Two sprites that stand so; where exactly does not matter, it is told and never drawn. */
function sceneOf(a: string, b: string, relation: Relation): Scene {
  const places = {
    left: [0, 16, 32, 16],
    right: [32, 16, 0, 16],
    above: [16, 0, 16, 32],
    below: [16, 32, 16, 0],
  };
  const [ax, ay, bx, by] = places[relation] as [number, number, number, number];
  const objects = [
    { noun: a, size: 32, x: ax, y: ay },
    { noun: b, size: 32, x: bx, y: by },
  ] as const;
  return { objects, background: 'white', relation };
}
