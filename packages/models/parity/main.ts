/**
 * `npm run parity [NAME ...]`: our networks, schedulers, tokenizer, LoRA and pipeline against golden vectors made by
 * diffusers, transformers and peft (see make-goldens.py). Needs no Python. NAME is the beginning of a case's name.
 * Exits with 1 when a case fails.
 */

import { setThreads } from '@rldf/torch';
import { parityCases, type Row, rows } from './cases.js';

setThreads(1); // tensors are tiny
const wanted = process.argv.slice(2);
const cases = parityCases().filter(
  ({ name }) => wanted.length === 0 || wanted.some((start) => name.startsWith(start)),
);
const found: Row[] = [];
for (const parityCase of cases) found.push(...(await rows(parityCase)));
const width = Math.max(4, ...found.map(({ name }) => name.length));
const line = (name: string, tensors: string, error: string, tolerance: string, verdict: string) =>
  console.log(
    `${name.padEnd(width)}  ${tensors.padStart(7)}  ${error.padStart(9)}  ${tolerance.padStart(9)}  ${verdict}`,
  );

line('case', 'tensors', 'max error', 'tolerance', 'result');
for (const { name, tensors, error, tolerance, passes, worst } of found) {
  const verdict = passes ? 'pass' : `FAIL  ${worst}`;
  line(name, `${tensors}`, error.toExponential(1), tolerance.toExponential(0), verdict);
}
const failed = found.filter(({ passes }) => !passes).length;
console.log(
  `\n${found.length - failed} rows pass, ${failed} fail. Errors are relative to the largest magnitude of each ` +
    'expected tensor; ddim-table counts half units of the last digit.',
);
process.exitCode = failed === 0 && found.length > 0 ? 0 : 1;
