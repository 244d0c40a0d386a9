/** The bookkeeping of tensors without numbers: storages that are counted, and the graph that keeps some of them. */

/** What memory is held, and the most there has been. */
export class Memory {
  now = 0;
  peak = 0;

  allocate(bytes: number): Storage {
    this.now += bytes;
    this.peak = Math.max(this.peak, this.now);
    return new Storage(this, bytes);
  }
}

/** A block of memory, shared by views; goes when nobody holds it any more. */
export class Storage {
  holders = 1;
  /** What is remembered as long as this is there, such as a weight in another order. */
  readonly attached = new Map<string, Storage>();

  constructor(
    readonly memory: Memory,
    readonly bytes: number,
  ) {}

  hold(): this {
    this.holders++;
    return this;
  }

  release(): void {
    if (--this.holders > 0) return;
    this.memory.now -= this.bytes;
    for (const storage of this.attached.values()) storage.release();
  }
}

/** Shape, strides in elements, libtorch's number of the type, and where its gradient comes from. */
export interface Value {
  storage: Storage;
  shape: readonly number[];
  strides: readonly number[];
  dtype: number;
  /** Beside the device, in the host's memory: its bytes do not count. */
  host?: boolean;
  /** A leaf that wants gradients, or the output of a recorded operator. */
  origin?: Origin;
}

/** Output `index` of a recorded operator; a leaf has no operator. */
export interface Origin {
  node?: Node;
  index: number;
}

/** How the gradient of an operator's input is made from that of its output. */
export interface Edge {
  origin: Origin;
  /** Bytes of the new gradient; 0 where the output's gradient is passed on, or a view of it. */
  bytes: number;
  /** Bytes needed on the way. */
  temporary?: number;
  work?: number;
  /** Memory that the first such gradient takes for good. */
  prepare?: () => void;
}

/** A recorded operator: what it keeps for backward, and what backward allocates. */
export class Node {
  static #count = 0;
  readonly sequence = Node.#count++;
  holders = 0;

  constructor(
    readonly outputs: number,
    readonly edges: readonly Edge[],
    public saved: readonly Storage[],
  ) {
    for (const storage of saved) storage.hold();
    for (const { origin } of edges) hold(origin);
  }

  /** Gives back what was saved; the edges stay. */
  forget(): void {
    for (const storage of this.saved) storage.release();
    this.saved = [];
  }
}

export function hold(origin: Origin | undefined): void {
  if (origin?.node) origin.node.holders++;
}

/** Lets go of a gradient's origin; what only it kept goes too. */
export function release(origin: Origin | undefined): void {
  const pending = [origin?.node];
  while (pending.length > 0) {
    const node = pending.pop();
    if (node === undefined || --node.holders > 0) continue;
    node.forget();
    pending.push(...node.edges.map((edge) => edge.origin.node));
  }
}

/**
 * The backward pass: nodes from the youngest to the oldest, as libtorch's engine runs them, each giving back what it
 * saved once it is done.
 *
 * @param given gradients of the outputs; owned by the caller
 * @returns one storage an input (owned by the caller); nothing for those that the outputs do not depend on
 */
export function backward(
  memory: Memory,
  outputs: readonly Origin[],
  inputs: readonly Origin[],
  given: readonly Storage[],
  retain: boolean,
  work: (operations: number, bytes: number) => void,
): (Storage | undefined)[] {
  const needed = nodesTowards(inputs, outputs);
  const leaves = new Set(inputs.filter(({ node }) => node === undefined));
  const buffers = new Map<Node | Origin, (Storage | undefined)[]>();
  const deliver = (origin: Origin, gradient: Storage) => {
    const target = origin.node ?? origin;
    if (!wanted(origin)) return gradient.release();
    const slots = buffers.get(target) ?? [];
    buffers.set(target, slots);
    const before = slots[origin.index];
    if (before === undefined) slots[origin.index] = gradient;
    else if (before.holders === 1)
      gradient.release(); // added in place
    else {
      slots[origin.index] = memory.allocate(before.bytes);
      before.release();
      gradient.release();
    }
  };
  const captured = new Map<Node, Map<number, number>>();
  inputs.forEach(({ node, index }, i) => {
    if (node) captured.set(node, (captured.get(node) ?? new Map()).set(index, i));
  });
  const results: (Storage | undefined)[] = inputs.map(() => undefined);
  const wanted = (origin: Origin) =>
    origin.node === undefined
      ? leaves.has(origin)
      : needed.has(origin.node) || captured.get(origin.node)?.has(origin.index) === true;
  outputs.forEach((origin, i) => void deliver(origin, (given[i] as Storage).hold()));

  const order = [...new Set([...needed, ...captured.keys()])].sort((a, b) => b.sequence - a.sequence);
  for (const node of order) {
    const slots = buffers.get(node);
    if (slots === undefined) continue;
    buffers.delete(node);
    for (const [index, input] of captured.get(node) ?? []) results[input] = slots[index]?.hold();
    const [first] = slots.filter((slot) => slot !== undefined);
    if (needed.has(node) && first !== undefined) {
      for (const { origin, bytes, temporary = 0, work: amount = 0, prepare } of node.edges) {
        if (!wanted(origin)) continue;
        prepare?.();
        work(amount, 3 * bytes);
        const meanwhile = memory.allocate(temporary);
        const gradient = bytes === 0 ? first.hold() : memory.allocate(bytes);
        meanwhile.release();
        deliver(origin, gradient);
      }
      if (!retain) node.forget();
    }
    for (const slot of slots) slot?.release();
  }
  inputs.forEach((origin, i) => {
    if (origin.node === undefined) results[i] = buffers.get(origin)?.[0]?.hold();
  });
  for (const slots of buffers.values()) for (const slot of slots) slot?.release();
  return results;
}

/** The nodes on a way from the outputs to one of the inputs. */
function nodesTowards(inputs: readonly Origin[], outputs: readonly Origin[]): Set<Node> {
  const leaves = new Set(inputs.filter(({ node }) => node === undefined));
  const ends = new Set(inputs.flatMap(({ node }) => node ?? []));
  const reaches = new Map<Node, boolean>();
  const all = new Set<Node>();
  const pending = outputs.flatMap(({ node }) => node ?? []);
  for (let node = pending.pop(); node; node = pending.pop()) {
    if (all.has(node)) continue;
    all.add(node);
    pending.push(...node.edges.flatMap(({ origin }) => origin.node ?? []));
  }
  for (const node of [...all].sort((a, b) => a.sequence - b.sequence)) {
    const way = ({ origin }: Edge) =>
      leaves.has(origin) ||
      (origin.node !== undefined && (ends.has(origin.node) || reaches.get(origin.node) === true));
    reaches.set(node, node.edges.some(way));
  }
  return new Set([...all].filter((node) => reaches.get(node)));
}
