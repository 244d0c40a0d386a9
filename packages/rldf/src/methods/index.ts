import type { z } from 'zod';
import { alignprop } from './alignprop.js';
import { ddpo } from './ddpo.js';
import { dpo } from './dpo.js';
import { dpok } from './dpok.js';
import { draftK } from './draft-k.js';
import { draftLv } from './draft-lv.js';
import { ipRldf } from './ip-rldf.js';
import type { Method } from './method.js';
import { raft } from './raft.js';
import { refl } from './refl.js';
import { rwr } from './rwr.js';

/** Every method by the value of `method:` in a recipe. */
export const methods = {
  ddpo,
  dpok,
  dpo,
  raft,
  rwr,
  'ip-rldf': ipRldf,
  alignprop,
  'draft-k': draftK,
  'draft-lv': draftLv,
  refl,
};

export type MethodName = keyof typeof methods;

/** A recipe of any method, told apart by `method:`. */
export type Recipe = z.output<(typeof methods)[MethodName]['schema']>;

export const methodNames = Object.keys(methods) as MethodName[];

/** The method of a recipe, which takes recipes of its own schema. */
export function methodOf({ method }: Pick<Recipe, 'method'>): Method<Recipe> {
  return methods[method] as Method<Recipe>;
}
