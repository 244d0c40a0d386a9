// A training on both sides: from the same weights, on the same data and noise, update by update.
import { join } from 'node:path';
import { InternalError, readSafetensors, type StateDict, scope, type Tensor } from '@rldf/torch';
import { relativeDifference } from '../../shared/differences.js';
import { pythonEnvironment } from '../../shared/environments.js';
import { Peer } from '../../shared/peer.js';
import { type Check, type Context, changes, same, writeTensors } from '../checks.js';

export const UPDATES = 20;

/** What our side did. */
export interface Ours {
  /** Of each update, before it. */
  losses: number[];
  /** Of the gradient, before it was clipped. */
  norms: number[];
  /** At the end, by the names that the other side gives them. */
  weights: StateDict;
  /** What else is compared, by name. */
  more?: Record<string, number[]>;
}

/** A training that can be run on both sides. */
export interface Case {
  name: string;
  /** Who is asked: PyTorch, unless said otherwise. */
  side?: 'trl';
  /** What the other side is asked, beside its files. */
  question: { ask: string } & Record<string, unknown>;
  start: StateDict;
  data: StateDict;
  /** Runs ours. `start` and `data` have been written before. */
  train(): Promise<Ours>;
  limits?: Partial<Limits>;
  /** What a loss is of: an update, or the mean of an epoch's. */
  each?: 'epoch';
}

/** A case is made when its turn comes. */
export type CaseOf = (context: Context) => Case | Promise<Case>;

export interface Limits {
  /** Largest difference of a loss, relative to the other side's, or to what it says is the scale of a loss around 0. */
  losses: number;
  norms: number;
  /** Largest difference of a tensor at the end, as a share of its norm. */
  weights: number;
  /** The difference of all tensors at the end, as a share of the way from the start. */
  way: number;
  /** Largest difference of what else is compared, as a share of the largest of its numbers. */
  more: number;
}

/** float32 on both sides. */
const limits: Limits = { losses: 1e-5, norms: 1e-4, weights: 1e-4, way: 1e-2, more: 1e-3 };

/** The other side's answer, and the files that it wrote and was given. */
export interface Reference {
  losses: number[];
  norms: number[];
  scales?: number[];
  more?: Record<string, number[]>;
  silent: string[];
  files: { start: string; data: string; output: string };
}

/** The other sides, each started when it is first asked: TRL has an environment of its own. */
export class OtherSides {
  readonly #peers = new Map<Case['side'], Peer>();

  constructor(readonly context: Context) {}

  of({ side }: Pick<Case, 'side'>): Peer {
    const known = this.#peers.get(side);
    if (known !== undefined) return known;
    const peer =
      side === 'trl'
        ? new Peer(pythonEnvironment('trl', { say: this.context.say }), 'trl_peer.py')
        : new Peer(this.context.python, 'training_peer.py');
    this.#peers.set(side, peer);
    return peer;
  }

  end(): void {
    for (const peer of this.#peers.values()) peer.end();
  }
}

/** Writes what both start from; the other side trains. Do it before ours does, which changes the weights. */
export async function reference(context: Context, sides: OtherSides, of: Case): Promise<Reference> {
  const file = (part: string) => `training-${of.name.replaceAll(/\W+/g, '-')}-${part}.safetensors`;
  const files = {
    start: writeTensors(context, file('start'), of.start),
    data: writeTensors(context, file('data'), of.data),
    output: join(context.folder, file('theirs')),
  };
  const answer = await sides.of(of).ask({ ...of.question, ...files });
  if (answer.error !== undefined) throw new InternalError(`${of.name}: ${answer.error}`);
  return { ...(answer as unknown as Omit<Reference, 'files'>), files };
}

export function compare(of: Pick<Case, 'name' | 'limits' | 'each'>, ours: Ours, theirs: Reference): Check[] {
  const { name } = of;
  const within = { ...limits, ...of.limits };
  const apart = relative(ours.losses, theirs.losses, theirs.scales);
  const silent = new Set(theirs.silent);
  const { worst, way, moved, tensors } = weightsApart(ours.weights, theirs.files, silent);
  const besides =
    silent.size === 0 ? '' : `; without ${silent.size} whose gradient is rounding (${[...silent][0]})`;
  return [
    same(`${name}: loss of ${ours.losses.length} ${of.each ?? 'update'}s`, Math.max(...apart), within.losses, 'relative'),
    ...(ours.norms.length === 0
      ? []
      : [same(`${name}: gradient’s norm`, Math.max(...relative(ours.norms, theirs.norms)), within.norms, 'relative')]),
    ...Object.entries(ours.more ?? {}).map(([what, values]) =>
      same(`${name}: ${what}`, relativeDifference(values, theirs.more?.[what] ?? []), within.more, 'of the largest'),
    ),
    same(`${name}: ${tensors} weights at the end`, worst.apart, within.weights, 'of a tensor', `${worst.name}${besides}`),
    same(`${name}: all weights, of the way`, way, within.way, 'of the way'),
    changes(`${name}: the way itself`, moved, 1e-3, 'of the start'),
  ]; // biome-ignore format: a row on a line
}

function relative(
  ours: readonly number[],
  theirs: readonly number[],
  scales: readonly number[] = theirs,
): number[] {
  if (ours.length !== theirs.length || ours.length === 0) return [Number.POSITIVE_INFINITY];
  return theirs.map((value, i) => Math.abs((ours[i] as number) - value) / Math.abs(scales[i] as number));
}

function weightsApart(ours: StateDict, files: Reference['files'], silent: ReadonlySet<string>) {
  return scope(() => {
    const start = readSafetensors(files.start).tensors;
    const theirs = readSafetensors(files.output).tensors;
    const names = [...theirs.keys()].filter(
      (name) => !silent.has(name) && !silent.has(name.replace(AVERAGE, '')),
    );
    const wide = (tensor: Tensor) => tensor.detach().to('float64');
    const norm = (tensor: Tensor) => tensor.square().sum().item();
    let worst = { name: 'none', apart: 0 };
    const sums = { apart: 0, way: 0, start: 0 };
    for (const name of names) {
      const [own, reference] = [ours.get(name), theirs.get(name) as Tensor];
      if (own === undefined) return { worst: { name: `${name} is missing`, apart: Number.POSITIVE_INFINITY }, way: 1, moved: 0, tensors: 0 }; // biome-ignore format: one thought
      const [a, b] = [wide(own), wide(reference)];
      const difference = norm(a.sub(b));
      const apart = Math.sqrt(difference / Math.max(norm(b), 1e-300));
      if (!(apart <= worst.apart)) worst = { name, apart };
      const from = start.get(name);
      if (from === undefined) continue; // an average, or a statistic
      sums.apart += difference;
      sums.way += norm(b.sub(wide(from)));
      sums.start += norm(wide(from));
    }
    const ratio = (a: number, b: number) => Math.sqrt(a / b);
    return {
      worst,
      way: ratio(sums.apart, sums.way),
      moved: ratio(sums.way, sums.start),
      tensors: names.length,
    };
  });
}

/** Before the name of a weight: its exponential moving average. */
export const AVERAGE = 'average of ';
