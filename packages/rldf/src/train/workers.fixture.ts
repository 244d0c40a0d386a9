// One worker of workers.test.ts: `size root methods [plant]`. The first one starts the others. Writes the noise that it drew from, and
// trains each method, with a tiny model, for ten updates.
import { createHash } from 'node:crypto';
import { appendFileSync } from 'node:fs';
import { join } from 'node:path';
import { Crew, crew, setCrew } from '@rldf/common/workers/crew';
import { launchCrew } from '@rldf/common/workers/launch';
import { placeOf } from '@rldf/common/workers/place';
import { loadPipeline } from '@rldf/models';
import { cat, free, Group, noGrad, scope, setThreads, type Tensor } from '@rldf/torch';
import { native } from '@rldf/torch/native';
import type { DdpoRecipe } from '../methods/ddpo-schema.js';
import { Learner } from '../methods/learner.js';
import { minimalRecipe, prompts } from '../methods/minimal-recipes.fixture.js';
import { drawEpoch, isOwn, rolloutsOf } from '../methods/policy-gradient.js';
import type { Reward } from '../rewards/reward.js';
import { WeightedReward } from '../rewards/weighted.js';
import { follow } from './follow.js';
import { train } from './from-recipe.js';
import { drain } from './tiny-run.fixture.js';

const [size, root, methods, plant] = process.argv.slice(2) as [string, string, string, string?];
setThreads(1);

/** How bright and how red a picture is: smooth, so that a rounding stays one. */
const part = (name: string, of: (images01: Tensor) => Tensor): Reward => ({
  name,
  unit: '',
  score: ({ images }) => scope(() => of(images.permute([0, 3, 1, 2]).to('float32').div(255)).toNumbers()),
  differentiable: (images01) => of(images01),
});
/** With statistics over all pictures. */
const reward = () =>
  new WeightedReward([
    { reward: part('bright', (images) => images.mean([1, 2, 3])), normalise: 'running' },
    { reward: part('red', (images) => images.select(1, 0).mean([1, 2])), normalise: 'batch', weight: 0.5 },
  ]);

const recipeOf = (method: string) => ({
  ...minimalRecipe(method, {
    ...{ model: join(root, '../model'), evaluate: { every: 5 }, report: { checkpoint: 'last' } },
    epochs: method === 'ip-rldf' ? 2 : 5,
    ...(method === 'ip-rldf' ? { rounds: 3 } : {}),
    sample: { steps: 3, promptsPerEpoch: 3, picturesPerPrompt: 2, batchSize: 2 }, // 6 pictures, 3 an update
    train: { ...minimalRecipe(method).train, learningRate: 0.003 },
  }),
});

/** x_T of each picture that is drawn here, by its identity. */
async function noteNoise(): Promise<void> {
  const pipeline = loadPipeline(join(root, '../model'));
  const recipe = recipeOf('ddpo') as unknown as DdpoRecipe;
  const learner = new Learner(pipeline, recipe, 10);
  const drawing = drawEpoch(
    learner,
    recipe,
    { prompts: prompts.map((text) => ({ text, meta: undefined })) },
    1,
  );
  let next = await drawing.next();
  while (!next.done) next = await drawing.next();
  for (const picture of next.value.filter(isOwn)) {
    const { latents } = picture.rollout.trajectory;
    const values = scope(() => latents.select(0, 0).select(0, picture.row).toNumbers());
    const hash = createHash('sha256').update(Float32Array.from(values)).digest('hex');
    appendFileSync(join(root, 'noise.txt'), `${picture.behaviour.path} ${hash}\n`);
  }
  free(rolloutsOf(next.value));
  learner.free();
}

/** Faults as they are made elsewhere, for the test to find. */
function plantFault(): void {
  const { own, sum, assemble } = Crew.prototype;
  if (plant === 'averaging per worker') {
    let factor = 1;
    Crew.prototype.own = function (list, ordered) {
      const share = own.call(this, list, ordered);
      factor = list.length / (Math.max(1, share.length) * this.size);
      return share as never;
    };
    Crew.prototype.sum = async function (label, tensors) {
      noGrad(() => tensors.forEach((tensor) => void tensor.mul_(factor)));
      await sum.call(this, label, tensors);
    };
  }
  if (plant === 'statistics per worker') {
    Crew.prototype.assemble = async function <T>(
      label: string,
      rows: readonly number[],
      values: readonly T[],
    ) {
      const whole = await assemble.call(this, label, rows, values);
      if (!label.startsWith('reward')) return whole as T[];
      return whole.map((value, row) => (rows.includes(row) ? value : values[row % values.length])) as T[];
    };
  }
  if (plant === 'forgotten wait') {
    Group.prototype.allReduceAll = function (tensors) {
      const allReduce = native.resolve('_c10d_functional::all_reduce_', '');
      if (this.rank > 0) Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 100); // comes later
      scope(() => {
        const flat = cat(tensors.map((tensor) => tensor.reshape([-1])));
        native.call(allReduce, flat.handle, 'sum', 'rldf-0');
        let start = 0;
        for (const tensor of tensors) {
          const length = tensor.shape.reduce((product, one) => product * one, 1);
          tensor.copy_(flat.narrow(0, start, length).reshape(tensor.shape));
          start += length;
        }
        Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 300); // its memory is written to meanwhile
      });
    };
  }
}

if (plant !== undefined) plantFault();
const place = placeOf();
if (place !== undefined) {
  setCrew(await Crew.join(place));
  await noteNoise();
  process.exit(await follow({ reward: reward() }));
}
if (Number(size) > 1) setCrew(await launchCrew(Number(size), process.argv.slice(2)));
await noteNoise();
for (const method of methods.split(','))
  await drain(train(recipeOf(method), { name: method, root, reward: reward() }));
await crew().end(0);
process.exit(0);
