#!/usr/bin/env node
// Makes the repository ready to run: libtorch, npm packages, the native addon, compiled TypeScript. Every step is
// skipped when its result is there already. No dependencies, since it runs before `npm ci`.
import { mkdirSync, readdirSync, statSync, writeFileSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import {
  buildAddon,
  checkNode,
  findLibtorch,
  hash,
  read,
  run,
  SetupError,
} from '../packages/torch/setup/index.mjs';

const root = resolve(dirname(fileURLToPath(import.meta.url)), '..');
const say = (text) => process.stdout.write(`setup: ${text}\n`);

/** Does a step unless its stamp says that it was done from the same things. */
function stamped(stamp, key, what, make) {
  if (read(stamp) === key) return;
  say(what);
  make();
  mkdirSync(dirname(stamp), { recursive: true });
  writeFileSync(stamp, key);
}

function installPackages() {
  const key = hash(read(join(root, 'package-lock.json')), process.platform, process.arch);
  stamped(join(root, 'node_modules', '.rldf-lock'), key, 'installing npm packages', () =>
    run('npm ci', 'npm', ['ci', '--no-audit', '--no-fund'], root, [
      'Is the registry of npm within reach? Behind a proxy: set HTTPS_PROXY=http://HOST:PORT, or `npm config set registry URL` for a mirror.',
    ]),
  );
}

function sourceFiles(folder) {
  return readdirSync(folder, { withFileTypes: true }).flatMap((entry) => {
    const path = join(folder, entry.name);
    return entry.isDirectory() ? sourceFiles(path) : path.endsWith('.ts') ? [path] : [];
  });
}

function compileTypeScript() {
  const packages = join(root, 'packages');
  const files = readdirSync(packages).flatMap((name) =>
    sourceFiles(join(packages, name, 'src')).filter((file) => !file.endsWith('.test.ts')),
  );
  const key = hash(
    ...files.map((file) => `${file} ${statSync(file).mtimeMs} ${statSync(file).size}`),
    ...readdirSync(packages).map((name) => read(join(packages, name, 'tsconfig.json'))),
    read(join(root, 'tsconfig.base.json')),
  );
  const stamp = join(packages, 'rldf', 'dist', '.stamp'); // goes when the output is removed
  stamped(stamp, key, 'compiling TypeScript', () =>
    run('tsc', process.execPath, [join(root, 'node_modules', 'typescript', 'bin', 'tsc'), '-b'], root, [
      'The sources do not compile: undo local changes, or mend what tsc names above.',
    ]),
  );
}

/** The page of `rldf studio`, which its server reads from dist/app. */
function buildStudioPage() {
  const studio = join(root, 'packages', 'studio');
  const files = readdirSync(join(studio, 'app'), { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name));
  const key = hash(...files.map((file) => `${file} ${statSync(file).mtimeMs} ${statSync(file).size}`));
  const vite = join(root, 'node_modules', 'vite', 'bin', 'vite.js');
  const config = join(studio, 'app', 'vite.config.ts');
  stamped(join(studio, 'dist', '.app-stamp'), key, 'building the page of rldf studio', () =>
    run('vite', process.execPath, [vite, 'build', '--logLevel', 'warn', '--config', config], studio, [
      'The page does not build: undo local changes in packages/studio/app, or mend what vite names above.',
    ]),
  );
}

const started = Date.now();
try {
  checkNode();
  const libtorch = findLibtorch(root, say);
  installPackages();
  await buildAddon(libtorch, say);
  compileTypeScript();
  buildStudioPage();
  if (Date.now() - started > 3000 || process.argv.includes('--verbose'))
    say(`ready (${((Date.now() - started) / 1000).toFixed(1)} s, libtorch at ${libtorch})`);
} catch (error) {
  if (!(error instanceof SetupError)) throw error;
  process.stderr.write(`setup: ${error.message}\n`);
  process.exitCode = 2;
}
