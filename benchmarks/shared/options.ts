import { parseArgs } from 'node:util';
import { type Device, UserError } from '@rldf/torch';

/** An option of one benchmark. */
export interface Option<Value> {
  /** For `--help`: what it is, and its default. */
  help: string;
  /** Of its value; a flag has none. */
  placeholder?: string;
  parse(text: string, name: string): Value;
}

/** What `run` is called with: the options that were given, and where to tell how it goes. */
export type OptionsOf<Options extends Record<string, Option<unknown>>> = {
  [Name in keyof Options]?: ReturnType<Options[Name]['parse']>;
} & { say(text: string): void };

export const text = (placeholder: string, help: string): Option<string> => ({
  help,
  placeholder,
  parse: (given) => given,
});

export const flag = (help: string): Option<true> => ({ help, parse: () => true });

export const whole = (help: string): Option<number> => ({ help, placeholder: 'N', parse: wholeNumber });

export const words = (placeholder: string, help: string): Option<string[]> => ({
  help,
  placeholder: `${placeholder},...`,
  parse: (given) => given.split(','),
});

export const wholes = (help: string): Option<number[]> => ({
  help,
  placeholder: 'N,...',
  parse: (given, name) => given.split(',').map((one) => wholeNumber(one, name)),
});

/** First and last, as in `0-9`, or one number for both. */
export const range = (help: string): Option<[first: number, last: number]> => ({
  help,
  placeholder: 'FIRST-LAST',
  parse(given, name) {
    const [first, last = first] = given.split('-').map((one) => wholeNumber(one, name)) as [number, number?];
    if (last < first) throw new UserError(`${name} ${given}: the last comes before the first.`);
    return [first, last];
  },
});

/** These stand in more than one benchmark. */
export const python = text('FILE', 'the Python of the other side; default: an environment made for it');
export const output = text('FOLDER', 'where pictures and numbers are written too');
export const device: Option<Device> = {
  help: 'where rldf computes: cpu, cuda, cuda:1',
  placeholder: 'DEVICE',
  parse: (given) => given as Device,
};

function wholeNumber(given: string, name: string): number {
  if (/^\d{1,15}$/.test(given)) return Number(given);
  throw new UserError(`${name} ${given}: a whole number is needed.`);
}

/** @throws what parseArgs throws on an unknown option, and UserErrors on a wrong value */
export function parseOptions(
  args: readonly string[],
  options: Record<string, Option<unknown>>,
): Record<string, unknown> {
  const type = ({ placeholder }: Option<unknown>) => (placeholder === undefined ? 'boolean' : 'string');
  const { values } = parseArgs({
    args: [...args],
    options: Object.fromEntries(
      Object.entries(options).map(([name, option]) => [name, { type: type(option) }]),
    ),
  });
  return Object.fromEntries(
    Object.entries(values).map(([name, value]) => [name, options[name]?.parse(String(value), `--${name}`)]),
  );
}

export function helpText(options: Record<string, Option<unknown>>): string {
  const lines = Object.entries(options).map(([name, { placeholder = '', help }]) => {
    return `  ${`--${name} ${placeholder}`.padEnd(22)}  ${help}\n`;
  });
  return lines.join('');
}
