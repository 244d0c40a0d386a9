/** The decision process that agents see: numbered states on an n-dimensional grid, and a reward for entering each. */

import { InternalError } from '@rldf/torch/errors';

export interface Environment {
  /** How many: states are 0 to states - 1. */
  readonly states: number;
  /** How many: action 2 i lowers coordinate i by one, action 2 i + 1 raises it. */
  readonly actions: number;
  /** The terminal state: the encoding of the input picture. */
  readonly goal: number;
  /** Discount γ in [0, 1). */
  readonly gamma: number;
  /** The actions that do not leave the grid: A(v) of the paper. */
  allowed(state: number): readonly number[];
  /** Where an action leads. Deterministic. */
  move(state: number, action: number): number;
  /**
   * Reward of entering a state, the goal's bonus included. Without dynamic seeds a pure function of the state; may draw a
   * picture the first time.
   */
  reward(state: number): number | Promise<number>;
}

/** The grid of an encoding's axes, the last one fastest. @param lengths number of values of each axis */
export class Grid {
  readonly states: number;
  readonly actions: number;
  /** Number of values of each axis. */
  readonly lengths: readonly number[];
  readonly #strides: readonly number[];
  readonly #allowed: (readonly number[])[] = [];

  constructor(lengths: readonly number[]) {
    this.lengths = lengths;
    this.#strides = lengths.map((_, i) =>
      lengths.slice(i + 1).reduce((product, length) => product * length, 1),
    );
    this.states = lengths.reduce((product, length) => product * length, 1);
    this.actions = 2 * lengths.length;
  }

  coordinate(state: number, axis: number): number {
    return Math.floor(state / this.#strides[axis]!) % this.lengths[axis]!;
  }

  allowed(state: number): readonly number[] {
    this.#allowed[state] ??= this.lengths.flatMap((length, axis) => {
      const value = this.coordinate(state, axis);
      return [...(value > 0 ? [2 * axis] : []), ...(value < length - 1 ? [2 * axis + 1] : [])];
    });
    return this.#allowed[state]!;
  }

  move(state: number, action: number): number {
    if (!this.allowed(state).includes(action))
      throw new InternalError(`Grid: action ${action} leaves the grid at state ${state}`);
    return state + (action % 2 === 1 ? 1 : -1) * this.#strides[action >> 1]!;
  }

  /** States one step away. */
  neighbours(state: number): number[] {
    return this.allowed(state).map((action) => this.move(state, action));
  }

  /** Steps between two states: the sum of coordinate differences. */
  distance(a: number, b: number): number {
    return this.lengths.reduce(
      (sum, _, axis) => sum + Math.abs(this.coordinate(a, axis) - this.coordinate(b, axis)),
      0,
    );
  }

  /** The largest distance of two states. */
  get diameter(): number {
    return this.lengths.reduce((sum, length) => sum + length - 1, 0);
  }
}

/** An environment whose rewards are known: a table of them, to which the goal's bonus is added. */
export function tabularEnvironment(
  lengths: readonly number[],
  goal: number,
  rewards: readonly number[],
  { gamma, bonus }: { gamma: number; bonus: number },
): Environment & { grid: Grid } {
  const grid = new Grid(lengths);
  return {
    grid,
    states: grid.states,
    actions: grid.actions,
    goal,
    gamma,
    allowed: (state) => grid.allowed(state),
    move: (state, action) => grid.move(state, action),
    reward: (state) => rewards[state]! + (state === goal ? bonus : 0),
  };
}
