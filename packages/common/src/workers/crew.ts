/**
 * The workers of one job. Rank 0 leads: it runs the command, writes, and tells the others what to do; within a step all run the
 * same code, each on its own share, and meet where something is added up. One worker alone is a crew of size 1, for which every
 * function here hands back what it is given: there is no other code for it.
 */

import { randomBytes } from 'node:crypto';
import { hostname } from 'node:os';
import { cat, type Device, Group, keep, noGrad, Store, scope, type Tensor, tensor, zeros } from '@rldf/torch';
import { InternalError, UserError } from '@rldf/torch/errors';
import { dial, type Line, listen, type Message } from './line.js';
import type { Place } from './place.js';

/** The leader has left the step that a meeting belongs to, as on Ctrl-C: what was begun in it is dropped. */
export class LeftStep extends Error {
  override name = 'LeftStep';
}

/** Why a worker ends that another one has already told of. */
export class Dismissed extends Error {
  override name = 'Dismissed';
  constructor(readonly code: number) {
    super('the leading worker has ended the work');
  }
}

/** Time for the work to end by itself when a worker is lost; then the process is ended. */
const graceMs = 5000;
/** Seconds to wait for another worker; while they start, which launchers let all do at once, less. */
const patience = (ordinary = 600) => Number(process.env.RLDF_WORKERS_TIMEOUT ?? ordinary);
const startSeconds = 120;
const tellAfterSeconds = 10;

export interface JoinOptions {
  /** Whether tensors on GPUs go over NCCL. */
  nccl?: boolean;
  giveUp?: () => Error | undefined;
  onWait?: (line: string) => void;
}

interface Meeting {
  label: string;
  values: Map<number, unknown>;
  settle?: { resolve: (values: unknown[]) => void; reject: (error: unknown) => void };
}

export class Crew {
  readonly rank: number;
  readonly size: number;
  readonly localRank: number;
  /** Restarts so far, by the launcher. */
  readonly attempt: number;
  #group: Group | undefined;
  /** Who the workers are, by rank: host and process. */
  #members: string[] = [];
  /** The leader's, by rank; a follower's only one, to rank 0. */
  readonly #lines = new Map<number, Line>();
  readonly #meetings = new Map<number, Meeting>();
  #next = 0;
  readonly #off = new Set<number>();
  readonly #commands: unknown[] = [];
  #waiting: { resolve: (command: unknown) => void; reject: (error: unknown) => void } | undefined;
  #fault: Error | undefined;
  #stop: AbortSignal | undefined;
  #over = false;

  private constructor(place?: Place) {
    this.rank = place?.rank ?? 0;
    this.size = place?.size ?? 1;
    this.localRank = place?.localRank ?? 0;
    this.attempt = place?.attempt ?? 0;
    this.#members[this.rank] = `${hostname()}, process ${process.pid}`;
  }

  static alone(): Crew {
    return new Crew();
  }

  /**
   * Meets the others: first over the lines, so that from then on everyone hears of who ends, then as a group.
   * @param giveUp asked while it waits: why there is nobody to wait for, if so
   * @param onWait told once by the leader, where others let it wait
   * @throws UserError when they do not come
   */
  static async join(place: Place, { nccl = false, giveUp, onWait }: JoinOptions = {}): Promise<Crew> {
    const crew = new Crew(place);
    const seconds = patience(startSeconds);
    const options = { ...place, attempt: `${place.attempt}`, timeoutSeconds: seconds, giveUp };
    const store = await Store.open(options);
    try {
      await (crew.leads ? crew.#gatherAll(store, seconds, giveUp, onWait) : crew.#comeTo(store, seconds));
      crew.#members = await crew.meet('start', crew.#members[place.rank] as string);
      crew.#group = new Group(store, { ...options, collectiveSeconds: patience(), nccl });
    } catch (error) {
      const known = crew.#fault !== undefined;
      const tells = crew.leads || known || crew.#lines.size === 0;
      if (!known) await crew.fail(error);
      throw tells ? error : new Dismissed(2); // the leader does
    }
    return crew;
  }

  /** Leader: waits for the lines of all. */
  async #gatherAll(
    store: Store,
    seconds: number,
    giveUp: JoinOptions['giveUp'],
    onWait: JoinOptions['onWait'],
  ) {
    const local = /^127\./.test(store.address) || store.address.startsWith('localhost');
    const token = randomBytes(16).toString('hex');
    const { port, server } = await listen(local ? '127.0.0.1' : '0.0.0.0', token, {
      came: (rank, name, line) => {
        const known = this.#members[rank];
        if (known !== undefined || rank >= this.size) {
          const error = new UserError(
            `workers: ${name} has come as rank ${rank} of ${this.size}${known === undefined ? '' : `, as ${known} had before`} — each must have a number of its own. Look at the launcher's variables`,
          );
          line.send({ kind: 'fault', name: error.name, message: error.message });
          this.#fails(error);
          return;
        }
        this.#members[rank] = name;
        this.#lines.set(rank, line);
      },
      heard: (rank, message) => this.#heardByLeader(rank, message),
      closed: (rank) => this.#lost(rank),
    });
    store.set('line', JSON.stringify({ host: local ? '127.0.0.1' : hostname(), port, token }));
    const began = performance.now();
    let told = false;
    try {
      while (this.#lines.size < this.size - 1) {
        const missing = Array.from({ length: this.size - 1 }, (_, i) => i + 1).filter(
          (rank) => !this.#lines.has(rank),
        );
        const waited = (performance.now() - began) / 1000;
        const reason =
          this.#fault ?? giveUp?.() ?? (waited > seconds ? store.inVain(missing, seconds) : undefined);
        if (reason !== undefined) throw reason;
        if (!told && waited > tellAfterSeconds)
          onWait?.(`waiting for ${missing.length} of ${this.size} workers: rank ${missing.join(', ')}`);
        told ||= waited > tellAfterSeconds;
        await new Promise((resolve) => setTimeout(resolve, 5));
      }
    } finally {
      server.close();
    }
  }

