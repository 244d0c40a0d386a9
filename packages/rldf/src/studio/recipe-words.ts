/** A recipe's fields with what their schema says of them. */

import type { RecipeField } from '@rldf/studio';
import { z } from 'zod';
import { type MethodName, methodNames, methodOf, type Recipe } from '../methods/index.js';
import { methodSchemas } from '../recipe/recipe.js';

/** What of a JSON Schema is read. */
interface Schema {
  description?: string;
  default?: unknown;
  properties?: Record<string, Schema>;
  additionalProperties?: Schema | boolean;
  anyOf?: Schema[];
  oneOf?: Schema[];
  allOf?: Schema[];
  $ref?: string;
  $defs?: Record<string, Schema>;
}

const schemas = new Map<MethodName, Schema>();

function schemaOf(method: MethodName): Schema {
  const known = schemas.get(method);
  if (known !== undefined) return known;
  const made = z.toJSONSchema(methodSchemas[method], { io: 'input', unrepresentable: 'any' }) as Schema;
  schemas.set(method, made);
  return made;
}

/** Steps of the whole run: epochs, but where a method says otherwise; null for a recipe that is none. */
export function stepsOf(recipe: unknown): number | null {
  try {
    const { steps } = methodOf(recipe as Recipe).plan.arithmetic(recipe as Recipe);
    const { epochs } = recipe as { epochs?: unknown };
    return steps ?? (typeof epochs === 'number' ? epochs : null);
  } catch {
    return null;
  }
}

/** Leaves by dotted path; lists are leaves. Fields that no schema knows, as of a user's reward, have no explanation. */
export function describeRecipe(recipe: unknown): RecipeField[] {
  const method = (recipe as { method?: unknown } | null)?.method;
  const root = methodNames.includes(method as MethodName) ? schemaOf(method as MethodName) : {};
  return leaves(recipe, []).map(([path, value]) => {
    const found = meanings(root, path);
    const own = found.default === undefined ? {} : { default: found.default };
    return { path: path.join('.'), value, explanation: found.description ?? '', ...own };
  });
}

function leaves(value: unknown, path: string[]): [string[], unknown][] {
  if (value === null || typeof value !== 'object' || Array.isArray(value)) return [[path, value]];
  return Object.entries(value).flatMap(([key, inner]) => leaves(inner, [...path, key]));
}

/** The deepest description on the way to a field, and the field's own default. */
function meanings(root: Schema, path: readonly string[]): { description?: string; default?: unknown } {
  let here = alternatives(root, root);
  let description: string | undefined;
  for (const [depth, key] of path.entries()) {
    const next = here.flatMap(({ properties, additionalProperties }) => {
      const own = properties !== undefined && Object.hasOwn(properties, key) ? properties[key] : undefined;
      return own ?? (typeof additionalProperties === 'object' ? additionalProperties : []);
    });
    here = next.flatMap((schema) => alternatives(schema, root));
    description = here.find((schema) => schema.description !== undefined)?.description ?? description;
    if (depth === path.length - 1) {
      const given = here.find((schema) => schema.default !== undefined);
      return {
        ...(description === undefined ? {} : { description }),
        ...(given && { default: given.default }),
      };
    }
  }
  return {};
}

/** A schema and what it may be instead: unions, references. */
function alternatives(schema: Schema, root: Schema): Schema[] {
  const inner = [...(schema.anyOf ?? []), ...(schema.oneOf ?? []), ...(schema.allOf ?? [])];
  const name = schema.$ref?.startsWith('#/$defs/') ? schema.$ref.slice('#/$defs/'.length) : undefined;
  const referred = name === undefined ? undefined : root.$defs?.[name];
  return [
    schema,
    ...(referred === undefined ? [] : alternatives(referred, root)),
    ...inner.flatMap((one) => alternatives(one, root)),
  ];
}
