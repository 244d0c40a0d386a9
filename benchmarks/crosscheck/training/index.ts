// Training beside PyTorch and TRL, update by update: losses, gradients' norms and weights.
import { type Check, type Context, same } from '../checks.js';
import { allCases, trainingCases, trlCases } from './cases.js';
import { compare, OtherSides, reference } from './comparison.js';

/** Of the groups, by name. */
export const casesOf: Readonly<Record<string, readonly string[]>> = {
  training: Object.keys(trainingCases),
  trl: Object.keys(trlCases),
};

/** Those of a group, or of them those that were asked for. */
export const trainingChecks =
  (group: string) =>
  async (context: Context): Promise<Check[]> => {
    const wanted = context.cases ?? Object.keys(allCases);
    const sides = new OtherSides(context);
    const checks: Check[] = [];
    try {
      for (const name of casesOf[group]!.filter((one) => wanted.includes(one))) {
        context.say(`${group}: ${name}`);
        try {
          const made = await allCases[name]!(context);
          const theirs = await reference(context, sides, made);
          checks.push(...compare(made, await made.train(), theirs));
        } catch (error) {
          process.stderr.write(`${(error as Error).stack}\n`);
          checks.push(
            same(`${name} came to an end`, Number.POSITIVE_INFINITY, 0, '', (error as Error).message),
          );
        }
      }
    } finally {
      sides.end();
    }
    return checks;
  };
