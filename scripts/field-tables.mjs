#!/usr/bin/env node
// node scripts/field-tables.mjs [--write]: compares the tables of recipe fields in the documentation with the recipe's
// schema (part of `npm run check`), or writes them. A table stands between `<!-- fields METHOD FIELD ... -->` and
// `<!-- /fields -->`; a FIELD such as `train` stands for all fields below it. Reads the compiled schema: build first.
import { spawnSync } from 'node:child_process';
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';

const root = resolve(import.meta.dirname, '..');
const write = process.argv.includes('--write');
const main = join(root, 'packages/rldf/dist/cli/main.js');
const { stdout } = spawnSync(process.execPath, [main, 'validate', '--schema'], {
  encoding: 'utf8',
  maxBuffer: 2 ** 30,
});
const schemas = new Map(JSON.parse(stdout).anyOf.map((schema) => [schema.properties.method.const, schema]));

/** Fields at or below a dotted path: [path, schema, whether it must be given]. */
function fieldsAt(method, path) {
  let required = true;
  let found = schemas.get(method);
  for (const name of path.split('.')) {
    const parent = withoutNull(found);
    required = parent.required?.includes(name) ?? false;
    found = parent.properties?.[name];
    if (found === undefined) {
      process.stderr.write(
        `field-tables: method ${method} has no field ${path} — if it is new, npm run build first\n`,
      );
      process.exit(1);
    }
  }
  return leaves(path, found, required);
}

function leaves(path, schema, required) {
  const { properties, required: names = [] } = withoutNull(schema);
  if (properties === undefined) return [[path, schema, required]];
  return Object.entries(properties).flatMap(([name, field]) =>
    leaves(`${path}.${name}`, field, names.includes(name)),
  );
}

/** The schema itself, of a field that may be null too. */
function withoutNull(schema) {
  const kinds = schema.anyOf?.filter(({ type }) => type !== 'null');
  return kinds?.length === 1 ? kinds[0] : schema;
}

const code = (value) => `\`${value}\``;

/** A number as a recipe has it: 0.001 as 1e-3. */
function numberText(value) {
  const short = value.toExponential();
  return value !== 0 && Math.abs(value) < 0.01 ? short : String(value);
}

function valueText({ anyOf, type, enum: choices, const: only, items, prefixItems, ...schema }) {
  if (only !== undefined) return code(only);
  if (choices !== undefined) return choices.map(code).join(', ');
  const forms = anyOf?.flatMap((form) => form.anyOf ?? form);
  if (forms?.some(({ properties }) => properties?.set)) return 'file, list or set';
  if (forms?.some(({ properties }) => properties?.module))
    return 'name, module, ratings, server, judge or list';
  if (forms?.some(({ properties }) => properties?.onnx)) return 'name, file or fields';
  if (forms !== undefined) return forms.map(valueText).join(' or ');
  if (type === 'boolean') return '`true`, `false`';
  if (prefixItems !== undefined) return `list of ${prefixItems.length} numbers`;
  if (type === 'array') return items.enum === undefined ? 'list of texts' : 'list of names';
  if (type === 'string') return 'text';
  const { minimum, exclusiveMinimum: above, exclusiveMaximum: below } = schema;
  const maximum = schema.maximum >= 1e6 ? undefined : schema.maximum; // what no recipe means is refused too
  const kind = type === 'integer' ? 'whole number' : 'number';
  if (above !== undefined && below !== undefined) return `${kind} between ${above} and ${below}`;
  if (above !== undefined)
    return `${kind} above ${above}${maximum === undefined ? '' : `, at most ${maximum}`}`;
  if (minimum === undefined) return maximum === undefined ? kind : `${kind} up to ${maximum}`;
  return maximum === undefined ? `${kind} from ${minimum}` : `${kind}, ${minimum} to ${maximum}`;
}

function defaultText({ default: value }, required) {
  if (required) return '**required**';
  if (value === undefined) return '';
  if (value === '') return 'empty';
  if (Array.isArray(value)) return code(`[${value.join(', ')}]`);
  return code(typeof value === 'number' ? numberText(value) : value);
}

function table(method, paths) {
  const rows = paths
    .flatMap((path) => fieldsAt(method, path))
    .map(([path, schema, required]) => {
      if (path === 'method') {
        const names = [...schemas.keys()].map(code).join(', ');
        return [code(path), names, '**required**', 'How the model learns.'];
      }
      const { description = '' } = schema.description === undefined ? withoutNull(schema) : schema;
      return [code(path), valueText(withoutNull(schema)), defaultText(schema, required), description];
    });
  return [['field', 'value', 'default', 'meaning'], ['---', '---', '---', '---'], ...rows]
    .map((cells) => `| ${cells.map((cell) => cell.replaceAll('|', '\\|')).join(' | ')} |`)
    .join('\n');
}

const pages = [
  'docs/recipes.md',
  ...readdirSync(join(root, 'docs/methods')).map((name) => `docs/methods/${name}`),
];
for (const page of pages) {
  const text = readFileSync(join(root, page), 'utf8');
  const made = text.replace(
    /<!-- fields (\S+) ([^>]*?) -->[\s\S]*?<!-- \/fields -->/g,
    (_, method, paths) =>
      `<!-- fields ${method} ${paths} -->\n${table(method, paths.split(/\s+/))}\n<!-- /fields -->`,
  );
  if (made === text) continue;
  if (write) writeFileSync(join(root, page), made);
  else {
    process.stderr.write(
      `${page}: a table of recipe fields differs from the schema — run node scripts/field-tables.mjs --write\n`,
    );
    process.exitCode = 1;
  }
}
