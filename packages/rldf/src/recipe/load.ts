/** Reading recipes: YAML text in, a checked recipe or *all* of its problems, each with file:line:column, out. */

import { readFileSync } from 'node:fs';
import { dirname, isAbsolute, resolve } from 'node:path';
import { exactNumbers, exactYaml } from '@rldf/common/base/exact';
import { didYouMean } from '@rldf/common/base/suggest';
import { shown, UserError } from '@rldf/torch/errors';
import { isMap, isScalar, isSeq, LineCounter, type Node, parseDocument } from 'yaml';
import type { z } from 'zod';
import { absolutePrompts, type PromptsField, type SingleReward } from '../config/fields.js';
import { methodOf } from '../methods/index.js';
import { crossFieldProblems, methodNames, methodSchemas, type Recipe, rewardProblems } from './recipe.js';
import { absoluteReward } from './reward-paths.js';

type Path = (string | number)[];

export interface RecipeProblem {
  /** `file:line:column`, or `--set key=value` for an override. */
  where: string;
  /** Dotted path of the field; empty for the file as a whole. */
  field: string;
  message: string;
}

/** All problems of a recipe at once. */
export class RecipeError extends UserError {
  constructor(readonly problems: RecipeProblem[]) {
    const lines = problems.map(
      ({ where, field, message }) => `${where}  ${field === '' ? '' : `${field}: `}${message}`,
    );
    super(problems.length === 1 ? lines[0]! : `${problems.length} problems:\n${lines.join('\n')}`);
  }
}

/**
 * Reads a recipe file.
 *
 * Paths in it are taken from the recipe's own folder and come back absolute, so that the run can be resumed from
 * anywhere: prompt files, reward modules, ratings, and models that begin with `.` or `/`.
 * @param overrides `key.path=value` pairs from `--set`; values are YAML
 * @throws RecipeError with every problem found
 */
export function loadRecipe(file: string, overrides: readonly string[] = []): Recipe {
  let text: string;
  try {
    text = readFileSync(file, 'utf8');
  } catch (error) {
    const reason =
      (error as NodeJS.ErrnoException).code === 'ENOENT' ? 'there is no such file' : (error as Error).message;
    throw new UserError(
      `${file}: cannot read the recipe — ${reason}. \`rldf recipes\` lists those that ship with rldf`,
    );
  }
  return withAbsolutePaths(parseRecipe(text, file, overrides), dirname(resolve(file)));
}

function withAbsolutePaths(recipe: Recipe, folder: string): Recipe {
  const absolute = (path: string) => (isAbsolute(path) ? path : resolve(folder, path));
  const prompts = (field: PromptsField) => absolutePrompts(field, absolute);
  const single = (field: SingleReward) => absoluteReward(field, absolute);
  const { evaluate, report, reward, watch } = recipe;
  const common = {
    ...recipe,
    model: /^\.{1,2}([/\\]|$)/.test(recipe.model) ? absolute(recipe.model) : recipe.model,
    prompts: prompts(recipe.prompts),
    evaluate: evaluate.prompts === undefined ? evaluate : { ...evaluate, prompts: prompts(evaluate.prompts) },
    report: report.prompts === undefined ? report : { ...report, prompts: prompts(report.prompts) },
    reward: Array.isArray(reward)
      ? reward.map((part) => ({ ...part, reward: single(part.reward) }))
      : single(reward),
    watch: { ...watch, ...(watch.judge !== undefined && { judge: single(watch.judge) }) },
  };
  return methodOf(recipe).withAbsolutePaths?.(common, absolute) ?? common;
}

/** Parsed, each value takes a thousand times its text. */
const longestText = 200_000;

/** Checks a recipe given as text; `file` is only named in messages. */
export function parseRecipe(text: string, file: string, overrides: readonly string[] = []): Recipe {
  const lines = new LineCounter();
  const start = `${file}:1:1`;
  if (text.length > longestText) {
    const message = `${text.length} characters — at most ${longestText}. Put long lists of prompts into a file of their own`;
    throw new RecipeError([{ where: start, field: '', message }]);
  }
  const document = readable(start, () => parseDocument(text, { lineCounter: lines, ...exactYaml }));
  const at = (offset: number) => {
    const { line, col } = lines.linePos(offset);
    return `${file}:${line}:${col}`;
  };
  if (document.errors.length > 0) {
    throw new RecipeError(
      document.errors.slice(0, 20).map((error) => ({
        where: at(error.pos[0]),
        field: '',
        message:
          error.code === 'MULTIPLE_DOCS'
            ? 'a second document begins here (`---`) — a file holds one recipe. Remove it, or make two files'
            : `${error.message.split('\n')[0]!.replace(/ at line \d+, column \d+:?$/, '')} — not valid YAML`,
      })),
    );
  }
  if (!isMap(document.contents)) {
    throw new RecipeError([
      { where: `${file}:1:1`, field: '', message: 'expected `key: value` lines, such as method: ddpo' },
    ]);
  }
  const values = readable(start, () => exactNumbers(document.toJS())) as Record<string, unknown>;
  const overridden = new Map<string, string>();
  for (const override of overrides) overridden.set(applyOverride(values, override), `--set ${override}`);
  const locate = (path: Path): string => {
    for (let length = path.length; length > 0; length--) {
      const source = overridden.get(path.slice(0, length).join('.'));
      if (source !== undefined) return source;
    }
    return at(offsetOf(document.contents as Node, path));
  };
  return checkRecipe(values, locate);
}

