#!/usr/bin/env node
// Makes the project ready to run: libtorch, npm packages, the native addon, compiled TypeScript. Every step is skipped
// when its result is there already. No dependencies, since it runs before `npm ci`.
import { execFileSync, spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import {
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = resolve(dirname(fileURLToPath(import.meta.url)), '..');
const testedTorch = ['2.13.0'];
const installedTorch = '2.13.0';
const minimumNode = [20, 19];

const say = (text) => process.stdout.write(`setup: ${text}\n`);

function fail(what, fix) {
  process.stderr.write(`setup: ${what}\n${fix.map((line) => `  - ${line}\n`).join('')}`);
  process.exit(2);
}

function run(what, command, args, fix) {
  const { status, error } = spawnSync(command, args, { cwd: root, stdio: 'inherit' });
  if (status !== 0)
    fail(`${what} failed (${error?.message ?? `${command} ended with code ${status}`}).`, fix);
}

const hash = (...parts) => createHash('sha256').update(parts.join('\0')).digest('hex');
const read = (file) => (existsSync(file) ? readFileSync(file, 'utf8') : '');

function checkNode() {
  const [major, minor] = process.versions.node.split('.').map(Number);
  if (major > minimumNode[0] || (major === minimumNode[0] && minor >= minimumNode[1])) return;
  fail(`Node ${process.versions.node} is too old; ${minimumNode.join('.')} or newer is needed.`, [
    'Install a newer Node.js.',
  ]);
}

// ---- libtorch: LIBTORCH, the project's own .venv, an installed PyTorch, or a fresh install into .venv ----

const versionOf = (folder) =>
  /__version__ = '([^'+]+)/.exec(read(join(folder, 'version.py')))?.[1] ??
  (read(join(folder, 'build-version')).trim().split('+')[0] || undefined);
const isLibtorch = (folder) =>
  ['.so', '.dylib'].some((ending) => existsSync(join(folder, 'lib', `libtorch${ending}`))) &&
  existsSync(join(folder, 'include', 'ATen'));

function venvTorch() {
  const lib = join(root, '.venv', 'lib');
  const python = existsSync(lib) ? readdirSync(lib).find((name) => name.startsWith('python')) : undefined;
  return python && join(lib, python, 'site-packages', 'torch');
}

function systemTorch() {
  const code =
    "import importlib.util as u; s = u.find_spec('torch'); print(s.submodule_search_locations[0] if s else '')";
  const { stdout, status } = spawnSync('python3', ['-c', code], { encoding: 'utf8' });
  return status === 0 ? stdout.trim() : '';
}

function findLibtorch() {
  const given = process.env.LIBTORCH;
  if (given) {
    if (!isLibtorch(given))
      fail(`LIBTORCH=${given} holds no libtorch (lib/libtorch.so and include/ATen).`, [
        'Point LIBTORCH at the folder of an unpacked libtorch or at site-packages/torch.',
        'Or unset it: an installed PyTorch is found, or one is installed.',
      ]);
    return given;
  }
  for (const folder of [venvTorch(), systemTorch()]) {
    if (folder && isLibtorch(folder) && testedTorch.includes(versionOf(folder))) return folder;
  }
  return installLibtorch();
}

function installLibtorch() {
  const fix = [
    'Python 3.10 to 3.14 with venv and pip is needed (Debian: apt-get install python3-venv python3-pip).',
    `Or install PyTorch ${testedTorch.join(' or ')} yourself and run again, or set LIBTORCH to its folder.`,
  ];
  say(`no libtorch ${testedTorch.join(' or ')} found; installing PyTorch ${installedTorch} into .venv.`);
  say(
    'the CPU build is about 200 MB; on Linux x64 the default wheel is the CUDA build of several GB. See the README for the CPU wheel.',
  );
  run('making .venv', 'python3', ['-m', 'venv', '.venv'], fix);
  run(
    'installing PyTorch',
    join(root, '.venv', 'bin', 'python'),
    ['-m', 'pip', 'install', '--disable-pip-version-check', '--quiet', `torch==${installedTorch}`],
    fix,
  );
  const folder = venvTorch();
  if (!folder || !isLibtorch(folder))
    fail('PyTorch was installed, but its libtorch was not found in .venv.', fix);
  return folder;
}

// ---- npm packages, addon, TypeScript: each with a stamp of what it was made from ----

function stamped(file, key, what, make) {
  if (read(file) === key) return false;
  say(what);
  make();
  mkdirSync(dirname(file), { recursive: true });
  writeFileSync(file, key);
  return true;
}

function installPackages() {
  const key = hash(read(join(root, 'package-lock.json')), process.platform, process.arch);
  stamped(join(root, 'node_modules', '.rldf-lock'), key, 'installing npm packages', () =>
    run(
      'npm ci',
      'npm',
      ['ci', '--no-audit', '--no-fund'],
      ['Check the connection to your npm registry and run again.'],
    ),
  );
}

function buildAddon(libtorch) {
  const compiler = process.env.CXX ?? 'g++';
  const version = spawnSync(compiler, ['--version'], { encoding: 'utf8' });
  if (version.status !== 0)
    fail(`no C++ compiler: "${compiler}" does not run.`, [
      'Install one with C++20 (Debian: apt-get install g++), or name it in CXX.',
    ]);
  const folder = join(root, 'packages', 'torch');
  const source = join(folder, 'native', 'addon.cc');
  const output = join(folder, 'build', 'torch.node');
  const key = hash(
    read(source),
    libtorch,
    versionOf(libtorch) ?? '',
    version.stdout,
    read(fileURLToPath(import.meta.url)),
  );
  const stamp = join(folder, 'build', 'stamp');
  if (existsSync(output) && read(stamp) === key) return;
  say(`building the addon against libtorch ${versionOf(libtorch) ?? '(unknown version)'}`);
  mkdirSync(join(folder, 'build'), { recursive: true });
  const lib = join(libtorch, 'lib');
  const mac = process.platform === 'darwin' ? ['-undefined', 'dynamic_lookup'] : ['-Wl,--no-as-needed'];
  run(
    'compiling the addon',
    compiler,
    [
      ...['-std=c++20', '-O3', '-fPIC', '-shared', '-DNAPI_VERSION=8'],
      `-I${join(root, 'node_modules', 'node-api-headers', 'include')}`,
      `-I${join(libtorch, 'include')}`,
      `-I${join(libtorch, 'include', 'torch', 'csrc', 'api', 'include')}`,
      source,
      ...['-o', `${output}.new`, `-L${lib}`, ...mac, '-ltorch', '-ltorch_cpu', '-lc10', `-Wl,-rpath,${lib}`],
    ],
    [
      'A compiler with C++20 is needed (g++ 11 or newer, clang 14 or newer).',
      `Does ${libtorch} belong to this machine's architecture?`,
    ],
  );
  renameSync(`${output}.new`, output); // a process that has the old one mapped keeps it
  writeFileSync(stamp, key);
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
    execFileSync(process.execPath, [join(root, 'node_modules', 'typescript', 'bin', 'tsc'), '-b'], {
      cwd: root,
      stdio: 'inherit',
    }),
  );
}

const started = Date.now();
checkNode();
const libtorch = findLibtorch();
installPackages();
buildAddon(libtorch);
compileTypeScript();
if (Date.now() - started > 3000 || process.argv.includes('--verbose'))
  say(`ready (${((Date.now() - started) / 1000).toFixed(1)} s, libtorch at ${libtorch})`);
