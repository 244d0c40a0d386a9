// Training beside PyTorch, update by update: losses, gradients' norms and weights.
import { Peer } from '../../shared/peer.js';
import { type Check, type Context, same } from '../checks.js';
import { trainingCases } from './cases.js';
import { compare, reference } from './comparison.js';

export async function trainingChecks(context: Context): Promise<Check[]> {
  const names = context.cases ?? Object.keys(trainingCases);
  const peer = new Peer(context.python, 'training_peer.py');
  const checks: Check[] = [];
  try {
    for (const name of names) {
      context.say(`training: ${name}`);
      try {
        const made = await trainingCases[name]!(context);
        const theirs = await reference(context, peer, made);
        checks.push(...compare(made, await made.train(), theirs));
      } catch (error) {
        process.stderr.write(`${(error as Error).stack}\n`);
        checks.push(
          same(`${name} came to an end`, Number.POSITIVE_INFINITY, 0, '', (error as Error).message),
        );
      }
    }
  } finally {
    peer.end();
  }
  return checks;
}
