#!/usr/bin/env node
// npm run test:torch -- --torch VERSION [FILES]: the tests of packages/torch, or others, on another PyTorch (on Linux x64 pip's
// CUDA build, several GB), in an environment of its own. Without a GPU everything is computed on the CPU.
import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { parseArgs } from 'node:util';
import {
  buildAddon,
  installTorch,
  SetupError,
  testedTorch,
  venvTorch,
  versionOf,
} from '../packages/torch/setup/index.mjs';

const root = resolve(import.meta.dirname, '..');
const say = (text) => process.stdout.write(`test-torch: ${text}\n`);

try {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: { torch: { type: 'string', default: testedTorch[0] } },
  });
  const files = positionals.length > 0 ? positionals : ['packages/torch'];
  const environment = join(root, '.environments', `torch-${values.torch}`);
  const there = process.env.LIBTORCH ?? venvTorch(environment);
  const libtorch = there && existsSync(there) ? there : installTorch(environment, values.torch, say);
  if (versionOf(libtorch) !== values.torch)
    throw new SetupError(`${libtorch} is PyTorch ${versionOf(libtorch)}, not ${values.torch}.`, [
      'Unset LIBTORCH, or remove the environment and run again.',
    ]);
  const addon = await buildAddon(libtorch, say, join(environment, 'addon'));
  const env = { ...process.env, RLDF_TORCH_ADDON: addon };
  const code = `const { availableDevices, torchVersion } = await import('@rldf/torch');
    console.log(\`test-torch: libtorch \${torchVersion()}, devices: \${availableDevices().join(", ")}\`);`;
  const node = ['--conditions=rldf-source', '--import', 'tsx', '--input-type=module', '-e', code];
  spawnSync(process.execPath, node, { cwd: join(root, 'packages', 'rldf'), env, stdio: 'inherit' });
  const vitest = join(root, 'node_modules', 'vitest', 'vitest.mjs');
  const { status } = spawnSync(process.execPath, [vitest, 'run', ...files], {
    cwd: root,
    env,
    stdio: 'inherit',
  });
  process.exitCode = status ?? 1;
} catch (error) {
  if (!(error instanceof SetupError)) throw error;
  process.stderr.write(`test-torch: ${error.message}\n`);
  process.exitCode = 2;
}
