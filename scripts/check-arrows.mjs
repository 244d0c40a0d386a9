#!/usr/bin/env node
// Rejects imports against the order in ARCHITECTURE.md, between packages and between the layers inside them, imports past the
// packages' entry points, packages of unequal versions, files that grew past 500 lines, more than 1,200 lines of C++, and C++
// that clang-format (where it is installed) would lay out otherwise.
import { spawnSync } from 'node:child_process';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { dirname, join, relative, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = resolve(dirname(fileURLToPath(import.meta.url)), '..');
/** What each package may import of the others: those that its package.json names. */
const allowed = {
  torch: [],
  'emoji-world': [],
  models: ['@rldf/torch'],
  studio: [],
  common: ['@rldf/torch', '@rldf/models', '@rldf/emoji-world'],
  search: ['@rldf/torch', '@rldf/models', '@rldf/emoji-world', '@rldf/common'],
  rldf: [
    ...['@rldf/torch', '@rldf/models', '@rldf/emoji-world', '@rldf/common', '@rldf/search', '@rldf/studio'],
  ],
};
/**
 * The layers of a package's src, the lowest first: each folder may import those before it, types included, and none after it.
 * The README.md of each folder says what it contains; index.ts may import all.
 */
const layers = {
  common: ['base', 'drawing', 'storage', 'hub', 'workers', 'instruments'],
  search: ['world', 'agents', 'pictures', 'search', 'clone', 'table', 'index.ts'],
  rldf: [
    ...['base', 'config', 'prompts', 'rewards', 'relabel', 'sampling', 'run', 'methods'],
    ...['recipe', 'plan', 'adapters', 'report', 'train', 'pretrain', 'verify', 'eval', 'reproduce'],
    ...['studio', 'cli', 'exports', 'index.ts'],
  ],
};
const mostLooseFiles = 5;
const maximumLines = 500;
const maximumCppLines = 1200; // all of it together, blank lines and comments included
const problems = [];

function visit(folder, name) {
  for (const entry of readdirSync(folder, { withFileTypes: true })) {
    const path = join(folder, entry.name);
    if (entry.isDirectory()) {
      visit(path, name);
      continue;
    }
    if (!path.endsWith('.ts')) continue;
    const text = readFileSync(path, 'utf8');
    const where = relative(root, path);
    const code = text.replace(/^\s*(\*|\/\/).*$/gm, ''); // without comments
    for (const [, target] of code.matchAll(/(?:from|import)\s*\(?\s*'([^']+)'/g)) {
      const workspace = /^(@rldf\/[a-z-]+|rldf)(?=\/|$)/.exec(target)?.[1];
      if (workspace !== undefined && !allowed[name].includes(workspace))
        problems.push(`${where}: ${name} may not import ${target}`);
      if (target.startsWith('.') && !resolve(dirname(path), target).startsWith(join(root, 'packages', name)))
        problems.push(`${where}: ${target} leaves the package`);
    }
    const lines = text.split('\n').length;
    if (lines > maximumLines)
      problems.push(`${where}: ${lines} lines; ${maximumLines} is the limit — split it by subject`);
  }
}

const manifestOf = (name) => JSON.parse(readFileSync(join(root, 'packages', name, 'package.json'), 'utf8'));
const { version } = manifestOf('rldf');
for (const name of Object.keys(allowed)) {
  visit(join(root, 'packages', name, 'src'), name);
  const manifest = manifestOf(name);
  const needed = Object.entries(manifest.dependencies).filter(([one]) => /^(rldf|@rldf\/.*)$/.test(one));
  if (manifest.version !== version || needed.some(([, wanted]) => wanted !== version))
    problems.push(`packages/${name}/package.json: another version than ${version} — all packages have one`);
  for (const [one] of needed.filter(([one]) => !allowed[name].includes(one)))
    problems.push(`packages/${name}/package.json: ${name} may not depend on ${one}`);
}

/** Imports of a folder from one that comes after it. Tests may import anything. */
function visitLayers(name, folder, source = folder) {
  const folderOf = (path) => relative(source, path).split('/')[0];
  for (const entry of readdirSync(folder, { withFileTypes: true })) {
    const path = join(folder, entry.name);
    if (entry.isDirectory()) visitLayers(name, path, source);
    else if (path.endsWith('.ts') && !/\.(test|fixture)\.ts$/.test(path)) {
      const code = readFileSync(path, 'utf8').replace(/^\s*(\*|\/\/).*$/gm, '');
      const own = folderOf(path);
      for (const [, target] of code.matchAll(/(?:from|import)\s*\(?\s*'(\.[^']+)'/g)) {
        const other = folderOf(resolve(dirname(path), target)).replace(/\.js$/, '.ts');
        if (own !== other && layers[name].indexOf(other) >= layers[name].indexOf(own))
          problems.push(
            `${relative(root, path)}: ${own} may not import ${target} — ${other} is in a higher layer`,
          );
      }
    }
  }
}

for (const [name, folders] of Object.entries(layers)) {
  const source = join(root, 'packages', name, 'src');
  const where = relative(root, source);
  visitLayers(name, source);
  const loose = readdirSync(source, { withFileTypes: true });
  for (const { name: folder } of loose.filter((entry) => entry.isDirectory())) {
    if (!folders.includes(folder))
      problems.push(`${where}/${folder}: a folder without a layer — name it in layers`);
    if (!existsSync(join(source, folder, 'README.md')))
      problems.push(`${where}/${folder}: no README.md — say in a few lines what it contains`);
  }
  const looseFiles = loose.filter((entry) => entry.isFile()).length;
  if (looseFiles > mostLooseFiles)
    problems.push(
      `${where}: ${looseFiles} loose files; ${mostLooseFiles} is the limit — each belongs in a folder`,
    );
}

/** Benchmarks, examples and tests over packages use what anybody can import: the exports of the packages. */
function visitOutside(folder) {
  for (const entry of readdirSync(folder, { withFileTypes: true })) {
    const path = join(folder, entry.name);
    if (entry.isDirectory()) visitOutside(path);
    else if (/\.[cm]?[jt]s$/.test(path)) {
      const code = readFileSync(path, 'utf8').replace(/^\s*(\*|\/\/).*$/gm, '');
      if (code.includes("'@rldf/common/"))
        problems.push(
          `${relative(root, path)}: imports @rldf/common — that is for packages; take it from an entry of 'rldf'`,
        );
      for (const [, target] of code.matchAll(/(?:from|import|require)\s*\(?\s*'(\.[^']+)'/g)) {
        const file = resolve(dirname(path), target);
        if (file.startsWith(join(root, 'packages/')) && !file.endsWith('.node'))
          problems.push(
            `${relative(root, path)}: ${target} — import what a package exports ('rldf', '@rldf/torch', or an entry of ARCHITECTURE.md's list)`,
          );
      }
    }
  }
}
for (const folder of ['benchmarks', 'examples', 'test']) visitOutside(join(root, folder));

/** The C++ sources in a folder, those of its packages' dependencies and outputs left out. */
const cppFiles = (folder) =>
  readdirSync(folder, { withFileTypes: true }).flatMap((entry) => {
    const path = join(folder, entry.name);
    if (entry.isDirectory()) return /^(node_modules|build|dist)$/.test(entry.name) ? [] : cppFiles(path);
    return /\.(c|cc|cpp|cxx|cu|h|hh|hpp|inc)$/.test(entry.name) ? [path] : [];
  });

const cpp = cppFiles(join(root, 'packages'));
const cppLines = cpp.reduce((sum, path) => sum + readFileSync(path, 'utf8').split('\n').length - 1, 0);
if (cppLines > maximumCppLines)
  problems.push(
    `packages: ${cppLines} lines of C++ in all; ${maximumCppLines} is the limit — simplify, or write TypeScript`,
  );
const layout = spawnSync('clang-format', ['--dry-run', '--Werror', ...cpp], { cwd: root, encoding: 'utf8' });
if (layout.error === undefined && layout.status !== 0)
  problems.push(`${layout.stderr.split('\n')[0]} — clang-format -i packages/torch/*/*.cc lays it out`);
for (const problem of problems) console.error(problem);
if (problems.length > 0) process.exit(1);
