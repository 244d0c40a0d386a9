// Training beside PyTorch, update by update: losses, gradients' norms and weights.
import { UserError } from '@rldf/torch';
import { Peer } from '../../shared/peer.js';
import { type Check, type Context, same } from '../checks.js';
import { clipCases } from './clips.js';
import { type CaseOf, compare } from './comparison.js';
import { diffusionCases } from './diffusion.js';
import { methodCases } from './methods.js';
import { recogniserCases } from './recognisers.js';

const cases: Record<string, CaseOf> = { ...diffusionCases, ...clipCases, ...recogniserCases, ...methodCases };

export const trainingCases = Object.keys(cases);

export async function trainingChecks(context: Context): Promise<Check[]> {
  const only = context.cases ?? trainingCases;
  const unknown = only.find((name) => cases[name] === undefined);
  if (unknown !== undefined) {
    throw new UserError(`--case ${unknown}: there is no such — one of ${trainingCases.join(', ')}.`);
  }
  const peer = new Peer(context.python, 'training_peer.py');
  const checks: Check[] = [];
  try {
    for (const name of only) {
      context.say(`training: ${name}`);
      try {
        checks.push(...(await compare(context, peer, await (cases[name] as CaseOf)(context))));
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