  /** Follower: opens its line. */
  async #comeTo(store: Store, seconds: number): Promise<void> {
    const { host, port, token } = JSON.parse(await store.get('line', seconds));
    const hello = { rank: this.rank, name: this.#members[this.rank] as string, token };
    const heard = (message: Message) => this.#heardByFollower(message);
    const lost = () => this.#lost(0);
    const line = await dial(host, port, hello, heard, lost).catch(lost);
    if (line === undefined) throw this.#fault;
    this.#lines.set(0, line);
  }

  get leads(): boolean {
    return this.rank === 0;
  }

  /** A device that a recipe names, on this worker: each has a GPU of its own. */
  deviceHere(device: Device): Device {
    return this.size > 1 && /^cuda/.test(device) ? `cuda:${this.localRank}` : device;
  }

  /** Whether a worker is lost, so that the work cannot go on. */
  get lost(): boolean {
    return this.#fault !== undefined;
  }

  /** As metrics: bytes that c10d's collectives were given, and the time they took, since the last call; nothing of one worker. */
  communicated(): Record<string, number> {
    const traffic = this.#group?.traffic;
    if (traffic === undefined) return {};
    const { bytes, seconds } = traffic;
    Object.assign(traffic, { bytes: 0, seconds: 0 });
    return { 'time/collectives': seconds, 'memory/communicated': bytes };
  }

  /**
   * This worker's share of a list, in the list's order: every `size`-th, so that shares differ by one at most.
   * @param ordered the same list in the order that is counted in, where it is another one
   */
  own<T>(list: readonly T[], ordered = (): readonly T[] => list): readonly T[] {
    if (this.size === 1) return list;
    const share = new Set(ordered().filter((_, i) => i % this.size === this.rank));
    return list.filter((one) => share.has(one));
  }

