/** A table's protocol: what is compared, on how many seeds, by which statistic. It is fixed before any test picture exists. */

import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, readFileSync } from 'node:fs';
import { basename, dirname, join, resolve } from 'node:path';
import { parseDocument } from 'yaml';
import { z } from 'zod';
import { UserError } from '../base/errors.js';
import { methodOf } from '../methods/index.js';
import { loadRecipe } from '../recipe/load.js';
import type { Recipe } from '../recipe/recipe.js';

export const budgets = ['smoke', 'full'] as const;
export type Budget = (typeof budgets)[number];

/** Dotted recipe fields and their values, as after `--set`. */
const overridesSchema = z.record(z.string(), z.unknown());

const claimSchema = z.strictObject({
  says: z.string().min(1).describe('The claim in words.'),
  arm: z.string().min(1).describe('The arm that the claim is about.'),
  against: z.string().min(1).describe('The arm that it is compared with, paired by seed and prompt.'),
  judge: z.string().min(1).describe('The judge whose scores are compared.'),
  least: z.number().min(0).default(0).describe('The smallest mean difference that counts as shown.'),
});

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
export type Protocol = z.output<typeof protocolSchema> & {
  /** Name of the table: the protocol's folder. */
  table: string;
  file: string;
  /** SHA-256 of the file. */
  hash: string;
};

/** A protocol as it was read, not checked yet. */
export interface ProtocolFile {
  /** Name of the table: the protocol's folder. */
  table: string;
  file: string;
  /** SHA-256 of the file. */
  hash: string;
  /** What is compared: arms that train, or searches (`search/table/`). */
  kind: 'training' | 'search';
  values: unknown;
}

/**
 * Reads `TABLE/protocol.yaml`.
 * @param nameOrFolder a table below `tables`, or a folder
 * @throws UserError naming the tables that are there, or what is no YAML
 */
export function readProtocol(nameOrFolder: string, tables: string, names: readonly string[]): ProtocolFile {
  const folder = [join(tables, nameOrFolder), resolve(nameOrFolder)].find((path) =>
    existsSync(join(path, 'protocol.yaml')),
  );
  if (folder === undefined) {
    throw new UserError(
      `reproduce: no table ${nameOrFolder} — a table is a folder with a protocol.yaml; there are ${names.join(', ') || 'none'}`,
    );
  }
  const file = join(folder, 'protocol.yaml');
  const text = readFileSync(file, 'utf8');
  const document = parseDocument(text);
  const [broken] = document.errors;
  if (broken) throw new UserError(`${file}: ${broken.message.split('\n')[0]} — must be YAML`);
  const values: unknown = document.toJS();
  const kind = (values as { kind?: unknown } | null)?.kind === 'search' ? 'search' : 'training';
  return { table: basename(folder), file, hash: sha256(text), kind, values };
}

/** The protocol's fields. @throws UserError with every mistake in them */
export function checkProtocol<Schema extends z.ZodType>(
  schema: Schema,
  { file, values }: ProtocolFile,
): z.output<Schema> {
  const parsed = schema.safeParse(values);
  if (parsed.success) return parsed.data;
  const problems = parsed.error.issues.map(({ path, message }) => `${file}  ${path.join('.')}: ${message}`);
  throw new UserError(problems.join('\n'));
}

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
  for (const [name, { arm, against }] of Object.entries(protocol.claims)) {
    const unknown = [arm, against].find((one) => !(one in protocol.arms));
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

/**
 * The commit that holds the protocol as it is.
 * @throws UserError when the file is not committed, or was changed since
 */
export function protocolCommit({ file, table }: Pick<Protocol, 'file' | 'table'>): string {
  const git = (...words: string[]) => {
    try {
      return execFileSync('git', words, {
        cwd: dirname(file),
        encoding: 'utf8',
        stdio: ['ignore', 'pipe', 'ignore'],
      }).trim();
    } catch {
      return undefined; // no repository, or one without a commit
    }
  };
  const changes = git('status', '--porcelain', '--', basename(file));
  const commit = git('log', '-1', '--format=%H', '--', basename(file));
  if (changes === '' && commit) return commit;
  const what =
    changes === undefined
      ? 'is in no git repository'
      : commit
        ? 'was changed since its last commit'
        : 'is not committed';
  throw new UserError(
    `${file}: ${what} — a table's arms, seeds and statistic are fixed before its first test picture. ` +
      `Commit the file, then run \`rldf reproduce ${table}\` again`,
  );
}

export const sha256 = (data: string | Uint8Array): string => createHash('sha256').update(data).digest('hex');
