import { chmodSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { buildAddon, checkPlatform, findLibtorch, installTorch } from '../setup/index.mjs';

let folder: string;
let said: string[];
const say = (text: string) => void said.push(text);

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'rldf-setup-'));
  said = [];
  vi.stubEnv('PATH', folder); // nothing but what a test puts there
  vi.stubEnv('LIBTORCH', '');
  vi.stubEnv('CXX', '');
});
afterEach(() => {
  vi.unstubAllEnvs();
  rmSync(folder, { recursive: true });
});

/** A python3 that answers any question with one line, or fails. */
function python(answer: string, status = 0) {
  const file = join(folder, 'python3');
  writeFileSync(file, `#!/bin/sh\necho '${answer}'\nexit ${status}\n`);
  chmodSync(file, 0o755);
}

const install = () => installTorch(join(folder, 'venv'), '2.13.0', say);

test('without Python, without its venv, or with one too new or too old, what to install is told and nothing begun', () => {
  expect(install).toThrow(/there is no python3.*apt-get install python3 python3-venv/s);
  python('', 1);
  expect(install).toThrow(/venv and ensurepip are missing.*apt-get install python3-venv.*LIBTORCH=/s);
  python('3 9');
  expect(install).toThrow(/python3 is Python 3\.9, for which there is no PyTorch 2\.13\.0/s);
  python('3 15');
  expect(install).toThrow(/Put a Python 3\.10 to 3\.14 first in PATH/s);
  expect(said).toEqual([]);
});

test('where pip fails, proxies, mirrors and an own CUDA build are named', () => {
  python('3 12');
  // this python3 "makes" an environment without anything in it
  expect(install).toThrow(/installing PyTorch failed.*HTTPS_PROXY=.*PIP_INDEX_URL.*CUDA build: LIBTORCH=/s);
});

test('a PyTorch that is there but not tested is named, with how to use it', () => {
  const torch = join(folder, 'torch');
  mkdirSync(join(torch, 'lib'), { recursive: true });
  mkdirSync(join(torch, 'include', 'ATen'), { recursive: true });
  writeFileSync(join(torch, 'lib', 'libtorch.so'), '');
  writeFileSync(join(torch, 'version.py'), "__version__ = '2.99.0+cu129'\n");
  python(torch);
  expect(() => findLibtorch(folder, say)).toThrow();
  expect(said[0]).toBe(
    `PyTorch 2.99.0 in ${torch} is left alone, since rldf is not tested with it. To try: LIBTORCH=${torch} npm run setup`,
  );
  vi.stubEnv('LIBTORCH', torch);
  expect(findLibtorch(folder, say)).toBe(torch);
});

test('without a compiler, what to install is told', async () => {
  vi.stubEnv('CXX', 'no-such-compiler');
  await expect(buildAddon(folder, say, join(folder, 'build'))).rejects.toThrow(
    /no C\+\+ compiler: "no-such-compiler" does not run.*apt-get install g\+\+/s,
  );
});

test('where PyTorch has no wheels it is told before pip says that there is no matching distribution', () => {
  const linux = { platform: 'linux', arch: 'x64', glibc: '2.36' };
  for (const fine of [
    linux,
    { ...linux, glibc: '2.28' },
    { ...linux, arch: 'arm64' },
    { platform: 'darwin', arch: 'arm64' },
  ])
    expect(() => checkPlatform(fine)).not.toThrow();
  expect(() => checkPlatform({ platform: 'linux', arch: 'x64' })).toThrow(
    /C library is musl.*Use a distribution with glibc; .*node:22-bookworm-slim.*LIBTORCH/s,
  );
  expect(() => checkPlatform({ ...linux, glibc: '2.17' })).toThrow(/glibc 2\.17, .*glibc 2\.28 or newer/s);
  expect(() => checkPlatform({ ...linux, arch: 'ia32' })).toThrow(
    /this is linux on ia32, .*Use linux on x64 or arm64, or darwin on arm64/s,
  );
  expect(() => checkPlatform({ platform: 'win32', arch: 'x64' })).toThrow(/Windows Subsystem for Linux/);
  expect(() => checkPlatform()).not.toThrow(); // here, where the tests run with PyTorch
});

test('a libtorch is found at run time under spaces and commas; a colon cannot be', async () => {
  const seen = join(folder, 'seen');
  const compiler = join(folder, 'compiler');
  // the test's PATH is empty, so with the shell's own words alone
  writeFileSync(
    compiler,
    `#!/bin/sh\nfor word in "$@"; do echo "[$word]" >> ${seen}; done\nfor word in "$@"; do\n  [ "$before" = -o ] && : > "$word"\n  before=$word\ndone\n`,
  );
  chmodSync(compiler, 0o755);
  vi.stubEnv('CXX', compiler);
  const libtorch = join(folder, 'lib torch, two');
  await buildAddon(libtorch, say, join(folder, 'build'));
  expect(readFileSync(seen, 'utf8')).toContain(`[-Xlinker]\n[${join(libtorch, 'lib')}]\n`);
  await expect(buildAddon(join(folder, 'a:b'), say, join(folder, 'build'))).rejects.toThrow(
    /has a colon in its path/,
  );
});
