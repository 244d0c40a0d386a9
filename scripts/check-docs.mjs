#!/usr/bin/env node
// npm run check:docs [FILE...]: runs the commands of the documentation's `sh` blocks, page by page, in an empty folder.
// Trainings are cut short. `npm run X` is looked up only, since most take minutes; words in capitals stand for something
// of the reader's; a block marked ```sh no-run is skipped. Links to files and folders must lead somewhere. Then
// check-recipes.mjs plans the recipes for Stable Diffusion.
import { spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join, relative, resolve } from 'node:path';

const root = resolve(import.meta.dirname, '..');
const { scripts } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'));
const main = join(root, 'packages', 'rldf', 'dist', 'cli', 'main.js');
const short = ['epochs=1', 'sample.steps=3', 'sample.picturesPerPrompt=2', 'sample.promptsPerEpoch=2']
  .concat([
    'train.updatesPerEpoch=1',
    'train.warmup=0',
    'report.picturesPerPrompt=1',
    'report.maxPrompts=4',
    'evaluate.maxPrompts=4',
  ])
  .map((pair) => `--set ${pair}`)
  .join(' ');
/** What is added to a command so that it ends within seconds. */
const shortened = {
  train: short,
  quickstart: short,
  pretrain: '--steps 2 --batch-size 4 --scenes 250',
  eval: '--pictures 2 --max-prompts 12',
  search: '--steps 2 --denoising-steps 1 --pictures 1',
};

const pages =
  process.argv.slice(2).length > 0 ? process.argv.slice(2).map((file) => resolve(file)) : allPages();
let passed = 0;
const failures = [];

function allPages() {
  const docs = readdirSync(join(root, 'docs'), { recursive: true, encoding: 'utf8' });
  return ['README.md', 'ARCHITECTURE.md', 'CONTRIBUTING.md', ...docs.map((name) => join('docs', name))]
    .filter((name) => name.endsWith('.md'))
    .map((name) => join(root, name));
}

function report(good, page, what, why = '') {
  if (good) passed++;
  else failures.push(`${relative(root, page)}: ${what}${why}`);
  process.stdout.write(`${good ? 'ok    ' : 'FAILED'} ${relative(root, page)}: ${what}${good ? '' : why}\n`);
}

/** Command lines of the page's blocks, comments cut and continued lines joined. */
function commandsOf(text) {
  return [...text.matchAll(/```sh\n([\s\S]*?)```/g)].flatMap(([, block]) =>
    block
      .replace(/\\\n\s*/g, ' ')
      .split('\n')
      .map((line) => line.replace(/(^|\s)#.*$/, '').trim())
      .filter((line) => line !== ''),
  );
}

function runCommand(page, line, folder) {
  const script = /^npm (?:run )?(\S+)/.exec(line)?.[1];
  if (script !== undefined) {
    return report(script === 'install' || script in scripts, page, line, ` (no script "${script}")`);
  }
  const command = /^npx rldf (\S+)/.exec(line)?.[1];
  if (command === undefined || /(^|\s|=)[A-Z][A-Z_0-9]+(\s|[.:,]|$)/.test(line)) return;
  const dry = line.includes('--dry-run') || line.includes('--help');
  const shorter = dry ? line : `${line} ${shortened[command] ?? ''}`;
  const [words, redirected = ''] = shorter.split(' > ');
  const { status, stderr, stdout } = spawnSync(
    'bash',
    [
      '-c',
      `${words.replace('npx rldf', `"${process.execPath}" "${main}"`)}${redirected && ` > ${redirected}`}`,
    ],
    { cwd: folder, encoding: 'utf8', timeout: 300_000 },
  );
  report(status === 0, page, line, `\n${stdout.slice(-500)}${stderr.slice(-1500)}`);
}

function checkLinks(page, text) {
  for (const [, target] of text.matchAll(/\]\(([^)#\s]+)(?:#[^)]*)?\)/g)) {
    if (/^[a-z]+:/.test(target)) continue;
    if (!existsSync(join(dirname(page), target))) report(false, page, `link to ${target}`, ' leads nowhere');
    else passed++;
  }
}

for (const page of pages) {
  const text = readFileSync(page, 'utf8');
  checkLinks(page, text);
  const commands = commandsOf(text);
  if (commands.length === 0) continue;
  const folder = mkdtempSync(join(tmpdir(), 'rldf-docs-'));
  // what every page may take for granted: a recipe of the reader's and a finished run
  for (const line of [
    'recipes emoji/compressibility --copy mine.yaml',
    `train mine.yaml --name first ${short}`,
  ])
    spawnSync(process.execPath, [main, ...line.split(' ')], { cwd: folder });
  for (const line of commands) {
    if (line.includes('--copy mine.yaml')) rmSync(join(folder, 'mine.yaml'), { force: true });
    if (/--name first\b/.test(line)) rmSync(join(folder, 'runs', 'first'), { recursive: true, force: true });
    runCommand(page, line, folder);
  }
  rmSync(folder, { recursive: true });
}
process.stdout.write(
  `${failures.map((line) => `${line}\n`).join('')}${passed} passed, ${failures.length} failed\n`,
);
process.exitCode = failures.length === 0 ? 0 : 1;
if (process.argv.length === 2) await import('./check-recipes.mjs'); // of all pages alone
