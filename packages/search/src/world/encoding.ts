/** States of a search: integer vectors, the derivations of a grammar behind them, and their sentences. */

import { articleOf } from '@rldf/emoji-world';
import { InternalError, UserError } from '@rldf/torch/errors';
import type { Alternative, Grammar } from './grammar.js';

/** A state: one coordinate an axis, each from 0 to the axis' length - 1. */
export type State = readonly number[];

/** One choice of the grammar, at one place of the sentence: a coordinate of states, or a control. */
export interface Axis {
  /** The symbol; its second occurrence in a sentence is "Noun 2". */
  readonly name: string;
  readonly symbol: string;
  readonly alternatives: readonly Alternative[];
  /** Meanings of the alternatives, in the file's order. */
  readonly meanings: readonly string[];
  /** All alternatives in the order of semantic locality. */
  readonly wholeOrder: readonly number[];
  /** Those that this axis has, a window of `wholeOrder`: value i of a state stands for alternative order[i]. */
  readonly order: readonly number[];
  /** Not searched: the first choice, or drawn uniformly for the final pictures. */
  readonly control: boolean;
  readonly role: 'count' | 'object' | 'scene' | 'other';
}

/** For axes by name: all alternatives in a new order, and from where on how many of them the axis has. Default: the file's, all. */
export type AxisOrders = Readonly<
  Record<string, { readonly order: readonly number[]; readonly from?: number; readonly length?: number }>
>;

interface Place {
  symbol: string;
  /** Index among all axes, if there is a choice. */
  axis: number | undefined;
  alternatives: readonly (Alternative & { places?: Place[] })[];
}

/** Choices by the axis' name, as meanings: `{ Noun: 'cat', Scene: 'grass' }`. */
export type Meanings = Readonly<Record<string, string>>;

/** A terminal with the axis that chose it. */
interface Terminal {
  alternative: Alternative & { kind: 'words' };
  symbol: string;
  /** The synonym that is said. */
  variant: number;
}

export class Encoding {
  readonly grammar: Grammar;
  /** All choices of the grammar, in the order of the sentence. */
  readonly choices: readonly Axis[];
  /** Those that are searched: the coordinates of a state. */
  readonly axes: readonly Axis[];
  readonly controls: readonly Axis[];
  /** Number of states. */
  readonly size: number;
  readonly #root: Place;
  /** Of each choice: its index among `axes` or `controls`. */
  readonly #slots: readonly number[];
  readonly #strides: readonly number[];

