import { availableParallelism } from 'node:os';
import { defineConfig } from 'vitest/config';

// Their models are so small that a second thread does not help an operator: one thread each, and a file on every core.
process.env.OMP_NUM_THREADS ??= '1';

// Tests run from TypeScript sources.
export default defineConfig({
  resolve: { conditions: ['rldf-source'] },
  ssr: { resolve: { conditions: ['rldf-source'] } },
  test: {
    include: ['packages/*/{src,parity,app}/**/*.test.ts', 'test/**/*.test.ts'],
    setupFiles: ['test/without-collection.setup.ts', 'test/closeness.setup.ts'],
    env: { HF_HUB_OFFLINE: '1' }, // no test asks a hub, but those that begin one of their own
    pool: 'forks',
    maxWorkers: Math.min(4, availableParallelism()),
    reporters: ['default', './test/slowest.reporter.ts'],
    // they are for what hangs alone: on a machine that computes other things too, a process takes a minute to start
    testTimeout: 600_000,
    hookTimeout: 600_000,
    teardownTimeout: 120_000,
  },
});
