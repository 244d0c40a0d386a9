/** Computes, under signals that signals.test.ts sends. */

import { isInterruption, noiseKey, normal, ops, scope, unwatchSignals, watchSignals } from './index.js';

const [way] = process.argv.slice(2);
const told = new Promise((resolve) => process.on('SIGINT', resolve));
watchSignals(true);
const size = way === 'long' ? 4000 : 40; // the eigenvalues of the larger take minutes
const [a] = normal([noiseKey(0, 'signals')], [size, size]).split([1]) as [ReturnType<typeof normal>];
const eigenvalues = ops.aten('linalg_eig');
process.stdout.write('computing ');
for (;;)
  try {
    for (;;) scope(() => void eigenvalues(a));
  } catch (error) {
    if (way === 'long') continue; // the first signal came before the operator: the second one will find it within
    process.stdout.write(`${isInterruption(error)} ${(error as Error).message} ${a.shape} `);
    break;
  }
const open = setInterval(() => {}, 1000); // a handler alone keeps no process
await told;
clearInterval(open);
unwatchSignals();
process.stdout.write('told');
process.exit(0);