  /**
   * Waits until all have come here.
   * @param signal of the leader: aborted, nobody passes, and the step is left with its reason; nothing was changed yet then
   * @returns what each said, by rank
   */
  async meet<T>(label: string, value: T, signal?: AbortSignal): Promise<T[]> {
    if (this.size === 1) return [value];
    const number = this.#next++;
    if (this.#fault !== undefined) throw this.#fault;
    if (this.#off.delete(number)) throw new LeftStep();
    const meeting = this.#meetingOf(number, label);
    return (await new Promise<unknown[]>((resolve, reject) => {
      const limit = this.#limit(number, label, reject);
      const abort = () => {
        this.#callOff(number);
        settle.reject(signal?.reason);
      };
      const done = () => {
        clearTimeout(limit);
        signal?.removeEventListener('abort', abort);
        this.#meetings.delete(number);
      };
      const settle = {
        resolve(values: unknown[]) {
          done();
          resolve(values);
        },
        reject(error: unknown) {
          done();
          reject(error);
        },
      };
      meeting.settle = settle;
      if (!this.leads) this.#send({ kind: 'here', meeting: number, label, value });
      else if (signal?.aborted) abort();
      else {
        signal?.addEventListener('abort', abort);
        this.#came(0, number, label, value);
      }
    })) as T[];
  }

  /** Leader: the signal that `pass` looks at. */
  stopBy(signal: AbortSignal | undefined): void {
    this.#stop = signal;
  }

  /** All go on from here together; or nobody, where the leader was stopped: its signal's reason is thrown, and nothing was changed. */
  async pass(label: string): Promise<void> {
    await this.meet(label, null, this.#stop);
  }

  /** Values of a whole list from those of some rows, which are each worker's own. */
  async assemble<T>(label: string, rows: readonly number[], values: readonly T[]): Promise<T[]> {
    if (this.size === 1) return values as T[];
    const whole: T[] = [];
    for (const share of await this.meet(label, { rows, values }))
      for (const [i, row] of share.rows.entries()) whole[row] = share.values[i] as T;
    return whole;
  }

  /** Numbers by their names: the sums of all workers', of some the largest, of some any. */
  async total<T extends Readonly<Record<string, number>>>(
    label: string,
    own: T,
    { most = [], same = [] }: { most?: readonly (keyof T)[]; same?: readonly (keyof T)[] } = {},
  ): Promise<T> {
    if (this.size === 1) return own;
    const whole: Record<string, number> = {};
    for (const share of await this.meet(label, own)) {
      for (const [name, value] of Object.entries(share)) {
        const known = whole[name];
        if (known === undefined || same.includes(name)) whole[name] = value;
        else whole[name] = most.includes(name) ? Math.max(known, value) : known + value;
      }
    }
    return whole as T;
  }

  /** A list's values from those of each one's own share (`own`), in the list's order. */
  async gather<T>(label: string, own: readonly T[], signal?: AbortSignal): Promise<T[]> {
    if (this.size === 1) return own as T[];
    const shares = await this.meet(label, own, signal);
    const length = shares.reduce((sum, share) => sum + share.length, 0);
    return Array.from(
      { length },
      (_, i) => (shares[i % this.size] as readonly T[])[Math.floor(i / this.size)] as T,
    );
  }

  /** The rows of a list from those of each one's share, in the list's order. Takes `own` over; none: no rows. */
  async gatherRows(label: string, own: Tensor | undefined, signal?: AbortSignal): Promise<Tensor> {
    if (this.size === 1) return own as Tensor;
    const kinds = await this.meet(
      label,
      own && { shape: own.shape, dtype: own.dtype, device: own.device },
      signal,
    );
    const kind = kinds.find((one) => one !== undefined);
    if (kind === undefined) throw new InternalError(`${label}: nobody has a row`);
    const most = Math.max(...kinds.map((one) => one?.shape[0] ?? 0));
    return noGrad(() =>
      scope(() => {
        const device = own?.device ?? kind.device;
        const blank = zeros([most - (own?.shape[0] ?? 0), ...kind.shape.slice(1)], {
          dtype: kind.dtype,
          device,
        });
        const all = (this.#group as Group).allGather(own === undefined ? blank : cat([own, blank]));
        own?.free();
        const total = kinds.reduce((sum, one) => sum + (one?.shape[0] ?? 0), 0);
        const places = Array.from(
          { length: total },
          (_, i) => (i % this.size) * most + Math.floor(i / this.size),
        );
        return keep(all.indexSelect(0, tensor(places, { dtype: 'int64', device })));
      }),
    );
  }

  /** Adds tensors up over all, in place. */
  async sum(label: string, tensors: readonly Tensor[]): Promise<void> {
    if (this.size === 1 || tensors.length === 0) return;
    await this.meet(label, null);
    noGrad(() => (this.#group as Group).allReduceAll(tensors));
  }

  /** The leader's tensors for all, in place. */
  async broadcast(label: string, tensors: readonly Tensor[]): Promise<void> {
    if (this.size === 1 || tensors.length === 0) return;
    await this.meet(label, null);
    noGrad(() => {
      for (const tensor of tensors) (this.#group as Group).broadcast(tensor);
    });
  }

  /** Leader: tells all others what to do next. */
  tell(command: unknown): void {
    this.#send({ kind: 'do', command });
  }

  /** Leader: the step that the others are in is left; the meeting that they come to next does not take place. */
  leave(): void {
    this.#callOff(this.#next++);
  }

  /** Follower: whether the leader has left the step. To be asked between two meetings; the next one then counts as passed. */
  hasLeft(): boolean {
    return this.#off.delete(this.#next) && ++this.#next > 0;
  }

  /** Follower: what the leader says next. */
  command(): Promise<unknown> {
    if (this.#commands.length > 0) return Promise.resolve(this.#commands.shift());
    if (this.#fault !== undefined) return Promise.reject(this.#fault);
    return new Promise((resolve, reject) => {
      this.#waiting = { resolve, reject };
    });
  }

  /** This worker cannot go on: the others are told why. */
  async fail(error: unknown): Promise<void> {
    const { name, message } = error instanceof Error ? error : { name: 'Error', message: String(error) };
    this.#over = true;
    this.#send({ kind: 'fault', name, message });
    await Promise.all([...this.#lines.values()].map((line) => line.end()));
  }

  /** Leader: the work is over, or has failed where nobody else need be told why. @param code the exit code of all */
  async end(code: number): Promise<void> {
    this.#over = true;
    this.#send({ kind: 'end', code });
    await Promise.all([...this.#lines.values()].map((line) => line.end()));
  }

  #send(message: Message): void {
    for (const line of this.#lines.values()) line.send(message);
  }

  #callOff(number: number): void {
    this.#off.add(number); // who is on the way to it is not waited for
    this.#send({ kind: 'off', meeting: number });
  }

  #meetingOf(number: number, label: string): Meeting {
    const known = this.#meetings.get(number);
    if (known !== undefined) return known;
    const made: Meeting = { label, values: new Map() };
    this.#meetings.set(number, made);
    return made;
  }

  /** Somebody has come; the leader lets all pass with the last. */
  #came(rank: number, number: number, label: string, value: unknown): void {
    if (this.#off.has(number)) return; // it was called off before
    const meeting = this.#meetingOf(number, label);
    meeting.values.set(rank, value);
    if (meeting.label !== label)
      this.#fails(
        new InternalError(`workers: rank ${rank} has come to "${label}", others to "${meeting.label}"`),
      );
    if (meeting.values.size < this.size) return;
    const values = Array.from({ length: this.size }, (_, one) => meeting.values.get(one));
    this.#send({ kind: 'all', meeting: number, values });
    meeting.settle?.resolve(values);
  }

  #heardByLeader(rank: number, message: Message): void {
    if (message.kind === 'here') this.#came(rank, message.meeting, message.label, message.value);
    if (message.kind === 'fault') {
      const text = `worker ${rank} (${this.#memberOf(rank)}): ${message.message}`;
      const { name } = message;
      this.#fails(name === 'UserError' ? new UserError(text) : Object.assign(new Error(text), { name }));
    }
  }

  #heardByFollower(message: Message): void {
    if (message.kind === 'all') this.#meetings.get(message.meeting)?.settle?.resolve(message.values);
    if (message.kind === 'off') {
      const meeting = this.#meetings.get(message.meeting);
      if (meeting?.settle === undefined) this.#off.add(message.meeting);
      else meeting.settle.reject(new LeftStep());
    }
    if (message.kind === 'do') {
      if (this.#waiting === undefined) this.#commands.push(message.command);
      else this.#waiting.resolve(message.command);
      this.#waiting = undefined;
    }
    if (message.kind === 'fault') this.#fails(new Dismissed(2));
    if (message.kind === 'end') {
      this.#over = true;
      this.#fails(new Dismissed(message.code));
    }
  }

  /** The line to a worker has closed. */
  #lost(rank: number): void {
    if (this.#over || this.#fault !== undefined) return;
    const told = this.leads || this.rank === 1; // one message
    this.#fails(
      told
        ? new UserError(
            `worker ${rank} of ${this.size} (${this.#memberOf(rank)}) has ended — it was killed, or ran out of memory. The last checkpoint is whole: \`rldf resume\` goes on behind it, with any number of workers`,
          )
        : new Dismissed(2),
    );
  }

  /** Ends what is waited for, and what comes later; and the process, if it does not end by itself. */
  #fails(error: Error): void {
    if (this.#fault !== undefined) return;
    this.#fault = error;
    if (this.leads) this.#send({ kind: 'fault', name: error.name, message: error.message });
    for (const { settle } of [...this.#meetings.values()]) settle?.reject(error);
    this.#waiting?.reject(error);
    this.#waiting = undefined;
    setTimeout(() => {
      throw error;
    }, graceMs).unref();
  }

  #limit(number: number, label: string, reject: (error: Error) => void): NodeJS.Timeout {
    // the leader tells who is missing; a follower, if not even the leader answers
    const seconds = this.leads ? patience() : 1.5 * patience();
    return setTimeout(() => {
      const came = this.#meetings.get(number)?.values;
      const missing = this.leads
        ? Array.from({ length: this.size }, (_, rank) => rank).filter((rank) => !came?.has(rank))
        : [0];
      const who = missing.map((rank) => `${rank} (${this.#memberOf(rank)})`).join(', ');
      const error = new UserError(
        `worker ${this.rank} of ${this.size} has waited ${seconds} s at "${label}" for worker ${who} — it hangs, or needs longer. Look at it there; RLDF_WORKERS_TIMEOUT=SECONDS waits longer. The last checkpoint is whole`,
      );
      this.#fails(error);
      reject(error);
    }, 1000 * seconds);
  }

  #memberOf(rank: number): string {
    return this.#members[rank] ?? 'unknown';
  }
}

let current = Crew.alone();

/** The workers that this process belongs to; alone, if it was not started as one of several. */
export const crew = (): Crew => current;

/** From now on `crew()` is this. */
export function setCrew(joined: Crew): void {
  current = joined;
}
