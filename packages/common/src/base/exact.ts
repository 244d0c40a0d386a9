/** Whole numbers of more than 53 bits, such as seeds that other tools write, keep their digits in YAML and JSON. */

import { randomUUID } from 'node:crypto';
import { parseDocument } from 'yaml';

const mark = randomUUID();

/** JSON, in which a BigInt is written as the number it is. */
export function jsonText(value: unknown, space?: number): string {
  const marked = JSON.stringify(
    value,
    (_, item) => (typeof item === 'bigint' ? `${mark}${item}` : item),
    space,
  );
  return marked.replace(new RegExp(`"${mark}(-?\\d+)"`, 'g'), '$1');
}

/** To be given to the YAML library, whose values then go through `exactNumbers`. */
export const exactYaml = { intAsBigInt: true } as const;

/** A tree in which whole numbers are plain numbers where these are exact, and BigInts elsewhere. */
export function exactNumbers(value: unknown): unknown {
  if (typeof value === 'bigint') {
    const number = Number(value);
    return Number.isSafeInteger(number) ? number : value;
  }
  if (Array.isArray(value)) return value.map(exactNumbers);
  if (value === null || typeof value !== 'object' || Object.getPrototypeOf(value) !== Object.prototype)
    return value;
  return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, exactNumbers(item)]));
}

/** The values of a YAML text that is known to be good, such as a run's own recipe. */
export const parseYaml = (text: string): unknown => exactNumbers(parseDocument(text, exactYaml).toJS());
