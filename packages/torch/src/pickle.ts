/** Reads pickles as data: nothing is ever imported or called but what the caller allows by name. */

import { shown, UserError } from './errors.js';

/** What a pickle may hold here. Dictionaries are maps, tuples are arrays. */
export type Pickled = unknown;

/** Names that a pickle may refer to: functions of their arguments, or values that stand for themselves. */
export interface Allowed {
  /** `module name` -> what becomes of calling it. */
  functions: ReadonlyMap<string, (args: readonly Pickled[]) => Pickled>;
  /** `module name` -> what it stands for. */
  values: ReadonlyMap<string, Pickled>;
  /** What a persistent id stands for. */
  persistent(id: Pickled): Pickled;
}

/** Another thing than data that a pickle names, allowed. */
class Name {
  constructor(
    readonly name: string,
    readonly call: ((args: readonly Pickled[]) => Pickled) | undefined,
    readonly value: Pickled,
  ) {}
}

const MARK = Symbol('mark');

/** Refuses what is no well-formed pickle of data, or names anything that is not allowed. @throws UserError */
export function unpickle(bytes: Uint8Array, where: string, allowed: Allowed): Pickled {
  return new Reader(bytes, where, allowed).read();
}

/** The same of the first of several pickles. @returns also where the next one begins */
export function unpickleFirst(
  bytes: Uint8Array,
  where: string,
  allowed: Allowed,
): { value: Pickled; end: number } {
  const reader = new Reader(bytes, where, allowed);
  return { value: reader.read(), end: reader.end };
}

class Reader {
  readonly #view: DataView;
  readonly #stack: Pickled[] = [];
  readonly #memo = new Map<number, Pickled>();
  #at = 0;

  constructor(
    readonly bytes: Uint8Array,
    readonly where: string,
    readonly allowed: Allowed,
  ) {
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  }

  /** How far it has read. */
  get end(): number {
    return this.#at;
  }