/** What the YAML library throws is a mistake in the text: aliases without anchors or without end, too many levels. */
function readable<Value>(where: string, run: () => Value): Value {
  try {
    return run();
  } catch (error) {
    const reason =
      error instanceof RangeError ? 'nested too deeply' : (error as Error).message.split('\n')[0]!;
    throw new RecipeError([{ where, field: '', message: `${reason} — not valid YAML` }]);
  }
}

/** Checks a recipe given as an object, as library users write it. */
export function checkRecipe(values: unknown, locate: (path: Path) => string = () => 'recipe'): Recipe {
  const schema = schemaFor(values, locate);
  const problems: RecipeProblem[] = [];
  const report = (path: Path, message: string) =>
    problems.push({ where: locate(path), field: path.join('.'), message });

  const result = schema.safeParse(values, { reportInput: true });
  for (const issue of result.success ? [] : flatten(result.error.issues)) {
    const path = issue.path as Path;
    if (issue.code !== 'unrecognized_keys') report(path, describeIssue(issue));
    else {
      const known = knownKeys(schema, path);
      const prefix = path.length === 0 ? '' : `${path.join('.')}.`;
      for (const key of issue.keys) {
        const offline = key === 'explore' && path.length === 0;
        report(
          [...path, key],
          offline ? noExploring(values) : `unknown key${didYouMean(key, known, prefix)}`,
        );
      }
    }
  }
  // Checks between fields run whenever the fields they read are right, even if others are wrong.
  const recipe = validFields(schema, values as Record<string, unknown>) as Recipe;
  for (const check of [crossFieldProblems, rewardProblems]) {
    for (const { path, message } of ifValid(() => check(recipe))) report(path, message);
  }
  if (result.success && problems.length === 0) return result.data as Recipe;
  throw new RecipeError(problems);
}

/** A field was read that is not valid by itself. */
class NotValid extends Error {}

/** Each field of a recipe that is valid by itself; who reads another one is stopped. */
function validFields(schema: z.ZodObject, values: Record<string, unknown>): object {
  const fields = {};
  for (const [name, field] of Object.entries(schema.shape)) {
    const { success, data } = (field as z.ZodType).safeParse(values[name]);
    const get = () => {
      if (success) return data;
      throw new NotValid();
    };
    Object.defineProperty(fields, name, { get, enumerable: true });
  }
  return fields;
}

/** What a check finds; nothing if it reads a field that is not valid, whose own problem is told already. */
function ifValid<T>(check: () => T[]): T[] {
  try {
    return check();
  } catch (error) {
    if (error instanceof NotValid) return [];
    throw error;
  }
}

/** To explore is to draw with the model in training otherwise than it is used. */
function noExploring(values: unknown): string {
  const exploring = methodNames.filter((name) => 'explore' in methodSchemas[name].shape);
  return `${(values as { method: string }).method} is an offline method: it does not learn from pictures while it draws them, so there is nothing to explore. Remove explore, or set method to one of ${exploring.join(', ')}`;
}

function schemaFor(values: unknown, locate: (path: Path) => string): z.ZodObject {
  const method = (values as { method?: unknown } | null)?.method;
  if (typeof method === 'string' && Object.hasOwn(methodSchemas, method)) {
    return methodSchemas[method as keyof typeof methodSchemas];
  }
  const known = methodNames.join(', ');
  const message =
    method === undefined
      ? `missing — says how to learn. One of: ${known}`
      : `unknown method ${show(method)} — one of: ${known}${typeof method === 'string' ? didYouMean(method, methodNames) : ''}`;
  throw new RecipeError([{ where: locate(['method']), field: 'method', message }]);
}

type Issue = z.core.$ZodIssue;

/** Replaces the issue of a union by the issues of the branch that the value seems to be meant for. */
function flatten(issues: readonly Issue[]): Issue[] {
  return issues.flatMap((issue) => {
    if (issue.code !== 'invalid_union') return [issue];
    const isObject = typeof issue.input === 'object' && issue.input !== null;
    const branches = issue.errors
      .map((branch) => flatten(branch as Issue[]))
      .filter(
        (branch) =>
          branch.length > 0 &&
          !branch.some(({ path, code }) => path.length === 0 && /^invalid_(type|union)$/.test(code)),
      );
    const meant = branches.sort((a, b) => unknownKeys(a) - unknownKeys(b) || a.length - b.length)[0];
    if (!isObject || meant === undefined) return [issue];
    return meant.map((inner) => ({ ...inner, path: [...issue.path, ...inner.path] }));
  });
}

/** How many keys a branch does not know: the value is not meant for it. */
const unknownKeys = (issues: readonly Issue[]) =>
  issues.reduce((sum, issue) => sum + (issue.code === 'unrecognized_keys' ? issue.keys.length : 0), 0);

