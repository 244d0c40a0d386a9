#!/usr/bin/env node
// Checks the form of README, ARCHITECTURE, CONTRIBUTING and docs (part of `npm run check`): prose stays within 100 columns,
// every page of a method begins with what it does, when to use it and how to run it, links to headings lead to one, and
// the description of every recipe field is whole sentences. Tables, code blocks, images and the targets of links may be
// longer.
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { dirname, join, relative, resolve } from 'node:path';

const root = resolve(import.meta.dirname, '..');
const columns = 100;
const opening = ['What it does', 'When to use it', 'How to run it'];
const methods = readdirSync(join(root, 'docs', 'methods')).map((name) => `docs/methods/${name}`);
/** docs/performance.md is written by benchmarks. */
const guides = readdirSync(join(root, 'docs'))
  .filter((name) => name.endsWith('.md') && name !== 'performance.md')
  .map((name) => `docs/${name}`);
const pages = ['README.md', 'ARCHITECTURE.md', 'CONTRIBUTING.md', ...guides, ...methods];
/** Pages about all methods, or several. */
const shared = ['README.md', 'invariants.md', 'reward-gradients.md'].map((name) => `docs/methods/${name}`);
const problems = [];

const withoutCode = (text) => text.replace(/^ *```[\s\S]*?^ *```/gm, (block) => block.replace(/[^\n]+/g, ''));
const headingsOf = (text, level) =>
  [...withoutCode(text).matchAll(new RegExp(`^${level} (.+)$`, 'gm'))].map(([, title]) => title);
/** The name under which GitHub links to a heading. */
const anchorOf = (title) =>
  title
    .toLowerCase()
    .replace(/[^\p{L}\p{N} _-]/gu, '')
    .replaceAll(' ', '-');

function checkWidth(page, text) {
  for (const [i, line] of withoutCode(text).split('\n').entries()) {
    const length = [...line.replace(/\]\([^)]*\)/g, ']()')].length;
    if (length > columns && !/^\s*(\||!\[|<!--)/.test(line))
      problems.push(`${page}:${i + 1}: ${length} columns — prose ends at ${columns}. Wrap the line`);
  }
}

function checkOpening(page, text) {
  const found = headingsOf(text, '##').slice(0, opening.length);
  if (found.join() !== opening.join())
    problems.push(
      `${page}: begins with ${found.join(', ')} — the page of a method begins with ${opening.join(', ')}`,
    );
  const run = text.split(`## ${opening[2]}`)[1]?.split('\n## ')[0] ?? '';
  if (!/```sh\n(?:.*\n)*?npx rldf /.test(run))
    problems.push(`${page}: no command under "${opening[2]}" — show one in an sh block`);
}

function checkAnchors(page, text) {
  for (const [, target, anchor] of text.matchAll(/\]\(([^)#\s]*)#([^)\s]+)\)/g)) {
    if (/^[a-z]+:/.test(target)) continue;
    const file = target === '' ? join(root, page) : join(root, dirname(page), target);
    if (!file.endsWith('.md') || !existsSync(file)) continue; // npm run check:docs tells of lost files
    if (!headingsOf(readFileSync(file, 'utf8'), '#+').some((title) => anchorOf(title) === anchor))
      problems.push(`${page}: ${relative(root, file)} has no heading for #${anchor}`);
  }
}

/** Texts of `.describe('...')` in the sources, also such as are put together by `+`. */
function checkDescriptions(file, text) {
  for (const match of text.matchAll(/\.describe\(\s*((?:'(?:[^'\\]|\\.)*'[\s+]*)+),?\s*\)/g)) {
    const description = match[1]
      .replace(/'\s*\+\s*'/g, '')
      .trim()
      .slice(1, -1);
    const where = `${file}:${text.slice(0, match.index).split('\n').length}`;
    if (!/^[^a-z]/u.test(description) || !description.endsWith('.'))
      problems.push(`${where}: "${description}" — a description is whole sentences`);
    for (const line of match[0].split('\n').slice(1))
      if ([...line].length > columns)
        problems.push(`${where}: a line of ${[...line].length} columns — split it at ${columns} with +`);
  }
}

for (const page of pages) {
  const text = readFileSync(join(root, page), 'utf8');
  checkWidth(page, text);
  checkAnchors(page, text);
  if (methods.includes(page) && !shared.includes(page)) checkOpening(page, text);
}
for (const name of readdirSync(join(root, 'packages'))) {
  const source = join(root, 'packages', name, 'src');
  if (!existsSync(source)) continue;
  for (const file of readdirSync(source, { recursive: true, encoding: 'utf8' }))
    if (/(?<!\.test)\.ts$/.test(file))
      checkDescriptions(relative(root, join(source, file)), readFileSync(join(source, file), 'utf8'));
}

if (problems.length > 0) {
  process.stderr.write(`${problems.join('\n')}\n`);
  process.exitCode = 1;
}
