// Finds or installs libtorch and builds the addon against it. Plain JavaScript without dependencies: it runs before
// anything is installed or compiled.
import { spawn, spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { basename, dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

/** What the tests run with: each major of Node on the first PyTorch, which is the one that is installed, and each PyTorch on the first. */
export const testedTorch = ['2.13.0', '2.14.1', '2.15.0'];
export const testedNode = [20, 22, 24];
const installedTorch = testedTorch[0];
const minimumNode = [20, 19];
const packageFolder = dirname(dirname(fileURLToPath(import.meta.url)));

/** A step that cannot be done; its message ends with what to do. */
export class SetupError extends Error {
  name = 'UserError';
  constructor(what, fixes) {
    super(`${what}\n${fixes.map((line) => `  - ${line}`).join('\n')}`);
  }
}

export function run(what, command, args, cwd, fixes) {
  const { status, error } = spawnSync(command, args, { cwd, stdio: 'inherit' });
  if (status !== 0)
    throw new SetupError(
      `${what} failed (${error?.message ?? `${command} ended with code ${status}`}).`,
      fixes,
    );
}

export const hash = (...parts) => createHash('sha256').update(parts.join('\0')).digest('hex');
export const read = (file) => (existsSync(file) ? readFileSync(file, 'utf8') : '');

export function checkNode() {
  const [major, minor] = process.versions.node.split('.').map(Number);
  if (major > minimumNode[0] || (major === minimumNode[0] && minor >= minimumNode[1])) return;
  throw new SetupError(
    `Node ${process.versions.node} is too old; ${minimumNode.join('.')} or newer is needed.`,
    ['Install a newer Node.js.'],
  );
}

export const versionOf = (libtorch) =>
  /__version__ = '([^'+]+)/.exec(read(join(libtorch, 'version.py')))?.[1] ??
  (read(join(libtorch, 'build-version')).trim().split('+')[0] || undefined);

const isLibtorch = (folder) =>
  ['.so', '.dylib'].some((ending) => existsSync(join(folder, 'lib', `libtorch${ending}`))) &&
  existsSync(join(folder, 'include', 'ATen'));

/**
 * The libtorch to link: the folder in LIBTORCH, the PyTorch of `root`'s own .venv, that of the system's Python, or a
 * fresh one installed into .venv.
 */
export function findLibtorch(root, say) {
  const given = process.env.LIBTORCH;
  if (given) {
    if (isLibtorch(given)) return given;
    throw new SetupError(`LIBTORCH=${given} holds no libtorch (lib/libtorch.so and include/ATen).`, [
      'Point LIBTORCH at the folder of an unpacked libtorch or at site-packages/torch.',
      'Or unset it: an installed PyTorch is found, or one is installed.',
    ]);
  }
  for (const folder of [venvTorch(join(root, '.venv')), systemTorch()]) {
    if (!folder || !isLibtorch(folder)) continue;
    if (testedTorch.includes(versionOf(folder))) return folder;
    say(
      `PyTorch ${versionOf(folder)} in ${folder} is left alone, since rldf is not tested with it. To try: LIBTORCH=${folder} npm run setup`,
    );
  }
  say(
    `no libtorch ${testedTorch.join(' or ')} found; installing PyTorch ${installedTorch} into ${join(root, '.venv')}.`,
  );
  return installTorch(join(root, '.venv'), installedTorch, say);
}

/** What to do where PyTorch cannot be installed, the likeliest first. */
const ownTorch = (version) => [
  `Or use a PyTorch ${version} that is there, such as a CUDA build: LIBTORCH=$(python3 -c 'import torch; print(torch.__path__[0])') npm run setup`,
  `Or unpack libtorch ${version} (its page "Get started" has it for C++) and name its folder in LIBTORCH.`,
];
const proxy =
  'Behind a proxy: set HTTPS_PROXY=http://HOST:PORT; where the index is a mirror, PIP_INDEX_URL (pip) and `npm config set registry` (npm).';

/** What PyTorch's wheels are made for: Linux with glibc on x64 or arm64, and macOS on arm64. */
const minimumGlibc = [2, 28];

function thisPlatform() {
  const { platform, arch } = process;
  if (platform !== 'linux') return { platform, arch };
  process.report.excludeNetwork = true; // looking up names could take seconds
  return { platform, arch, glibc: process.report.getReport().header.glibcVersionRuntime };
}

