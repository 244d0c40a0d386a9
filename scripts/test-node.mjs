#!/usr/bin/env node
// npm run test:node -- MAJOR [FILES]: the tests on another Node, such as 22 or 24, which npm installs from its package `node`.
// The addon is the same: it uses Node-API, whose binaries outlive versions of Node.
import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, writeFileSync } from 'node:fs';
import { delimiter, join, resolve } from 'node:path';
import { SetupError, testedNode } from '../packages/torch/setup/index.mjs';

const root = resolve(import.meta.dirname, '..');
const say = (text) => process.stdout.write(`test-node: ${text}\n`);

function installNode(version, folder) {
  const node = join(folder, 'node_modules', 'node', 'bin', 'node');
  if (existsSync(node)) return node;
  mkdirSync(folder, { recursive: true });
  writeFileSync(join(folder, 'package.json'), '{ "private": true }\n'); // else npm takes the repository's
  say(`installing Node ${version}`);
  const words = ['install', '--no-audit', '--no-fund', `node@${version}`];
  const { status } = spawnSync('npm', words, { cwd: folder, stdio: 'inherit' });
  if (status === 0 && existsSync(node)) return node;
  throw new SetupError(`npm could not install node@${version}.`, [
    `Does this version exist? See \`npm view node@${version} version\`.`,
    'Does npm run install scripts? The package `node` fetches the binary of this machine in one.',
  ]);
}

try {
  const [version, ...files] = process.argv.slice(2);
  if (version === undefined || !/^\d+(\.\d+){0,2}$/.test(version)) {
    throw new SetupError(`test:node ${version ?? ''}: a version of Node is needed.`, [
      `npm run test:node -- ${testedNode.at(-1)}`,
    ]);
  }
  const node = installNode(version, join(root, '.environments', `node-${version}`));
  say(`Node ${spawnSync(node, ['--version'], { encoding: 'utf8' }).stdout.trim()}`);
  const vitest = join(root, 'node_modules', 'vitest', 'vitest.mjs');
  // first in PATH too: tests that start `node` mean this one
  const env = { ...process.env, PATH: `${join(node, '..')}${delimiter}${process.env.PATH}` };
  const { status } = spawnSync(node, [vitest, 'run', ...files], { cwd: root, env, stdio: 'inherit' });
  process.exitCode = status ?? 1;
} catch (error) {
  if (!(error instanceof SetupError)) throw error;
  process.stderr.write(`test-node: ${error.message}\n`);
  process.exitCode = 2;
}
