#!/usr/bin/env node
import { exitCodeOf } from './exit-code.js';
import { guarded } from './guard.js';
import { runCommandLine } from './program.js';

await guarded(() => runCommandLine(process.argv.slice(2)), exitCodeOf);