/** @throws SetupError where no wheel of PyTorch can be installed, whatever pip would answer */
export function checkPlatform({ platform, arch, glibc } = thisPlatform()) {
  const known = { linux: ['x64', 'arm64'], darwin: ['arm64'] };
  const refuse = (what, fix) => {
    throw new SetupError(`${what}, for which there is no PyTorch on the package index.`, [fix, lastResort]);
  };
  const lastResort = 'Or build libtorch from its sources there, and name its folder in LIBTORCH.';
  if (!known[platform]?.includes(arch))
    refuse(
      `this is ${platform} on ${arch}`,
      platform === 'win32'
        ? 'Use the Windows Subsystem for Linux.'
        : `Use ${Object.entries(known)
            .map(([name, kinds]) => `${name} on ${kinds.join(' or ')}`)
            .join(', or ')}.`,
    );
  if (platform !== 'linux') return;
  if (glibc === undefined)
    refuse(
      'the C library is musl (as on Alpine)',
      'Use a distribution with glibc; of Node’s container images one like node:22-bookworm-slim.',
    );
  const [major, minor] = glibc.split('.').map(Number);
  if (major < minimumGlibc[0] || (major === minimumGlibc[0] && minor < minimumGlibc[1]))
    refuse(
      `the C library is glibc ${glibc}`,
      `Use a distribution with glibc ${minimumGlibc.join('.')} or newer, such as Debian 10 or Ubuntu 20.04.`,
    );
}

/** @throws SetupError if python3 cannot make environments with pip, before anything is begun */
function checkPython(version) {
  const able = spawnSync('python3', ['-c', 'import sys, venv, ensurepip; print(*sys.version_info[:2])'], {
    encoding: 'utf8',
  });
  if (able.error)
    throw new SetupError('there is no python3; it carries libtorch, inside PyTorch.', [
      'Install Python 3.10 to 3.14 (Debian, Ubuntu: apt-get install python3 python3-venv).',
      ...ownTorch(version),
    ]);
  if (able.status !== 0)
    throw new SetupError('python3 cannot make environments: its modules venv and ensurepip are missing.', [
      'Install them (Debian, Ubuntu: apt-get install python3-venv) and run again.',
      ...ownTorch(version),
    ]);
  const [major, minor] = able.stdout.split(' ').map(Number);
  if (major !== 3 || minor < 10 || minor > 14)
    throw new SetupError(`python3 is Python ${major}.${minor}, for which there is no PyTorch ${version}.`, [
      'Put a Python 3.10 to 3.14 first in PATH as python3 and run again.',
      ...ownTorch(version),
    ]);
}

/** Makes a Python environment that carries PyTorch, and returns its libtorch. */
export function installTorch(venv, version, say) {
  checkPlatform();
  checkPython(version);
  const fixes = [
    'Is the network there, and are about 1 GB of disk free (several GB for the CUDA build)?',
    proxy,
    ...ownTorch(version),
  ];
  say(
    'the CPU build is about 200 MB; on Linux x64 the default wheel is the CUDA build of several GB. See the README for the CPU wheel.',
  );
  run(`making ${venv}`, 'python3', ['-m', 'venv', venv], undefined, fixes);
  const pip = ['-m', 'pip', 'install', '--disable-pip-version-check', '--quiet', `torch==${version}`];
  run('installing PyTorch', join(venv, 'bin', 'python'), pip, undefined, fixes);
  const folder = venvTorch(venv);
  if (folder && isLibtorch(folder)) return folder;
  throw new SetupError(`PyTorch was installed, but its libtorch was not found in ${venv}.`, fixes);
}

/** Where PyTorch lies, or would lie, in a Python environment. */
export function venvTorch(venv) {
  const lib = join(venv, 'lib');
  const python = existsSync(lib) ? readdirSync(lib).find((name) => name.startsWith('python')) : undefined;
  return python && join(lib, python, 'site-packages', 'torch');
}

function systemTorch() {
  const code =
    "import importlib.util as u; s = u.find_spec('torch'); print(s.submodule_search_locations[0] if s else '')";
  const { stdout, status } = spawnSync('python3', ['-c', code], { encoding: 'utf8' });
  return status === 0 ? stdout.trim() : '';
}

