/** Processes that compute together, over PyTorch's own c10d: a store where they meet, and collectives of tensors. */

import { connect, createServer } from 'node:net';
import { itemSize } from './dtype.js';
import { UserError } from './errors.js';
import { cat, ones } from './factories.js';
import { native } from './native.js';
import { scope } from './scope.js';
import { type Tensor, wrap } from './tensor.js';

/** Which of the processes this is, from 0, and how many there are. */
interface Rank {
  rank: number;
  size: number;
}

export interface StoreOptions extends Rank {
  /** Where the store listens. */
  host: string;
  /** 0, where rank 0 serves: the system chooses. */
  port: number;
  /** Whether this process opens the store there; by default rank 0 does. torchrun has opened one already. */
  serves?: boolean;
  /** Tells a restart from the attempt before it, whose entries are still in the store. */
  attempt?: string;
  /** For meeting. 600 s by default. */
  timeoutSeconds?: number;
  /** Asked while ranks are waited for: why they will not come, if that is known. */
  giveUp?: (() => Error | undefined) | undefined;
}

export interface GroupOptions extends StoreOptions {
  /** For one collective; as long as for meeting by default. */
  collectiveSeconds?: number;
  /** Whether tensors on GPUs go over NCCL; without it they go by way of the CPU. */
  nccl?: boolean;
}

/** Between two looks into the store. */
const pollMs = 10;
/** Somebody listens at the store's address: it answers at once, if it is the store. */
const answerMs = 8000;

const resolved = new Map<string, number>();

/** Looked up when it is needed: `rldf plan`'s libtorch without numbers has none of these. */
function call(name: string, ...args: unknown[]): unknown {
  const number = resolved.get(name) ?? native.resolve(name, '');
  resolved.set(name, number);
  return native.call(number, ...args);
}

/** The last group that was opened has a name of its own, since names are kept in the process. */
let opened = 0;

/** Where processes meet: entries that all can read and write. One a process. */
export class Store {
  readonly #rank: Rank;
  readonly #giveUp: NonNullable<StoreOptions['giveUp']>;

  private constructor(
    { rank, size, giveUp = () => undefined }: StoreOptions,
    /** Where it listens: `host:port`. */
    readonly address: string,
  ) {
    this.#rank = { rank, size };
    this.#giveUp = giveUp;
  }

  /** Opens it, or reaches it where another rank does. @throws UserError when the address is taken, or nobody listens there */
  static async open(options: StoreOptions): Promise<Store> {
    const { rank, size, host, port, serves = rank === 0, attempt = '0', timeoutSeconds = 600 } = options;
    const end = performance.now() + 1000 * timeoutSeconds;
    const failed = (reason: string, fix: string) =>
      new UserError(
        `rank ${rank} of ${size}, ${host}:${port}: ${serves ? 'opening' : 'reaching'} the store failed (${reason}) — ${fix}`,
      );
    // libtorch waits for an address and its answer without looking up: it is asked only when a store is there
    for (let found = serves; !found && performance.now() < end; ) {
      const reason = options.giveUp?.();
      if (reason !== undefined) throw reason;
      const who = await listener(host, port, Math.min(answerMs, end - performance.now()));
      if (who === 'silent')
        throw failed(
          'something listens there and does not answer',
          'it is no store. Choose another MASTER_PORT',
        );
      found = who === 'answers';
    }
    const wait = serves ? 1000 * timeoutSeconds : Math.min(answerMs, Math.max(1, end - performance.now()));
    try {
      const found = call('rldf::open_store', host, port, serves, `rldf/${attempt}`, Math.ceil(wait));
      return new Store(options, `${host}:${found}`);
    } catch (error) {
      const fix = serves
        ? 'the port must be free. Choose another with MASTER_PORT'
        : `rank 0 must listen there. Look whether it runs, and whether MASTER_ADDR and MASTER_PORT are the same everywhere`;
      throw failed(firstLine(error), fix);
    }
  }

  /** Writes an entry. */
  set(key: string, value: string): void {
    this.#attempt(`writing ${key} to the store`, () => call('rldf::store_set', key, value));
  }

  /** Reads one, if somebody has written it. */
  peek(key: string): string | undefined {
    return this.#attempt(`reading ${key} in the store`, () => call('rldf::store_get', key)) as
      | string
      | undefined;
  }

