/**
 * npm run test:studio: the page of `rldf studio` in a real browser, on real runs. Names of files or `-t PATTERN` may follow.
 * npm run test:studio -- --frames: how long its frames take on a run of 10,000 steps.
 * npm run test:studio -- --screenshots: draws docs/images/studio-*.png anew.
 */

import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { findChromium, missingChromium } from './browser.js';
import { root } from './runs.js';

const [first, ...rest] = process.argv.slice(2);
if (findChromium() === undefined) {
  process.stderr.write(`test-studio: ${missingChromium}\n`);
  process.exitCode = 2;
} else if (first === '--frames') await import('./frames.js');
else if (first === '--screenshots') await import('./screenshots.js');
else {
  const vitest = join(root, 'node_modules/vitest/vitest.mjs');
  const words = [
    vitest,
    'run',
    '--config',
    'test/studio/vitest.config.ts',
    ...(first === undefined ? [] : [first, ...rest]),
  ];
  process.exitCode = spawnSync(process.execPath, words, { cwd: root, stdio: 'inherit' }).status ?? 1;
}