/** Compiles the addon into `folder`, unless the one there is of the same source, libtorch and compiler. */
export async function buildAddon(libtorch, say, folder = join(packageFolder, 'build')) {
  const compiler = process.env.CXX ?? 'g++';
  const { status, stdout } = spawnSync(compiler, ['--version'], { encoding: 'utf8' });
  if (status !== 0)
    throw new SetupError(`no C++ compiler: "${compiler}" does not run.`, [
      'Install one with C++20: Debian, Ubuntu: apt-get install g++; Fedora: dnf install gcc-c++; macOS: xcode-select --install.',
      'Or name another one in CXX, such as CXX=clang++-16.',
    ]);
  const sources = ['native', 'kernels'].flatMap((name) =>
    readdirSync(join(packageFolder, name)).map((file) => join(packageFolder, name, file)),
  );
  const addon = join(folder, 'torch.node');
  const stamp = join(folder, 'stamp');
  const version = versionOf(libtorch) ?? '(unknown version)';
  const key = hash(...sources.map(read), libtorch, version, stdout, read(fileURLToPath(import.meta.url)));
  if (existsSync(addon) && read(stamp) === key) return addon;
  say(`building the addon against libtorch ${version}`);
  mkdirSync(folder, { recursive: true });
  const include = join(libtorch, 'include');
  const headers = dirname(createRequire(import.meta.url).resolve('node-api-headers/package.json'));
  // compiled for OpenMP but not linked with it: at::parallel_for then finds the pool of threads that libtorch has
  const openMp = process.platform === 'linux' && !stdout.includes('clang') ? ['-fopenmp'] : [];
  const flags = [
    ...['-std=c++20', '-O3', '-DNDEBUG', '-fPIC', '-DNAPI_VERSION=8', ...openMp],
    ...[join(headers, 'include'), include, join(include, 'torch', 'csrc', 'api', 'include')].map(
      (path) => `-I${path}`,
    ),
    `-I${glooHeaders(join(folder, 'include'))}`, // the last: a libtorch that has its own comes first
    ...ncclFlags(libtorch),
  ];
  const lib = join(libtorch, 'lib');
  const mac = process.platform === 'darwin' ? ['-undefined', 'dynamic_lookup'] : ['-Wl,--no-as-needed'];
  if (lib.includes(':'))
    throw new SetupError(
      `${lib} has a colon in its path, which separates paths where libraries are sought.`,
      ['Move it, or use a link to it without one: LIBTORCH=LINK npm run setup.'],
    );
  const rpath = ['-Xlinker', '-rpath', '-Xlinker', lib]; // -Wl would split a path at its commas
  const libraries = [`-L${lib}`, ...mac, '-ltorch', '-ltorch_cpu', '-lc10', ...rpath];
  const units = sources.filter((file) => file.endsWith('.cc'));
  const objects = units.map((file) => join(folder, `${basename(file)}.o`));
  const done = await Promise.all(
    units.map((file, i) => compile(compiler, [...flags, '-c', file, '-o', objects[i]])),
  );
  if (
    !done.every(Boolean) ||
    !(await compile(compiler, ['-shared', ...objects, '-o', `${addon}.new`, ...libraries]))
  )
    throw new SetupError('compiling the addon failed (see above).', [
      'A compiler with C++20 is needed (g++ 11 or newer, clang 14 or newer).',
      `Does ${libtorch} belong to this machine's architecture?`,
    ]);
  for (const file of objects) rmSync(file);
  renameSync(`${addon}.new`, addon); // a process that has the old one mapped keeps it
  writeFileSync(stamp, key);
  return addon;
}

/** What c10d's headers include of Gloo, which PyTorch's wheels leave out: all of it is native/gloo.h. */
function glooHeaders(folder) {
  const names = ['algorithm', 'common/error', 'context', 'rendezvous/store', 'transport/device'];
  for (const file of names.map((name) => join(folder, 'gloo', `${name}.h`))) {
    mkdirSync(dirname(file), { recursive: true });
    writeFileSync(file, `#include "${join(packageFolder, 'native', 'gloo.h')}"\n`);
  }
  return folder;
}

/** Where the headers of CUDA and NCCL lie beside a CUDA build of PyTorch, as its wheels bring them; none elsewhere. */
function ncclFlags(libtorch) {
  if (!existsSync(join(libtorch, 'lib', 'libtorch_cuda.so'))) return [];
  const beside = join(dirname(libtorch), 'nvidia');
  const wheels = existsSync(beside) ? readdirSync(beside).map((name) => join(beside, name)) : [];
  const given = process.env.CUDA_HOME ?? '/usr/local/cuda';
  const folders = [...wheels, given].map((path) => join(path, 'include')).filter((path) => existsSync(path));
  const has = (name) => folders.some((path) => existsSync(join(path, name)));
  if (!has('nccl.h') || !has('cuda_runtime_api.h')) return [];
  return ['-DUSE_C10D_NCCL', ...folders.map((path) => `-I${path}`)];
}

/** @returns whether it succeeded */
function compile(compiler, args) {
  return new Promise((resolve) => {
    const child = spawn(compiler, args, { stdio: 'inherit' });
    child.on('error', () => resolve(false));
    child.on('close', (code) => resolve(code === 0));
  });
}
