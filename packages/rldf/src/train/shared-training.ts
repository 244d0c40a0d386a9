// A training that several workers share: the first one leads it through its run folder, the others follow. Within a step all run
// the method's own loop, each on its share of the pictures; between steps the first one alone decides, writes, and asks the others
// for pictures.
import { crew, LeftStep } from '@rldf/common/workers/crew';
import { catRows } from '@rldf/common/workers/rows';
import { type DType, free, type StateTree, Tensor, zeros } from '@rldf/torch';
import { InternalError } from '@rldf/torch/errors';
import {
  type CompositeReward,
  type Reward,
  type Scores,
  type SharedBatch,
  scorePictures,
} from '../rewards/reward.js';
import type { KeptCommand, PictureLog } from '../run/picture-log.js';
import type { DrawRequest, Training, TrainingEvent } from '../run/training.js';

/** What the leader tells the followers of a training. */
type Command =
  | KeptCommand
  | { do: 'state'; training: unknown }
  | { do: 'run'; from: number }
  | { do: 'step'; reward: StateTree | null }
  | { do: 'draw'; requests: readonly DrawRequest[]; scored?: Omit<SharedBatch, 'images' | 'rows'> }
  | { do: 'close' };

/** A training whose pictures can be drawn and scored at once, each worker's by itself. */
export interface SharedTraining extends Training {
  drawScored?(
    requests: readonly DrawRequest[],
    batch: Omit<SharedBatch, 'images' | 'rows'>,
  ): Promise<{ images: Tensor; scores: Scores }>;
}

/** A training as its leader uses it; itself where there is one worker. */
export function led(training: Training, reward: Reward | CompositeReward): SharedTraining {
  if (crew().size === 1 || !crew().leads) return training;
  const tell = (command: Command) => crew().tell(command);
  /** Whether the others have another state, as after `load`. */
  let apart = false;
  const align = async () => {
    if (!apart) return;
    apart = false;
    const tensors: Tensor[] = [];
    tell({ do: 'state', training: withoutTensors(training.state(), tensors) });
    await crew().broadcast('state', tensors);
  };

  async function* run(from: number): AsyncGenerator<TrainingEvent> {
    await align();
    tell({ do: 'run', from });
    const events = training.run(from);
    /** Whether the others are within a step that may be left. */
    let within = false;
    try {
      for (;;) {
        tell({ do: 'step', reward: 'state' in reward ? reward.state() : null });
        within = true;
        for (;;) {
          const next = await events.next().catch((error) => {
            within = false; // they were told, or are told why
            throw error;
          });
          if (next.done || next.value.kind === 'step') within = false;
          if (next.done) return;
          yield next.value;
          if (next.value.kind === 'step') break;
        }
      }
    } finally {
      if (within) crew().leave();
      await events.return(undefined);
    }
  }

  return {
    steps: training.steps,
    run,
    state: () => training.state(),
    load(state) {
      training.load(state);
      apart = true;
    },
    async draw(requests) {
      await align();
      tell({ do: 'draw', requests });
      return drawShare(training, requests);
    },
    async drawScored(requests, batch) {
      await align();
      tell({ do: 'draw', requests, scored: batch });
      return drawScoredShare(training, reward, requests, batch);
    },
    exportTo: (folder) => training.exportTo(folder),
    free() {
      tell({ do: 'close' });
      training.free();
    },
  };
}

/** A follower's side, to the end of the training. */
export async function followTraining(
  training: Training,
  reward: Reward | CompositeReward,
  drawn: PictureLog,
): Promise<void> {
  let events: AsyncGenerator<TrainingEvent> | undefined;
  for (;;) {
    const command = (await crew().command()) as Command;
    if (command.do === 'close') return;
    if (command.do === 'state') {
      const tensors: Tensor[] = [];
      const state = withTensors(command.training, tensors);
      await crew().broadcast('state', tensors);
      training.load(state);
      free(tensors);
    }
    if (command.do === 'run') events = training.run(command.from);
    if (command.do === 'step') {
      if ('load' in reward) reward.load(command.reward as StateTree);
      if (events === undefined) throw new InternalError('workers: a step before the run');
      drawn.forget();
      await followStep(events);
    }
    if (command.do === 'kept') await drawn.handOver();
    if (command.do === 'draw') {
      const { requests, scored } = command;
      const found = scored && (await drawScoredShare(training, reward, requests, scored));
      (found?.images ?? (await drawShare(training, requests))).free();
    }
  }
}

/** Up to the step's end, or to where the leader has left it. */
async function followStep(events: AsyncGenerator<TrainingEvent>): Promise<void> {
  try {
    for (let next = await events.next(); !next.done && next.value.kind !== 'step'; next = await events.next())
      if (crew().hasLeft()) throw new LeftStep();
  } catch (error) {
    if (!(error instanceof LeftStep)) throw error;
    await events.return(undefined);
  }
}

async function drawShare(training: Training, requests: readonly DrawRequest[]): Promise<Tensor> {
  const own = crew().own(requests);
  return crew().gatherRows('pictures', own.length === 0 ? undefined : await training.draw(own));
}

/** Each worker scores what it has drawn; all get all pictures and scores. */
async function drawScoredShare(
  training: Training,
  reward: Reward | CompositeReward,
  requests: readonly DrawRequest[],
  batch: Omit<SharedBatch, 'images' | 'rows'>,
): Promise<{ images: Tensor; scores: Scores }> {
  const own = crew().own(requests);
  const rows = requests.flatMap((request, row) => (own.includes(request) ? [row] : []));
  const images = own.length === 0 ? undefined : await training.draw(own);
  const shown = images ?? catRows([]);
  const scores = await scorePictures(reward, { ...batch, images: shown, rows }, 'evaluation');
  if (images === undefined) shown.free();
  return { images: await crew().gatherRows('pictures', images), scores };
}

interface Described {
  $tensor: { shape: number[]; dtype: DType; device: string };
}

/** A state's form, and its tensors in their order. */
function withoutTensors(tree: StateTree, tensors: Tensor[]): unknown {
  if (tree instanceof Tensor) {
    tensors.push(tree);
    return { $tensor: { shape: tree.shape, dtype: tree.dtype, device: tree.device } } satisfies Described;
  }
  if (Array.isArray(tree)) return tree.map((child) => withoutTensors(child, tensors));
  if (tree === null || typeof tree !== 'object') return tree;
  return Object.fromEntries(
    Object.entries(tree).map(([key, child]) => [key, withoutTensors(child, tensors)]),
  );
}

/** A state of that form with tensors of zeros. */
function withTensors(form: unknown, tensors: Tensor[]): StateTree {
  if (Array.isArray(form)) return form.map((child) => withTensors(child, tensors));
  if (form === null || typeof form !== 'object') return form as StateTree;
  if ('$tensor' in form) {
    const { shape, dtype, device } = (form as Described).$tensor;
    const tensor = zeros(shape, { dtype, device: crew().deviceHere(device as 'cpu') });
    tensors.push(tensor);
    return tensor;
  }
  return Object.fromEntries(Object.entries(form).map(([key, child]) => [key, withTensors(child, tensors)]));
}
