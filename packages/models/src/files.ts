import { mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { dirname } from 'node:path';
import { UserError } from '@rldf/torch';

/** Deeper than any file of a model; beyond thousands, walking a value would overflow the stack. */
const deepest = 100;

/**
 * Reads a JSON object as Python writes it: Infinity and NaN stand bare there.
 *
 * @throws UserError when the file is missing or is no JSON object
 */
export function readJson(path: string): { [key: string]: unknown } {
  let text: string;
  try {
    text = readFileSync(path, 'utf8');
  } catch {
    throw new UserError(
      `${path}: cannot be read — the file is part of the model folder. Restore it or fix the path.`,
    );
  }
  const bare: { [name: string]: string } = { Infinity: '1e999', '-Infinity': '-1e999', NaN: 'null' };
  const plain = text.replace(/"(?:[^"\\]|\\.)*"|-?Infinity|NaN/g, (part) => bare[part] ?? part);
  let value: unknown;
  try {
    value = JSON.parse(plain);
  } catch (error) {
    throw new UserError(`${path}: ${(error as Error).message} — must be JSON. Restore the file.`);
  }
  if (isDeeperThan(deepest, value)) {
    throw new UserError(
      `${path}: is nested deeper than ${deepest} levels — no file of a model is. Restore the file.`,
    );
  }
  if (value !== null && typeof value === 'object' && !Array.isArray(value))
    return value as { [key: string]: unknown };
  throw new UserError(`${path}: holds ${text.slice(0, 40)} — must be a JSON object. Restore the file.`);
}

function isDeeperThan(levels: number, value: unknown): boolean {
  let level = [value];
  for (let depth = 0; depth <= levels && level.length > 0; depth++) {
    level = level.flatMap((item) => (item !== null && typeof item === 'object' ? Object.values(item) : []));
  }
  return level.length > 0;
}

/** Writes JSON as Python reads it. */
export function writeJson(path: string, value: object): void {
  const marked = JSON.stringify(
    value,
    (_, item) => (typeof item === 'number' && !Number.isFinite(item) ? `bare ${item}` : item),
    2,
  );
  writeText(path, `${marked.replace(/"bare (-?Infinity|NaN)"/g, '$1')}\n`);
}

/** Writes a text by a temporary file, so that a crash leaves no half file. */
export function writeText(path: string, text: string): void {
  const temporary = `${path}.tmp-${process.pid}`;
  mkdirSync(dirname(path), { recursive: true });
  try {
    writeFileSync(temporary, text);
    renameSync(temporary, path);
  } catch (error) {
    rmSync(temporary, { force: true });
    throw error;
  }
}
