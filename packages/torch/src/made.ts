import { type Handle, native } from './native.js';

/**
 * The tensors made in the scopes that are open, oldest first. A scope is what lies from its mark on. In a typed array,
 * which the addon reads without conversions.
 */
let made = new Float64Array(1024);
let count = 0;
let depth = 0;

const none = 0; // no handle

/** Adds a new tensor to the innermost scope. @returns whether there is one */
export function addMade(handle: Handle): boolean {
  if (depth === 0) return false;
  if (count === made.length) {
    const longer = new Float64Array(2 * count);
    longer.set(made);
    made = longer;
  }
  made[count++] = handle;
  return true;
}

/** Takes a tensor out of its scope: the scope's end will not free it. */
export function dropMade(handle: Handle): void {
  const place = count === 0 ? -1 : made.lastIndexOf(handle, count - 1);
  if (place !== -1) made[place] = none;
}

/** Opens a scope. @returns its mark */
export function openScope(): number {
  depth++;
  return count;
}

/**
 * Closes the innermost scope: frees what was made in it, and hands the survivors to the scope around.
 *
 * @returns whether there is one around
 */
export function closeScope(mark: number, survivors: readonly Handle[]): boolean {
  const surviving = new Set(survivors);
  const handedOn: Handle[] = [];
  for (let i = mark; i < count && surviving.size > 0; i++) {
    const handle = made[i] as Handle;
    if (!surviving.has(handle)) continue;
    handedOn.push(handle);
    made[i] = none;
  }
  native.free(made, mark, count);
  count = mark;
  depth--;
  for (const handle of handedOn) addMade(handle);
  return depth > 0;
}

const one = new Float64Array(1);

export function freeHandle(handle: Handle): void {
  one[0] = handle;
  native.free(one, 0, 1);
}
