/** The protocol of a table, as a file: read, checked by the schema of its kind, and committed before the first test picture. */

import { execFileSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { basename, dirname, join, resolve } from 'node:path';
import { UserError } from '@rldf/torch/errors';
import { parseDocument } from 'yaml';
import type { z } from 'zod';
import { sha256 } from './sha256.js';

export const budgets = ['smoke', 'full'] as const;
export type Budget = (typeof budgets)[number];

/** A protocol as it was read, not checked yet. */
export interface ProtocolFile {
  /** Name of the table: the protocol's folder. */
  table: string;
  file: string;
  /** SHA-256 of the file. */
  hash: string;
  /** What is compared: arms that train, or searches. */
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

/**
 * The commit that holds the protocol as it is.
 * @throws UserError when the file is not committed, or was changed since
 */
export function protocolCommit({ file, table }: Pick<ProtocolFile, 'file' | 'table'>): string {
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
