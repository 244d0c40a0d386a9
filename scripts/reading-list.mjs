#!/usr/bin/env node
// node scripts/reading-list.mjs [METHOD ...] [--json]: what a reader opens to follow a method from its recipe to the optimiser step.
//
// The method's own file counts whole. Of what it calls, two calls deep, each function, class member or class that is named is
// counted with its comment, in the file where it stands. Not followed: calls inside `throw` (error texts), and what a training
// offers besides its loop (draw, exportTo, state, load, free, plan: evaluation, saving and planning). Not counted: schemas, plans and
// folders that are given (base; what reads recipes and prompts; the run folder); other packages (files, instruments, networks and
// tensors). TexForce and DiffExp have no loop of their own: they are read with DDPO, which calls them.
//
// Without a method: all of them, and exit code 1 if one is above its budget.
import { basename, dirname, join, relative, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import ts from 'typescript';

const root = resolve(dirname(fileURLToPath(import.meta.url)), '..');
const source = join(root, 'packages/rldf/src');
/** Folders of packages/rldf/src that a reader takes as given. */
const given = ['base', 'config', 'prompts', 'run'];
const depth = 2;
const notFollowed = new Set(['draw', 'exportTo', 'state', 'load', 'free', 'plan']);

const small = { files: 5, lines: 800 };
const large = { files: 6, lines: 1000 };
/** Files to begin with, the method's own first. */
const methods = {
  ddpo: { own: ['ddpo'], budget: small },
  dpok: { own: ['dpok'], budget: small },
  alignprop: { own: ['alignprop'], budget: small },
  'draft-k': { own: ['draft-k'], budget: small },
  'draft-lv': { own: ['draft-lv'], budget: small },
  refl: { own: ['refl'], budget: small },
  rwr: { own: ['rwr'], budget: small },
  raft: { own: ['raft'], budget: small },
  dpo: { own: ['dpo'], budget: small },
  'ip-rldf': { own: ['ip-rldf'], budget: large },
  texforce: { own: ['texforce', 'ddpo'], budget: large },
  diffexp: { own: ['diffexp', 'ddpo'], budget: large },
};

function programOf() {
  const config = join(root, 'packages/rldf/tsconfig.json');
  const { options } = ts.parseJsonConfigFileContent(
    ts.readConfigFile(config, ts.sys.readFile).config,
    ts.sys,
    dirname(config),
  );
  const files = Object.values(methods).flatMap(({ own }) => own.map(fileOf));
  return ts.createProgram([...new Set(files)], {
    ...options,
    composite: false,
    incremental: false,
    noEmit: true,
    customConditions: ['rldf-source'],
    skipLibCheck: true,
  });
}

const fileOf = (name) => join(source, 'methods', `${name}.ts`);
const program = programOf();
const checker = program.getTypeChecker();

/** What is counted of a name: the declaration that runs, in a folder that is not given. */
function declarationOf(node) {
  let symbol = checker.getSymbolAtLocation(node);
  if (symbol === undefined) return undefined;
  if (symbol.flags & ts.SymbolFlags.Alias) symbol = checker.getAliasedSymbol(symbol);
  const declaration = symbol.valueDeclaration;
  if (declaration === undefined) return undefined;
  const { fileName } = declaration.getSourceFile();
  if (!fileName.startsWith(`${source}/`)) return undefined;
  const folder = relative(source, fileName).split('/')[0];
  if (given.includes(folder) || /-(schema|plan)\.ts$/.test(fileName)) return undefined;
  const runs =
    ts.isFunctionDeclaration(declaration) ||
    ts.isMethodDeclaration(declaration) ||
    ts.isClassDeclaration(declaration) ||
    ts.isGetAccessorDeclaration(declaration) ||
    (ts.isPropertyDeclaration(declaration) && declaration.initializer !== undefined) ||
    (ts.isVariableDeclaration(declaration) && ts.isSourceFile(declaration.parent.parent.parent));
  return runs ? declaration : undefined;
}

/** Calls `visit` for each declaration that is named below a node, types and what is not followed left out. */
function named(node, visit) {
  if (ts.isTypeNode(node) || ts.isThrowStatement(node) || ts.isImportDeclaration(node)) return;
  if (
    (ts.isPropertyAssignment(node) || ts.isMethodDeclaration(node)) &&
    ts.isObjectLiteralExpression(node.parent)
  ) {
    if (notFollowed.has(node.name.getText())) return;
  }
  if (ts.isIdentifier(node) || ts.isPrivateIdentifier(node)) {
    const declaration = declarationOf(node);
    if (declaration !== undefined) visit(declaration);
  }
  ts.forEachChild(node, (child) => named(child, visit));
}

/** Of a class only its fields and constructor are read when it is made; its methods where they are called. */
function partsOf(declaration) {
  if (!ts.isClassDeclaration(declaration)) return [declaration];
  return declaration.members.filter(
    (member) => ts.isConstructorDeclaration(member) || ts.isPropertyDeclaration(member),
  );
}

function linesOf(declaration) {
  const file = declaration.getSourceFile();
  const line = (position) => file.getLineAndCharacterOfPosition(position).line;
  const docs = ts.getJSDocCommentsAndTags(declaration).filter(ts.isJSDoc);
  const first = line(Math.min(declaration.getStart(), ...docs.map((doc) => doc.getStart())));
  return { file, first, last: line(declaration.getEnd()) };
}

/** The lines to read of each file, the method's own first. */
function readingList(name) {
  const { own } = methods[name];
  const read = new Map();
  const add = (file, first, last) => {
    const lines = read.get(file) ?? new Set();
    for (let line = first; line <= last; line++) lines.add(line);
    read.set(file, lines);
  };
  let level = [];
  for (const one of own) {
    const file = program.getSourceFile(fileOf(one));
    add(file.fileName, 0, file.getLineStarts().length - 2);
    level.push(file);
  }
  const seen = new Set();
  for (let deep = 1; deep <= depth; deep++) {
    const next = [];
    for (const node of level) {
      named(node, (declaration) => {
        if (seen.has(declaration)) return;
        seen.add(declaration);
        const parts = partsOf(declaration);
        for (const part of parts) {
          const { file, first, last } = linesOf(part);
          add(file.fileName, first, last);
        }
        next.push(...parts);
      });
    }
    level = next;
  }
  const files = [...read].map(([file, lines]) => ({
    file: relative(root, file),
    lines: lines.size,
    of: program.getSourceFile(file).getLineStarts().length - 1,
  }));
  return {
    method: name,
    files,
    lines: files.reduce((sum, { lines }) => sum + lines, 0),
    budget: methods[name].budget,
  };
}

const words = process.argv.slice(2);
const json = words.includes('--json');
const wanted = words.filter((word) => word !== '--json');
const unknown = wanted.find((name) => !Object.hasOwn(methods, name));
if (unknown !== undefined) {
  console.error(`reading-list: there is no method ${unknown} — one of ${Object.keys(methods).join(', ')}`);
  process.exit(2);
}
const lists = (wanted.length > 0 ? wanted : Object.keys(methods)).map(readingList);
if (json) console.log(JSON.stringify(lists, null, 1));
else if (wanted.length > 0) {
  for (const { method, files, lines, budget } of lists) {
    console.log(
      `${method}: ${files.length} files (at most ${budget.files}), ${lines} lines (at most ${budget.lines})`,
    );
    for (const one of files)
      console.log(`${String(one.lines).padStart(5)} of ${String(one.of).padStart(3)}  ${one.file}`);
  }
} else {
  console.log('| method | files | lines | which |\n|---|---|---|---|');
  for (const { method, files, lines } of lists)
    console.log(
      `| ${method} | ${files.length} | ${lines} | ${files.map(({ file, lines }) => `${basename(file, '.ts')} ${lines}`).join(', ')} |`,
    );
}
if (lists.some(({ files, lines, budget }) => files.length > budget.files || lines > budget.lines))
  process.exitCode = 1;
