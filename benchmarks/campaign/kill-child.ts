// One process of the kill campaign: trains or resumes the tiny run and kills itself with SIGKILL at a place.
// Usage: kill-child.ts train|resume RECIPE NAME ROOT step|operation|checkpoint COUNT
import { readFileSync } from 'node:fs';
import { resume, train } from 'rldf';
import { setFileHook } from 'rldf/run';
import { drain } from 'rldf/testing';

const [what, recipe = '', name = '', root = '', kind, count] = process.argv.slice(2);
if (kind === 'step') process.env.RLDF_KILL_AT_STEP = count;
let left = Number(count);
setFileHook((_operation, path) => {
  if (kind === 'operation' || (kind === 'checkpoint' && path.includes('.writing-step-'))) left--;
  if (kind !== 'step' && left === 0) process.kill(process.pid, 'SIGKILL');
});
await drain(
  what === 'train' ? train(JSON.parse(readFileSync(recipe, 'utf8')), { name, root }) : resume(name, { root }),
);