  constructor(grammar: Grammar, orders: AxisOrders = {}) {
    this.grammar = grammar;
    const choices: Axis[] = [];
    this.#root = placesOf(grammar, grammar.start, choices, orders);
    this.choices = choices;
    this.axes = choices.filter(({ control }) => !control);
    this.controls = choices.filter(({ control }) => control);
    this.#slots = choices.map((axis) => (axis.control ? this.controls : this.axes).indexOf(axis));
    this.size = this.axes.reduce((product, { order }) => product * order.length, 1);
    if (!Number.isSafeInteger(this.size))
      throw new UserError(
        `${grammar.where}: has more states than can be counted — declare controls or windows`,
      );
    this.#strides = this.axes.map((_, i) =>
      this.axes.slice(i + 1).reduce((product, { order }) => product * order.length, 1),
    );
  }

  /** The state's number, 0 to size - 1, the last axis fastest. */
  indexOf(state: State): number {
    return this.axes.reduce((sum, { order, name }, i) => {
      const value = state[i] as number;
      if (!(Number.isInteger(value) && value >= 0 && value < order.length))
        throw new InternalError(`state [${state}]: ${name} is ${value} — 0 to ${order.length - 1}`);
      return sum + value * this.#strides[i]!;
    }, 0);
  }

  stateOf(index: number): number[] {
    return this.axes.map(({ order }, i) => Math.floor(index / this.#strides[i]!) % order.length);
  }

  /** What a state says. @param controls one value a control; default: the first choice of each */
  sentence(state: State, controls?: readonly number[]): string {
    return render(
      this.#terminals((choice) => this.#chosen(choice, state, controls), 0),
      this.grammar,
    );
  }

  /**
   * A sentence with each choice given by its meaning; choices not named are the file's first. Windows do not matter.
   * @param variant which synonym is said where there are several
   */
  sentenceOf(meanings: Meanings, variant: Readonly<Record<string, number>> = {}): string {
    const chosen = (choice: number) => {
      const { name, meanings: known } = this.choices[choice] as Axis;
      return Math.max(0, meanings[name] === undefined ? 0 : known.indexOf(meanings[name]));
    };
    return render(
      this.#terminals(chosen, (choice) => variant[(this.choices[choice] as Axis).name] ?? 0),
      this.grammar,
    );
  }

  /** What each axis of a state means. */
  meaningsOf(state: State): Record<string, string> {
    return Object.fromEntries(
      this.axes.map(({ name, meanings, order }, i) => [
        name,
        meanings[order[state[i] as number] as number] as string,
      ]),
    );
  }

  /**
   * The state that means this. Of an ordered axis whose window lacks the meaning, the nearer end; a number between two
   * of a counting axis, the nearer one.
   * @throws UserError for a meaning that the grammar lacks
   */
  encode(meanings: Meanings): number[] {
    return this.axes.map((axis) => {
      const meaning = meanings[axis.name];
      const alternative = meaning === undefined ? -1 : axis.meanings.indexOf(meaning);
      if (alternative < 0)
        throw new UserError(
          `${this.grammar.where}: ${axis.name} cannot be "${meaning ?? ''}" — it is one of ${axis.meanings.slice(0, 12).join(', ')}${axis.meanings.length > 12 ? ', ...' : ''}`,
        );
      const value = axis.order.indexOf(alternative);
      return value >= 0 ? value : nearestValue(axis, alternative);
    });
  }

  /** The opposite of `sentence`: undefined for what no state says. */
  parse(sentence: string): { state: number[]; controls: number[] } | undefined {
    const text = sentence.trim().replace(/\s+/g, ' ');
    const chosen = new Array<number>(this.choices.length).fill(0);
    const read = (): { state: number[]; controls: number[] } | undefined => {
      const part = (control: boolean) =>
        this.choices.flatMap((axis, i) => (axis.control === control ? [chosen[i] as number] : []));
      const found = { state: part(false), controls: part(true) };
      return this.sentence(found.state, found.controls) === text ? found : undefined;
    };
    /** Reads places from `position` on, then what follows them. */
    const match = (
      places: readonly Place[],
      position: number,
      rest: (position: number) => ReturnType<typeof read>,
    ): ReturnType<typeof read> => {
      const [place, ...others] = places;
      if (place === undefined) return rest(position);
      const values = place.axis === undefined ? [0] : (this.choices[place.axis] as Axis).order;
      for (const [value, index] of values.entries()) {
        const one = place.alternatives[index]!;
        if (place.axis !== undefined) chosen[place.axis] = value;
        const after = (end: number) => match(others, end, rest);
        if (one.places !== undefined) {
          const found = match(one.places, position, after);
          if (found !== undefined) return found;
        } else if (one.kind === 'words') {
          for (const form of new Set([
            one.words[0]!,
            one.plural,
            one.words[0] === 'a' ? 'an' : one.words[0]!,
          ])) {
            const end = endOf(text, position, form);
            const found = end === undefined ? undefined : after(end);
            if (found !== undefined) return found;
          }
        }
      }
      if (place.axis !== undefined) chosen[place.axis] = 0;
      return undefined;
    };
    return match([this.#root], 0, (position) => (position === text.length ? read() : undefined));
  }

  /** Each counted object of the sentence: the axis of its number and of its name, or what is fixed. */
  counted(): { count: Axis | number; object: Axis | string }[] {
    const found: { count: Axis | number; object: Axis | string }[] = [];
    let count: Axis | number = 1;
    const visit = ({ symbol, axis, alternatives }: Place): void => {
      const choice = axis === undefined ? undefined : (this.choices[axis] as Axis);
      const words = alternatives[0]!;
      const fixed = words.kind === 'words' ? words.means : '';
      if (this.grammar.counts.has(symbol)) count = choice ?? Number(fixed);
      else if (this.grammar.objects.has(symbol)) {
        found.push({ count, object: choice ?? fixed });
        count = 1;
      } else for (const one of alternatives) one.places?.forEach(visit);
    };
    visit(this.#root);
    return found;
  }

  #chosen(choice: number, state: State, controls: readonly number[] | undefined): number {
    const axis = this.choices[choice] as Axis;
    const slot = this.#slots[choice] as number;
    return axis.order[axis.control ? (controls?.[slot] ?? 0) : (state[slot] as number)] as number;
  }

  #terminals(chosen: (choice: number) => number, variant: 0 | ((choice: number) => number)): Terminal[] {
    const terminals: Terminal[] = [];
    const visit = ({ symbol, axis, alternatives }: Place): void => {
      const one = alternatives[axis === undefined ? 0 : chosen(axis)]!;
      if (one.places !== undefined) one.places.forEach(visit);
      else if (one.kind === 'words') {
        const said = axis === undefined || variant === 0 ? 0 : variant(axis);
        terminals.push({ alternative: one, symbol, variant: Math.min(said, one.words.length - 1) });
      }
    };
    visit(this.#root);
    return terminals;
  }
}

/** Unfolds a symbol; every place with a choice becomes an axis. */
function placesOf(grammar: Grammar, symbol: string, axes: Axis[], orders: AxisOrders): Place {
  const alternatives = grammar.productions.get(symbol) as readonly Alternative[];
  let axis: number | undefined;
  if (alternatives.length > 1) {
    const earlier = axes.filter((other) => other.symbol === symbol).length;
    const name = earlier === 0 ? symbol : `${symbol} ${earlier + 1}`;
    const { order, from = 0, length } = orders[name] ?? { order: alternatives.map((_, i) => i) };
    axis = axes.length;
    axes.push({
      name,
      symbol,
      alternatives,
      meanings: alternatives.map((one) => (one.kind === 'words' ? one.means : one.symbols.join(' '))),
      wholeOrder: order,
      order: order.slice(from, length === undefined ? undefined : from + length),
      control: grammar.controls.has(symbol),
      role: grammar.counts.has(symbol)
        ? 'count'
        : grammar.objects.has(symbol)
          ? 'object'
          : grammar.scenes.has(symbol)
            ? 'scene'
            : 'other',
    });
  }
  return {
    symbol,
    axis,
    alternatives: alternatives.map((one) =>
      one.kind === 'words'
        ? one
        : { ...one, places: one.symbols.map((child) => placesOf(grammar, child, axes, orders)) },
    ),
  };
}

/** Words in a row: what is counted agrees with its number, "a" with what follows, a comma leans on the word before it. */
function render(terminals: readonly Terminal[], { counts, objects }: Grammar): string {
  let number = 1;
  const words = terminals.map(({ alternative, symbol, variant }) => {
    if (counts.has(symbol)) number = Number(alternative.means);
    const many = objects.has(symbol) && number !== 1;
    if (objects.has(symbol)) number = 1;
    return many ? alternative.plural : (alternative.words[variant] as string);
  });
  const said = words
    .join(' ')
    .split(/\s+/)
    .filter((word) => word !== '');
  return said
    .map((word, i) => (word === 'a' && said[i + 1] !== undefined ? articleOf(said[i + 1] as string) : word))
    .join(' ')
    .replaceAll(' ,', ',');
}

/** Where `form` ends if `text` says it at `position`; words are separated by one space, a comma by none. */
function endOf(text: string, position: number, form: string): number | undefined {
  if (form === '') return position;
  const start = position === 0 || form.startsWith(',') ? position : position + 1;
  if (start > position && text[position] !== ' ') return undefined;
  const end = start + form.length;
  return text.startsWith(form, start) && (end === text.length || /[ ,]/.test(text[end]!)) ? end : undefined;
}

function nearestValue({ role, meanings, wholeOrder, order }: Axis, alternative: number): number {
  const place = (one: number) => (role === 'count' ? Number(meanings[one]) : wholeOrder.indexOf(one));
  const distance = (other: number) => Math.abs(place(other) - place(alternative));
  return order.reduce((best, other, i) => (distance(other) < distance(order[best] as number) ? i : best), 0);
}