function describeIssue(issue: Issue): string {
  const input = issue.input;
  if (issue.code === 'invalid_type') {
    if (typeof input === 'number' && !Number.isFinite(input)) return `expected a finite number, got ${input}`;
    if (input === undefined) return `missing — expected ${articled(issue.expected)}`;
    return `expected ${articled(issue.expected)}, got ${show(input)}`;
  }
  if (issue.code === 'invalid_value') {
    const options = issue.values.map(String);
    return `expected ${options.length === 1 ? options[0] : `one of ${options.join(', ')}`}, got ${show(input)}${typeof input === 'string' ? didYouMean(input, options) : ''}`;
  }
  if (issue.code === 'too_small' || issue.code === 'too_big') {
    const bound = issue.code === 'too_small' ? issue.minimum : issue.maximum;
    const relation =
      issue.code === 'too_small'
        ? issue.inclusive
          ? 'at least'
          : 'more than'
        : issue.inclusive
          ? 'at most'
          : 'less than';
    if (issue.origin === 'string') return 'must not be empty';
    if (issue.origin === 'array') return `needs ${relation} ${bound} entries`;
    return `must be ${relation} ${bound}, got ${show(input)}`;
  }
  return `${issue.message}${input === undefined ? '' : `, got ${show(input)}`}`;
}

function articled(type: string): string {
  const names: Record<string, string> = {
    int: 'a whole number',
    number: 'a number',
    string: 'text',
    boolean: 'true or false',
    object: '`key: value` lines',
    array: 'a list',
  };
  return names[type] ?? type;
}

function show(value: unknown): string {
  const text = shown(value);
  const kind = typeof value === 'string' ? 'text ' : '';
  return `${kind}${text.length > 60 ? `${text.slice(0, 57)}...` : text}`;
}

/** The keys that are allowed at a path of a schema, seen through defaults, optionals and unions. */
function knownKeys(schema: unknown, path: Path): string[] {
  let nodes: unknown[] = [schema];
  for (const step of [...path, undefined]) {
    nodes = nodes.flatMap(branches);
    if (step === undefined) break;
    nodes = nodes.flatMap((node) => {
      const definition = definitionOf(node);
      if (definition.type === 'object') return definition.shape?.[step] ?? [];
      return definition.type === 'array' ? [definition.element] : [];
    });
  }
  return nodes.flatMap((node) => Object.keys(definitionOf(node).shape ?? {}));
}

interface Definition {
  type: string;
  shape?: Record<string, unknown>;
  element?: unknown;
  innerType?: unknown;
  options?: unknown[];
}

function definitionOf(node: unknown): Definition {
  return (node as z.ZodType).def as unknown as Definition;
}

function branches(node: unknown): unknown[] {
  const definition = definitionOf(node);
  if (definition.innerType !== undefined) return branches(definition.innerType);
  if (definition.options !== undefined) return definition.options.flatMap(branches);
  return [node];
}

/** Position of the key (or value) at a path in the YAML text; of the nearest parent that is there otherwise. */
function offsetOf(root: Node, path: Path): number {
  let node: Node | null = root;
  let offset = root.range?.[0] ?? 0;
  for (const step of path) {
    let place: Node | undefined;
    let next: Node | null = null;
    if (isMap<Node, Node | null>(node)) {
      const pair: { key: Node; value: Node | null } | undefined = node.items.find(
        ({ key }) => isScalar(key) && String(key.value) === String(step),
      );
      place = pair?.key;
      next = pair?.value ?? null;
    } else if (isSeq<Node>(node)) {
      place = node.items[Number(step)];
      next = place ?? null;
    }
    if (place === undefined) return offset;
    offset = place.range?.[0] ?? offset;
    node = next;
  }
  return offset;
}

/** Sets `a.b=value` (value in YAML) and returns the dotted path. */
function applyOverride(values: Record<string, unknown>, override: string): string {
  const equals = override.indexOf('=');
  const dotted = override.slice(0, equals).trim();
  if (
    equals < 1 ||
    !dotted.split('.').every((key) => /^[A-Za-z_][A-Za-z0-9_]*$|^\d+$/.test(key)) ||
    /(^|\.)__proto__(\.|$)/.test(dotted)
  ) {
    throw new UserError(`--set ${override}: expected key.path=value, such as --set train.learningRate=3e-4`);
  }
  const document = readable(`--set ${override.slice(0, 100)}`, () =>
    parseDocument(override.slice(equals + 1), exactYaml),
  );
  if (document.errors.length > 0) {
    throw new UserError(
      `--set ${override}: the value is not valid YAML. Quote it, such as --set 'name="a: b"'`,
    );
  }
  const keys = dotted.split('.');
  let node = values;
  for (const key of keys.slice(0, -1)) {
    if (node[key] === null || typeof node[key] !== 'object') node[key] = {};
    node = node[key] as Record<string, unknown>;
  }
  node[keys.at(-1)!] = readable(`--set ${override.slice(0, 100)}`, () => exactNumbers(document.toJS()));
  return dotted;
}
