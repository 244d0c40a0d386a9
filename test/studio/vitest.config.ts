import { fileURLToPath } from 'node:url';
import { defineConfig } from 'vitest/config';

// The page in a real browser. One file after another: they share the machine with a studio, a worker and a browser.
export default defineConfig({
  root: fileURLToPath(new URL('../..', import.meta.url)),
  resolve: { conditions: ['rldf-source'] },
  ssr: { resolve: { conditions: ['rldf-source'] } },
  test: {
    include: ['test/studio/*.browser.ts'],
    globalSetup: ['test/studio/setup.ts'],
    fileParallelism: false,
    pool: 'forks',
    testTimeout: 60_000,
    hookTimeout: 120_000,
    expect: { poll: { timeout: 20_000, interval: 50 } },
  },
});
