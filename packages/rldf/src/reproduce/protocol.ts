/** A table's protocol: what is compared, on how many seeds, by which statistic. It is fixed before any test picture exists. */

import { existsSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { type Budget, checkProtocol, type ProtocolFile, readProtocol } from '@rldf/common/base/protocol-file';
import { UserError } from '@rldf/torch/errors';
import { z } from 'zod';
import { methodOf } from '../methods/index.js';
import { loadRecipe } from '../recipe/load.js';
import type { Recipe } from '../recipe/recipe.js';

/** Dotted recipe fields and their values, as after `--set`. */
const overridesSchema = z.record(z.string(), z.unknown());

function isPattern(text: string): boolean {
  try {
    return new RegExp(text) !== undefined;
  } catch {
    return false;
  }
}

const claimed = {
  says: z.string().min(1).describe('The claim in words.'),
  arm: z.string().min(1).describe('The arm that the claim is about.'),
};
const against = z.string().min(1).describe('The arm that it is compared with, paired by seed (and prompt).');

const scoreClaimSchema = z.strictObject({
  ...claimed,
  against: against.optional().describe(`${against.description} By default, the untrained model.`),
  judge: z.string().min(1).describe('The judge whose scores are compared.'),
  group: z.string().optional().describe('The group of test prompts that it is about. By default, all.'),
  least: z.number().min(0).default(0).describe('The smallest mean difference that counts as shown.'),
});

const efficiencyClaimSchema = z.strictObject({
  ...claimed,
  against,
  picturesAtMost: z
    .number()
    .gt(0)
    .max(1)
    .describe(
      'The share of the other arm’s training images that counts as shown, ' +
        'to reach the last validation reward of the other arm.',
    ),
});

const claimSchema = z.union([scoreClaimSchema, efficiencyClaimSchema]);
export type ScoreClaim = z.output<typeof scoreClaimSchema>;
export type EfficiencyClaim = z.output<typeof efficiencyClaimSchema>;

export const protocolSchema = z.strictObject({
  version: z.literal(1),
  question: z.string().min(1).describe('The question that the table answers.'),
  paper: z
    .string()
    .min(1)
    .describe('What the paper reports, with its source. It is printed beside our numbers.'),
  recipe: z
    .string()
    .min(1)
    .describe('The recipe that all arms share: a shipped recipe’s name, or a file beside this one.'),
  arms: z
    .record(
      z.string().regex(/^[a-z0-9][a-z0-9-]*$/, 'arms are named in lower case, digits and "-"'),
      overridesSchema,
    )
    .describe(
      'What each arm changes in the recipe. With `recipe`, an arm names a recipe of its own. ' +
        'With `fuse` alone, it is the sum of other arms.',
    ),
  reference: z.string().optional().describe('The arm with which all others are compared.'),
  seeds: z.array(z.int().min(0)).min(1).describe('Training seeds. None of them is left out of the table.'),
  judges: z
    .array(z.string().min(1))
    .default([])
    .describe('Rewards that nothing was trained on, which score the same test images.'),
  groups: z
    .record(
      z.string().regex(/^[a-z0-9][a-z0-9-]*$/, 'groups are named in lower case, digits and "-"'),
      z.string().refine(isPattern, 'must be a regular expression'),
    )
    .default({})
    .describe('Test prompts shown apart: those in which a regular expression is found.'),
  claims: z
    .record(
      z.string().regex(/^[a-z0-9][a-z0-9-]*$/, 'claims are named in lower case, digits and "-"'),
      claimSchema,
    )
    .default({})
    .describe('What the paper says of these arms, and which difference would show it here.'),
  unequalPictures: z
    .string()
    .optional()
    .describe('The reason why arms may sample unequal numbers of training images.'),
  budget: z.strictObject({
    full: overridesSchema.describe('Recipe fields of all arms in the full table.'),
    smoke: overridesSchema.describe(
      'Fields of a short run, of one seed and some minutes, that shows that all works.',
    ),
  }),
});
export type Protocol = z.output<typeof protocolSchema> & Pick<ProtocolFile, 'table' | 'file' | 'hash'>;

/** A table of trainings. @throws UserError as `readProtocol` and `checkProtocol` */
export function loadProtocol(nameOrFolder: string, tables: string, names: readonly string[]): Protocol {
  const read = readProtocol(nameOrFolder, tables, names);
  const { table, file, hash } = read;
  const protocol = { ...checkProtocol(protocolSchema, read), table, file, hash };
  if (protocol.reference !== undefined && !(protocol.reference in protocol.arms)) {
    throw new UserError(
      `${file}  reference: "${protocol.reference}" is no arm — there are ${Object.keys(protocol.arms).join(', ')}`,
    );
  }
  for (const [name, claim] of Object.entries(protocol.claims)) {
    const { arm, against } = claim;
    if ('judge' in claim && claim.group !== undefined && !Object.hasOwn(protocol.groups, claim.group)) {
      const groups = Object.keys(protocol.groups);
      throw new UserError(
        `${file}  claims.${name}: "${claim.group}" is no group of test prompts — ${groups.length === 0 ? 'there are none. Define it in groups' : `there are ${groups.join(', ')}`}`,
      );
    }
    const unknown = [arm, against].find((one) => one !== undefined && !(one in protocol.arms));
    if (unknown === undefined) continue;
    throw new UserError(
      `${file}  claims.${name}: "${unknown}" is no arm — there are ${Object.keys(protocol.arms).join(', ')}`,
    );
  }
  return protocol;
}

/** The recipe of one arm that trains, and seed. */
export function recipeOf(
  protocol: Protocol,
  arm: string,
  seed: number,
  budget: Budget,
  shipped: (name: string) => string,
): Recipe {
  const { recipe = protocol.recipe, ...changes } = protocol.arms[arm] ?? {};
  const beside = join(dirname(protocol.file), String(recipe));
  const file = existsSync(beside) ? beside : shipped(String(recipe));
  const fields = { ...protocol.budget[budget], ...changes, seed };
  return loadRecipe(
    file,
    Object.entries(fields).map(([key, value]) => `${key}=${JSON.stringify(value)}`),
  );
}

/** @throws UserError when the arms draw unequal numbers of pictures and the protocol does not say why */
export function checkEqualPictures(protocol: Protocol, recipes: Readonly<Record<string, Recipe>>): void {
  const pictures = Object.entries(recipes).map(
    ([arm, recipe]) => [arm, methodOf(recipe).plan.arithmetic(recipe).pictures] as const,
  );
  if (protocol.unequalPictures !== undefined || new Set(pictures.map(([, count]) => count)).size < 2) return;
  throw new UserError(
    `${protocol.file}: the arms draw unequal numbers of pictures (${pictures.map(([arm, count]) => `${arm} ${count}`).join(', ')}) — ` +
      'arms are compared at equal budgets. Make them equal, or say why not in unequalPictures',
  );
}