  /** Reads one; waits until somebody has written it. @throws UserError after `seconds`, or when it is given up */
  async get(key: string, seconds = 60): Promise<string> {
    for (const end = performance.now() + 1000 * seconds; ; ) {
      const found = this.peek(key);
      if (found !== undefined) return found;
      const reason = this.#giveUp();
      if (reason !== undefined) throw reason;
      if (performance.now() > end)
        return this.#attempt(`waiting ${seconds} s for ${key} in the store`, () => {
          throw new Error('nobody has written it');
        });
      await new Promise((resolve) => setTimeout(resolve, pollMs));
    }
  }

  /** Some ranks were waited for so long in vain. */
  inVain(missing: readonly number[], seconds: number): UserError {
    const { rank, size } = this.#rank;
    const [ranks, them] = missing.length > 1 ? ['ranks', 'them'] : ['rank', 'it'];
    return new UserError(
      `rank ${rank} of ${size}, ${this.address}: ${ranks} ${missing.join(', ')} did not come within ${seconds} s — all ${size} must be started. Look at what the launcher says of ${them}`,
    );
  }

  #attempt<T>(what: string, run: () => T): T {
    try {
      return run();
    } catch (error) {
      throw new UserError(
        `rank ${this.#rank.rank} of ${this.#rank.size}, ${this.address}: ${what} failed (${firstLine(error)}) — it ends with rank 0. Look at rank 0's message`,
      );
    }
  }
}

/**
 * Processes that meet at a store. All make the same calls in the same order; every failure is a UserError that says which rank
 * did what, and where.
 */
export class Group {
  readonly rank: number;
  readonly size: number;
  /** Whether tensors on GPUs go over NCCL. */
  readonly nccl: boolean;
  /** Collectives so far, and bytes that were given to them. */
  readonly traffic = { collectives: 0, bytes: 0, seconds: 0 };
  readonly #name: string;

  /** All ranks must have come to the store: opening waits for them without looking up. */
  constructor(
    readonly store: Store,
    {
      rank,
      size,
      host,
      timeoutSeconds = 600,
      collectiveSeconds = timeoutSeconds,
      nccl = false,
    }: GroupOptions,
  ) {
    this.rank = rank;
    this.size = size;
    this.#name = `rldf-${opened++}`;
    this.nccl = this.#attempt('opening the group', () => {
      const bind = /^(localhost|127\..*)$/.test(host) ? '127.0.0.1' : '';
      return call(
        'rldf::open_group',
        this.#name,
        rank,
        size,
        bind,
        1000 * collectiveSeconds,
        nccl,
      ) as boolean;
    });
  }

  /** Meets the other ranks. @throws UserError when the address is taken, nobody listens there, or a rank does not come */
  static async open(options: GroupOptions): Promise<Group> {
    const { rank, size, timeoutSeconds = 600 } = options;
    const end = performance.now() + 1000 * timeoutSeconds;
    const store = await Store.open(options);
    store.set(`rank/${rank}`, 'here');
    for (const missing = new Set(Array.from({ length: size }, (_, other) => other)); ; ) {
      for (const other of missing) if (store.peek(`rank/${other}`) !== undefined) missing.delete(other);
      if (missing.size === 0) return new Group(store, options);
      const reason = options.giveUp?.();
      if (reason !== undefined) throw reason;
      if (performance.now() >= end) throw store.inVain([...missing], timeoutSeconds);
      await new Promise((resolve) => setTimeout(resolve, pollMs));
    }
  }

  /** Sum over all ranks (or another reduction), in place. */
  allReduce(tensor: Tensor, by: 'sum' | 'max' | 'min' = 'sum'): Tensor {
    return this.#collective(`all-reduce (${by})`, tensor, (one) =>
      call('_c10d_functional::all_reduce_', one.handle, by, this.#name),
    );
  }

  /**
   * Sums of many tensors, in place: in flat buffers of `bucketBytes`, the next of which is packed while one is under way. What fits
   * into one goes as one.
   */
  allReduceAll(tensors: readonly Tensor[], bucketBytes = 2 ** 25): void {
    scope(() => {
      const begun = bucketsOf(tensors, bucketBytes).map((bucket) => {
        const joined = cat(bucket.map((tensor) => tensor.reshape([-1])));
        const flat = this.nccl ? joined : joined.to('cpu');
        const name = `all-reduce (sum) of ${bucket.length} tensors`;
        this.#counted(name, flat, () =>
          call('_c10d_functional::all_reduce_', flat.handle, 'sum', this.#name),
        );
        return { bucket, flat, name };
      });
      for (const { bucket, flat, name } of begun) {
        this.#timed(name, () => call('_c10d_functional::wait_tensor', flat.handle));
        let start = 0;
        for (const tensor of bucket) {
          const length = elements(tensor);
          tensor.copy_(flat.narrow(0, start, length).reshape(tensor.shape));
          start += length;
        }
      }
    });
  }

  /** The values of rank `from`, in place. */
  broadcast(tensor: Tensor, from = 0): Tensor {
    return this.#collective(`broadcast from rank ${from}`, tensor, (one) =>
      call('_c10d_functional::broadcast_', one.handle, from, this.#name),
    );
  }

  /** Tensors of one shape, one of each rank, behind each other in their first dimension. */
  allGather(tensor: Tensor): Tensor {
    const name = 'all-gather';
    return scope(() => {
      const given = this.nccl ? tensor.contiguous() : tensor.to('cpu').contiguous();
      const gathered = this.#counted(name, given, () => {
        const begun = call('_c10d_functional::all_gather_into_tensor', given.handle, this.size, this.#name);
        return wrap(call('_c10d_functional::wait_tensor', begun) as number);
      });
      return gathered.to(tensor.device);
    });
  }

  /** Returns when all ranks have called it. */
  barrier(): void {
    scope(() => {
      const one = ones([1]);
      this.#counted('barrier', one, () => {
        call(
          '_c10d_functional::wait_tensor',
          call('_c10d_functional::all_reduce_', one.handle, 'sum', this.#name),
        );
      });
    });
  }

  close(): void {
    call('rldf::close_group', this.#name);
  }

  /** In place; a tensor that the group cannot send as it is, by way of a copy. */
  #collective(name: string, tensor: Tensor, begin: (tensor: Tensor) => unknown): Tensor {
    scope(() => {
      const sent = this.nccl ? tensor.contiguous() : tensor.to('cpu').contiguous();
      // the operator returns at once: what it writes is there only after the wait
      this.#counted(name, sent, () => call('_c10d_functional::wait_tensor', begin(sent)));
      if (sent !== tensor) tensor.copy_(sent);
    });
    return tensor;
  }

  #counted<T>(name: string, tensor: Tensor, run: () => T): T {
    const number = ++this.traffic.collectives;
    this.traffic.bytes += elements(tensor) * itemSize[tensor.dtype];
    return this.#timed(`${name} ${number} of ${tensor.dtype}[${tensor.shape}]`, run);
  }

  #timed<T>(what: string, run: () => T): T {
    const began = performance.now();
    const result = this.#attempt(what, run);
    this.traffic.seconds += (performance.now() - began) / 1000;
    return result;
  }

  #attempt<T>(what: string, run: () => T): T {
    try {
      return run();
    } catch (error) {
      throw new UserError(
        `rank ${this.rank} of ${this.size}, ${this.store.address}: ${what} failed (${firstLine(error)}) — every rank must be alive and within reach. Look at the messages of the others; \`rldf resume\` goes on behind the last checkpoint`,
      );
    }
  }
}

