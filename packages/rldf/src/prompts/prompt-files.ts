/** Prompt files: one prompt a line, JSON lines with other fields besides, and tables with a header (CSV, TSV). */

import { readFileSync } from 'node:fs';
import { extname } from 'node:path';
import { UserError } from '@rldf/torch/errors';
import type { Prompt } from './prompts.js';

/** Text encoders see 77 tokens; what is longer by far is a wrong file rather than a prompt. */
export const LONGEST_PROMPT = 4000;

/** Columns that hold the prompt, in order of preference: our own, DrawBench's, those of caption files. */
const PROMPT_COLUMNS = ['prompt', 'prompts', 'caption', 'text'];

/**
 * The prompts of a file, told apart by its ending:
 * - `.jsonl`, `.ndjson`: one object a line with `prompt`; its other fields become `meta`;
 * - `.csv` (RFC 4180) and `.tsv` (no quoting): a header with a column Prompt or Prompts, the others become `meta`,
 *   as PartiPrompts.tsv and DrawBench come;
 * - anything else: one prompt a line; blank lines and those that begin with # are skipped.
 *
 * @throws UserError with file, line and column when the file is missing, malformed or without prompts
 */
export function readPromptFile(path: string): Prompt[] {
  const text = readUtf8(path);
  const kind = extname(path).toLowerCase();
  const prompts =
    kind === '.jsonl' || kind === '.ndjson'
      ? fromJsonLines(path, text)
      : kind === '.csv'
        ? fromTable(path, parseCsv(path, text))
        : kind === '.tsv'
          ? fromTable(path, parseTsv(text))
          : fromLines(path, text);
  if (prompts.length === 0) throw new UserError(`${path}: holds no prompt — write one a line`);
  return prompts;
}

function readUtf8(path: string): string {
  let bytes: Buffer;
  try {
    bytes = readFileSync(path);
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException;
    const reason =
      code === 'ENOENT' ? 'there is no such file' : code === 'EISDIR' ? 'it is a folder' : message;
    throw new UserError(`${path}: cannot read the prompts — ${reason}`);
  }
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(bytes);
  } catch {
    const utf16 = (bytes[0] === 0xff && bytes[1] === 0xfe) || (bytes[0] === 0xfe && bytes[1] === 0xff);
    const { line, column } = firstBadByte(bytes);
    throw new UserError(
      utf16
        ? `${path}: is UTF-16 — prompt files are UTF-8. Save it as UTF-8`
        : `${path}:${line}:${column}: not UTF-8 — prompt files are UTF-8. Save it as UTF-8`,
    );
  }
}

/** Line and byte within it, from 1, of the first place that is not UTF-8. */
function firstBadByte(bytes: Buffer): { line: number; column: number } {
  const lines = bytes.toString('latin1').split('\n');
  for (const [index, line] of lines.entries()) {
    const decoded = Buffer.from(line, 'latin1').toString('utf8');
    const place = decoded.indexOf('\uFFFD');
    if (place >= 0) return { line: index + 1, column: Buffer.byteLength(decoded.slice(0, place)) + 1 };
  }
  return { line: 1, column: 1 };
}

/** A prompt with its ends trimmed. @param place line and column, from 1 */
function checked(path: string, [line, column]: Place, text: string): string {
  const prompt = text.trim();
  const where = `${path}:${line}:${column}`;
  // biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is looked for
  const control = /[\0-\x08\x0b\x0c\x0e-\x1f]/.exec(prompt)?.[0];
  if (control !== undefined) {
    const code = control.charCodeAt(0).toString(16).padStart(4, '0');
    throw new UserError(`${where}: holds the control character U+${code} — is this a text file? Remove it`);
  }
  if (prompt.length > LONGEST_PROMPT) {
    throw new UserError(
      `${where}: a prompt of ${prompt.length} characters — at most ${LONGEST_PROMPT}; text encoders see 77 tokens. Shorten it, or check that lines end where they should`,
    );
  }
  return prompt;
}

function fromLines(path: string, text: string): Prompt[] {
  return linesOf(text).flatMap((line, index) => {
    if (line.trim() === '' || line.startsWith('#')) return [];
    return [{ text: checked(path, [index + 1, 1], line), meta: null }];
  });
}

function fromJsonLines(path: string, text: string): Prompt[] {
  return linesOf(text).flatMap((line, index): Prompt[] => {
    if (line.trim() === '') return [];
    let value: unknown;
    try {
      value = JSON.parse(line);
      JSON.stringify(value); // overflows the stack where parsing does not: too many levels
    } catch (error) {
      const { message } = error as Error;
      const position = /position (\d+)/.exec(message)?.[1];
      const column = position === undefined ? '' : `:${Number(position) + 1}`;
      throw new UserError(`${path}:${index + 1}${column}: not JSON (${message}) — each line is one object`);
    }
    const prompt = (value as { prompt?: unknown } | null)?.prompt;
    if (typeof prompt !== 'string' || prompt.trim() === '') {
      throw new UserError(
        `${path}:${index + 1}: no text under "prompt" — each line is one object such as {"prompt": "a cat"}`,
      );
    }
    const { prompt: _prompt, ...meta } = value as Record<string, unknown>;
    const column = line.indexOf('"prompt"') + 1 || 1;
    return [{ text: checked(path, [index + 1, column], prompt), meta }];
  });
}

