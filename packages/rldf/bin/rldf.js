#!/usr/bin/env node
// Tracked and executable, so that npm links it before the first build.
import { existsSync } from 'node:fs';

const main = new URL('../dist/cli/main.js', import.meta.url);
if (!existsSync(main)) {
  process.stderr.write('rldf is not built yet — run `npm run setup` in the repository.\n');
  process.exit(2);
}
await import(main.href);
