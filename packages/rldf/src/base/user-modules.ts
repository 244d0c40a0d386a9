/** The modules of the user's own that this process runs: what they do wrong is told as theirs. */

import { realpathSync } from 'node:fs';

/** Each with the two ways in which stacks name it: tsx names a CommonJS module by a data URL that holds its path. */
const files = new Map<string, readonly [string, string]>();
let before: (() => Promise<void>) | undefined;

/** To be called before a module of the user's, a file that exists, is loaded. */
export async function noteUserModule(file: string): Promise<void> {
  const path = realpathSync(file);
  files.set(path, [path, encodeURIComponent(path)]);
  await before?.();
}

/** Calls `then` before each load of a module of the user's. */
export function beforeUserModules(then: () => Promise<void>): void {
  before = then;
}

export function userModules(): string[] {
  return [...files.keys()];
}

/** `file:line:column` of the first place in a stack that lies in a module of the user's; without numbers where it has none. */
export function placeInUserModules(stack: string | undefined): string | undefined {
  for (const line of stack?.split('\n') ?? []) {
    for (const [path, names] of files) {
      const name = names.find((one) => line.includes(one));
      if (name === undefined) continue;
      const numbers = /^(?:\?[^:]*)?((?::\d+)*)/.exec(line.slice(line.indexOf(name) + name.length))?.[1];
      return `${path}${numbers ?? ''}`;
    }
  }
  return undefined;
}