/** Line and column, from 1. */
type Place = readonly [line: number, column: number];

interface Field {
  text: string;
  place: Place;
}

function fromTable(path: string, rows: readonly Field[][]): Prompt[] {
  const [header, ...body] = rows.filter((row) => row.some(({ text }) => text.trim() !== ''));
  if (header === undefined) return [];
  const names = header.map(({ text }) => text.trim());
  const lower = names.map((name) => name.toLowerCase());
  const name = PROMPT_COLUMNS.find((column) => lower.includes(column));
  if (name === undefined) {
    throw new UserError(
      `${path}:${header[0]!.place.join(':')}: no column of prompts among ${names.map((text) => `"${text}"`).join(', ')} — the first line names the columns, one of them Prompt. Add a header`,
    );
  }
  const twice = lower.find((column, index) => column !== '' && lower.indexOf(column) !== index);
  if (twice !== undefined) {
    const { place } = header[lower.lastIndexOf(twice)]!;
    throw new UserError(
      `${path}:${place.join(':')}: a second column "${twice}" — each has a name of its own. Rename it`,
    );
  }
  const column = lower.indexOf(name);
  return body.map((row): Prompt => {
    const [{ place }] = row as [Field, ...Field[]];
    if (row.length !== header.length) {
      const extra = row[header.length]?.place ?? row.at(-1)!.place;
      throw new UserError(
        `${path}:${extra.join(':')}: ${row.length} fields, but the header names ${header.length} — every row has one a column. Quote a field that holds the separator`,
      );
    }
    const field = row[column]!;
    const text = checked(path, field.place, field.text);
    if (text === '')
      throw new UserError(
        `${path}:${place[0]}:${field.place[1]}: no prompt under "${names[column]}" — every row has one`,
      );
    const others = names.flatMap((key, index) => (index === column ? [] : [[key, row[index]!.text.trim()]]));
    return { text, meta: Object.fromEntries(others) };
  });
}

/** Tab-separated values know no quotes (text/tab-separated-values): PartiPrompts has fields that begin with one. */
function parseTsv(text: string): Field[][] {
  return linesOf(text).map((line, index) => {
    let column = 1;
    return line.split('\t').map((field) => {
      const place: Place = [index + 1, column];
      column += field.length + 1;
      return { text: field, place };
    });
  });
}

/** Comma-separated values after RFC 4180: quoted fields may hold commas, line ends and doubled quotes. */
function parseCsv(path: string, text: string): Field[][] {
  const rows: Field[][] = [];
  let row: Field[] = [];
  let at = 0;
  let line = 1;
  let lineStart = 0;
  const place = (): Place => [line, at - lineStart + 1];
  const newLine = () => {
    line++;
    lineStart = at;
  };
  const fail = (where: Place, what: string): never => {
    throw new UserError(`${path}:${where.join(':')}: ${what}`);
  };
  /** Reads a quoted field, from its opening to behind its closing quote. */
  const quoted = (): string => {
    const opening = place();
    let value = '';
    for (at++; ; at++) {
      const char = text[at];
      if (char === undefined)
        fail(opening, 'this quote is never closed — a quote within a field is doubled: ""');
      if (char === '"' && text[at + 1] !== '"') break;
      if (char === '"') at++;
      value += char;
      if (char === '\n') {
        at++;
        newLine();
        at--;
      }
    }
    at++;
    if (at < text.length && !',\r\n'.includes(text[at]!))
      fail(place(), 'text behind a closing quote — a quote within a field is doubled: ""');
    return value;
  };
  const plain = (): string => {
    const start = at;
    while (at < text.length && !',\r\n'.includes(text[at]!)) {
      if (text[at] === '"')
        fail(place(), 'a quote within an unquoted field — put the whole field in quotes and double this one');
      at++;
    }
    return text.slice(start, at);
  };
  while (at < text.length) {
    const start = place();
    row.push({ text: text[at] === '"' ? quoted() : plain(), place: start });
    if (text[at] === ',') {
      at++;
      if (at === text.length) row.push({ text: '', place: place() });
      else continue;
    }
    if (at < text.length) at += text[at] === '\r' && text[at + 1] === '\n' ? 2 : 1;
    newLine();
    rows.push(row);
    row = [];
  }
  return rows;
}

/** Lines without their ends (LF, CRLF). */
function linesOf(text: string): string[] {
  return text.split(/\r?\n/);
}