  read(): Pickled {
    for (;;) {
      const code = this.#uint(1);
      if (code === 0x2e) {
        if (this.#stack.length !== 1) throw this.#broken(`${this.#stack.length} values are left at its end`);
        return plain(this.#pop());
      }
      const step = steps[code];
      if (step === undefined) {
        throw this.#refuse(
          `its opcode 0x${code.toString(16)} at byte ${this.#at - 1} — only plain data and tensors are read, nothing that would run`,
        );
      }
      step(this, code);
    }
  }

  // The steps below are called by opcode only.

  push(value: Pickled): void {
    this.#stack.push(value);
  }

  pop(): Pickled {
    return this.#pop();
  }

  uint(size: 1 | 2 | 4 | 8): number {
    return this.#uint(size);
  }

  int32(): number {
    this.#need(4);
    const value = this.#view.getInt32(this.#at, true);
    this.#at += 4;
    return value;
  }

  float64(): number {
    this.#need(8);
    const value = this.#view.getFloat64(this.#at, false); // the one number that pickles store big-endian
    this.#at += 8;
    return value;
  }

  text(length: number): string {
    this.#need(length);
    const text = Buffer.from(this.bytes.buffer, this.bytes.byteOffset + this.#at, length).toString('utf8');
    this.#at += length;
    return text;
  }

  /** Little-endian two's complement, as long as it says. */
  long(length: number): number | bigint {
    this.#need(length);
    let value = 0n;
    for (let i = length - 1; i >= 0; i--) value = (value << 8n) | BigInt(this.bytes[this.#at + i]!);
    if (length > 0 && this.bytes[this.#at + length - 1]! >= 0x80) value -= 1n << BigInt(8 * length);
    this.#at += length;
    const narrow = Number(value);
    return Number.isSafeInteger(narrow) ? narrow : value;
  }

  line(): string {
    const end = this.bytes.indexOf(0x0a, this.#at);
    if (end < 0) throw this.#broken('it ends within a line');
    const text = this.text(end - this.#at);
    this.#at++;
    return text;
  }

  /** Everything above the newest mark. */
  sinceMark(): Pickled[] {
    const mark = this.#stack.lastIndexOf(MARK);
    if (mark < 0) throw this.#broken('a mark is missing');
    const items = this.#stack.splice(mark).slice(1);
    return items.map(plain);
  }

  mark(): void {
    this.#stack.push(MARK);
  }

  put(index: number): void {
    this.#memo.set(index, this.#top());
  }

  memoize(): void {
    this.#memo.set(this.#memo.size, this.#top());
  }

  get(index: number): void {
    if (!this.#memo.has(index)) throw this.#broken(`it refers to value ${index}, which is not there`);
    this.#stack.push(this.#memo.get(index));
  }

  name(module: Pickled, name: Pickled): void {
    const full = `${module} ${name}`;
    const call = this.allowed.functions.get(full);
    if (call === undefined && !this.allowed.values.has(full)) {
      throw this.#refuse(
        `it names ${`${module}.${name}`.slice(0, 100)} — a pickle may run what it names, so only tensors and plain data are read`,
      );
    }
    this.#stack.push(new Name(full, call, this.allowed.values.get(full)));
  }

  reduce(): void {
    const args = this.#list(this.#pop(), 'arguments');
    const callee = this.#pop();
    if (!(callee instanceof Name) || callee.call === undefined)
      throw this.#refuse('it calls something that is no function — only tensors and plain data are read');
    this.#stack.push(callee.call(args));
  }

  /** Attributes of a dictionary, such as the versions that torch keeps beside a state dict, mean nothing here. */
  build(): void {
    this.#pop();
    if (!(this.#top() instanceof Map))
      throw this.#refuse('it sets the state of an object — only tensors and plain data are read');
  }

  setItems(items: readonly Pickled[]): void {
    const target = this.#top();
    if (!(target instanceof Map) || items.length % 2 !== 0)
      throw this.#broken('items are set of what is no dictionary');
    for (let i = 0; i < items.length; i += 2) target.set(items[i], items[i + 1]);
  }

  append(items: readonly Pickled[]): void {
    const target = this.#list(this.#top(), 'list');
    for (const item of items) target.push(item);
  }

  persistent(): void {
    this.#stack.push(this.allowed.persistent(plain(this.#pop())));
  }

  #list(value: Pickled, what: string): Pickled[] {
    if (Array.isArray(value)) return value;
    throw this.#broken(`what should be its ${what} is ${shown(value)}`);
  }

  #top(): Pickled {
    const top = this.#stack.at(-1);
    if (this.#stack.length === 0 || top === MARK) throw this.#broken('a value is missing');
    return top;
  }

  #pop(): Pickled {
    const top = this.#top();
    this.#stack.pop();
    return top;
  }

  #uint(size: 1 | 2 | 4 | 8): number {
    this.#need(size);
    const at = this.#at;
    this.#at += size;
    if (size === 1) return this.bytes[at]!;
    if (size === 2) return this.#view.getUint16(at, true);
    if (size === 4) return this.#view.getUint32(at, true);
    const wide = this.#view.getBigUint64(at, true);
    if (wide > BigInt(this.bytes.length)) throw this.#broken('a length reaches beyond its end');
    return Number(wide);
  }

  #need(count: number): void {
    if (this.#at + count > this.bytes.length) throw this.#broken('it ends too early');
  }

  #broken(what: string): UserError {
    return new UserError(`${this.where}: the pickle is damaged: ${what}. Copy or download the file again.`);
  }

  #refuse(what: string): UserError {
    return new UserError(
      `${this.where}: refused, ${what}. Take the safetensors version, or convert the file where you trust it.`,
    );
  }
}

function plain(item: Pickled): Pickled {
  return item instanceof Name ? item.value : item;
}

/** Protocols 2 to 4, without the opcodes that build objects of classes. */
const steps: { readonly [code: number]: (reader: Reader, code: number) => void } = {
  128: (r) => void r.uint(1), // PROTO
  149: (r) => void r.uint(8), // FRAME
  148: (r) => r.memoize(), // MEMOIZE
  40: (r) => r.mark(), // MARK
  48: (r) => void r.pop(), // POP
  78: (r) => r.push(null), // NONE
  136: (r) => r.push(true), // NEWTRUE
  137: (r) => r.push(false), // NEWFALSE
  74: (r) => r.push(r.int32()), // BININT
  75: (r) => r.push(r.uint(1)), // BININT1
  77: (r) => r.push(r.uint(2)), // BININT2
  138: (r) => r.push(r.long(r.uint(1))), // LONG1
  71: (r) => r.push(r.float64()), // BINFLOAT
  88: (r) => r.push(r.text(r.uint(4))), // BINUNICODE
  140: (r) => r.push(r.text(r.uint(1))), // SHORT_BINUNICODE
  125: (r) => r.push(new Map()), // EMPTY_DICT
  93: (r) => r.push([]), // EMPTY_LIST
  41: (r) => r.push([]), // EMPTY_TUPLE
  133: (r) => tuple(r, 1),
  134: (r) => tuple(r, 2),
  135: (r) => tuple(r, 3),
  116: (r) => r.push(r.sinceMark()), // TUPLE
  108: (r) => r.push(r.sinceMark()), // LIST
  97: (r) => r.append([plain(r.pop())]), // APPEND
  101: (r) => r.append(r.sinceMark()), // APPENDS
  115: (r) => {
    const value = plain(r.pop());
    r.setItems([plain(r.pop()), value]); // SETITEM
  },
  117: (r) => r.setItems(r.sinceMark()), // SETITEMS
  113: (r) => r.put(r.uint(1)), // BINPUT
  114: (r) => r.put(r.uint(4)), // LONG_BINPUT
  104: (r) => r.get(r.uint(1)), // BINGET
  106: (r) => r.get(r.uint(4)), // LONG_BINGET
  99: (r) => r.name(r.line(), r.line()), // GLOBAL
  147: (r) => {
    const name = r.pop();
    r.name(r.pop(), name); // STACK_GLOBAL
  },
  82: (r) => r.reduce(), // REDUCE
  98: (r) => r.build(), // BUILD
  81: (r) => r.persistent(), // BINPERSID
};

function tuple(reader: Reader, count: number): void {
  const items = Array.from({ length: count }, () => plain(reader.pop()));
  reader.push(items.reverse());
}
