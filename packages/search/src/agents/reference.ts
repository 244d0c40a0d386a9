/** Searches without learning, to hold the agents against: enumeration without replacement and a hill-climber. */

import { noiseKey, Random } from '@rldf/torch';
import type { Environment } from '../world/environment.js';

/** A state that was looked at. */
export interface LookEvent {
  /** Looks so far, this one included. */
  step: number;
  state: number;
  reward: number;
  reachedGoal: boolean;
}

/**
 * All states in a random order, each once, up to the goal. Finds a goal that lies anywhere among n states after (n + 1)/2
 * pictures on average: an agent that draws more distinct pictures than that has shown nothing.
 */
export async function* enumerate(
  environment: Environment,
  { seed }: { seed: number },
): AsyncGenerator<LookEvent, void> {
  const order = new Random(noiseKey(seed, 'search-enumeration')).shuffle(
    Array.from({ length: environment.states }, (_, state) => state),
  );
  for (const [index, state] of order.entries()) {
    const reward = await environment.reward(state);
    const reachedGoal = state === environment.goal;
    yield { step: index + 1, state, reward, reachedGoal };
    if (reachedGoal) return;
  }
}

/**
 * Looks at all neighbours and steps to the best that improves on where it stands; on a peak it begins anew, at a random
 * state. Ends at the goal, or after `steps` looks.
 */
export async function* climbHill(
  environment: Environment,
  { seed, start, steps }: { seed: number; start: number; steps: number },
): AsyncGenerator<LookEvent, void> {
  const random = new Random(noiseKey(seed, 'search-climb'));
  let step = 0;
  const look = async (state: number): Promise<LookEvent> => {
    const reward = await environment.reward(state);
    return { step: ++step, state, reward, reachedGoal: state === environment.goal };
  };
  for (let from = start; step < steps; from = random.integer(environment.states)) {
    let here = await look(from);
    yield here;
    if (here.reachedGoal) return;
    for (let climbing = true; climbing; ) {
      let best = here;
      for (const action of random.shuffle(environment.allowed(here.state))) {
        const seen = await look(environment.move(here.state, action));
        yield seen;
        if (seen.reachedGoal || step >= steps) return;
        if (seen.reward > best.reward) best = seen;
      }
      climbing = best !== here;
      here = best;
    }
  }
}
