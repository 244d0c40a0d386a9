/** Relabel grammars: YAML files that say in which words boxes are told. docs/methods/ip-rldf.md explains them. */

import { readFileSync } from 'node:fs';
import type { BoxEdges } from '@rldf/models';
import { UserError } from '@rldf/torch/errors';
import { parseDocument } from 'yaml';
import { z } from 'zod';
import { shippedNames, shippedOrFile } from '../base/recipes-folder.js';

/** What of a box a relation compares, in pixels: the centre's coordinates, its width, its height, its area. */
export const measures = {
  x: ([x0, , x1]: BoxEdges) => (x0 + x1) / 2,
  y: ([, y0, , y1]: BoxEdges) => (y0 + y1) / 2,
  width: ([x0, , x1]: BoxEdges) => x1 - x0,
  height: ([, y0, , y1]: BoxEdges) => y1 - y0,
  area: ([x0, y0, x1, y1]: BoxEdges) => (x1 - x0) * (y1 - y0),
} as const;

/** The extent of a box that a difference of each measure is large or small against. */
export const extents = {
  ...measures,
  x: measures.width,
  y: measures.height,
} as const;

const containing = (...slots: string[]) =>
  z.string().refine((text) => slots.every((slot) => text.split(`{${slot}}`).length === 2), {
    error: `must contain ${slots.map((slot) => `{${slot}}`).join(' and ')} once`,
  });

const relationSchema = z.strictObject({
  say: containing('a', 'b'),
  measure: z.enum(Object.keys(measures) as (keyof typeof measures)[]),
  order: z.enum(['less', 'greater']),
});

const grammarSchema = z.strictObject({
  version: z.literal(1),
  objects: z.enum(['all', 'asked']),
  counts: z.strictObject({
    one: containing('article', 'singular'),
    several: containing('number', 'plural'),
    numbers: z.array(z.string().min(1)).min(1),
    more: containing('plural'),
    between: z.string().min(1),
  }),
  relations: z.record(z.string().min(1), relationSchema).default({}),
  /** How far two boxes must be apart for a relation to hold, as a share of the sum of what `measure` has of their sizes. */
  margin: z.number().min(0).max(10).default(0),
});

export type RelabelGrammar = z.output<typeof grammarSchema>;
export type RelationRule = z.output<typeof relationSchema>;

/** Grammars that ship with rldf. */
export const grammarNames = (): string[] => shippedNames('relabel');

/**
 * Reads a grammar.
 * @param nameOrFile a shipped one, or a file
 * @throws UserError with every mistake in the file
 */
export function loadGrammar(nameOrFile: string): RelabelGrammar {
  const file = shippedOrFile('relabel', nameOrFile, 'grammar', 'one');
  return parseGrammar(readFileSync(file, 'utf8'), file);
}

/** @param where names the text in messages */
export function parseGrammar(text: string, where: string): RelabelGrammar {
  const document = parseDocument(text);
  const [broken] = document.errors;
  if (broken) throw new UserError(`${where}: ${broken.message.split('\n')[0]} — must be YAML`);
  const parsed = grammarSchema.safeParse(document.toJS());
  if (parsed.success) return parsed.data;
  const lines = parsed.error.issues.map(({ path, message }) => `${where}  ${path.join('.')}: ${message}`);
  throw new UserError(`${lines.join('\n')} — see recipes/relabel/spatial.yaml for a whole one`);
}
