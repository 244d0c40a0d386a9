import { defineConfig } from 'vitest/config';

// Tests run from TypeScript sources; one process at a time, since libtorch uses every core itself.
export default defineConfig({
  resolve: { conditions: ['rldf-source'] },
  ssr: { resolve: { conditions: ['rldf-source'] } },
  test: {
    include: ['packages/*/{src,parity}/**/*.test.ts', 'test/**/*.test.ts'],
    setupFiles: ['test/without-collection.setup.ts', 'test/closeness.setup.ts'],
    pool: 'forks',
    maxWorkers: 1,
    reporters: ['default', './test/slowest.reporter.ts'],
    testTimeout: 120_000,
    hookTimeout: 120_000,
  },
});
