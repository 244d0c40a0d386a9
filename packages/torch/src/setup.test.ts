import { chmodSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { buildAddon, findLibtorch, installTorch } from '../setup/index.mjs';

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