const elements = ({ shape }: Tensor) => shape.reduce((product, size) => product * size, 1);

/** In their order, of one dtype each, as many together as fit. */
function bucketsOf(tensors: readonly Tensor[], bytes: number): Tensor[][] {
  const buckets: Tensor[][] = [];
  let room = 0;
  for (const tensor of tensors) {
    const size = elements(tensor) * itemSize[tensor.dtype];
    const last = buckets.at(-1);
    if (last !== undefined && last[0]?.dtype === tensor.dtype && size <= room) last.push(tensor);
    else {
      buckets.push([tensor]);
      room = bytes;
    }
    room -= size;
  }
  return buckets;
}

/** Asks a store how many entries it has, as libtorch does: VALIDATE with its number, GETNUMKEYS. */
const question = Buffer.from([0, 0xce, 0xf7, 0x85, 0x3c, 7]);

/** Below those that the system itself gives to connections: 32768 and up on Linux, 49152 and up elsewhere. */
const ports = { first: 20_000, count: 12_000 };
let tried = 0;

/** A port for a store of this machine. It stays free until it is opened, as no connection is given it meanwhile. */
export async function freePort(): Promise<number> {
  for (let i = 0; i < ports.count; i++) {
    const port = ports.first + ((8 * process.pid + tried++) % ports.count); // each process begins at another one
    const server = createServer();
    const free = await new Promise<boolean>((resolve) => {
      server.once('error', () => resolve(false));
      server.listen({ port, exclusive: true }, () => resolve(true));
    });
    if (free) await new Promise((resolve) => server.close(resolve));
    if (free) return port;
  }
  const last = ports.first + ports.count - 1;
  throw new UserError(
    `workers: no port from ${ports.first} to ${last} is free — the workers of this machine meet at one. Free one, or look what listens there (\`ss -ltn\`)`,
  );
}

/** Who listens at an address. Tells nobody after a second at most, and not at once. */
async function listener(
  host: string,
  port: number,
  patience: number,
): Promise<'nobody' | 'answers' | 'silent'> {
  const socket = connect({ host, port, timeout: 1000 });
  try {
    return await new Promise((resolve) => {
      socket.once('connect', () => {
        socket.setTimeout(patience, () => resolve('silent'));
        socket.write(question);
      });
      socket.once('timeout', () => socket.connecting && resolve('nobody'));
      socket.once('data', () => resolve('answers'));
      socket.once('end', () => resolve('answers')); // in its way
      socket.once('error', () => setTimeout(() => resolve('nobody'), 20 * pollMs));
    });
  } finally {
    socket.destroy();
  }
}

/** Without where libtorch was compiled, and what it advises. */
const firstLine = (error: unknown) =>
  (((error as Error).message ?? String(error)).split('\n')[0] ?? '')
    .replace(/\[\/[^\]]*\] /g, '')
    .replace(/\. This is typically.*GLHF[^[]*/, ' ')
    .trim();
