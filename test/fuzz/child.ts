// Reads damaged files, case after case, and says what happened: one JSON line a finding, the number of a case before it
// begins. Run by runner.ts as a process of its own, because what is tested is that the process lives.
// Usage: child.ts KIND,KIND,... SEED COUNT [FIRST]; COUNT cases of each kind, numbered through; FIRST is where to begin
import { mkdirSync, mkdtempSync, rmSync, writeSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { liveTensors, setThreads } from '@rldf/torch';
import fc from 'fast-check';
import { caseArbitrary, damage, kinds } from './kinds.js';

const [list = '', ...numbers] = process.argv.slice(2);
const [seed = 0, count = 0, first = 0] = numbers.map(Number);
const allowedBytes = 400 * 2 ** 20;
/** Of this process's own work, so that a busy machine changes nothing; a case takes milliseconds. */
const allowedSeconds = 20;

setThreads(1);
const say = (line: object) => writeSync(1, `${JSON.stringify(line)}\n`);
const folder = mkdtempSync(join(tmpdir(), 'rldf-fuzz-'));
const cases = fc.sample(caseArbitrary, { seed, numRuns: count });
for (const [index, name] of list.split(',').entries()) {
  if ((index + 1) * count > first) await readAll(name, index * count);
}
rmSync(folder, { recursive: true });
say({ finished: true });

/** Reads the cases of one kind; their numbers begin at `offset`. */
async function readAll(name: string, offset: number): Promise<void> {
  const own = join(folder, name);
  mkdirSync(own);
  const kind = kinds[name]!(own);
  await kind.read(join(own, kind.files[0]!)); // what is not damaged must be good
  const tally = { refused: 0, accepted: 0 };
  let live = liveTensors();
  let peak = process.resourceUsage().maxRSS;
  for (let number = Math.max(0, first - offset); number < count; number++) {
    say({ case: offset + number });
    const { path, restore } = damage(own, kind, cases[number]!);
    const finding = (what: string, detail: string) =>
      say({ finding: what, kind: name, case: number, file: path.slice(own.length + 1), detail });
    const began = process.cpuUsage();
    try {
      await kind.read(path);
      tally.accepted++;
    } catch (thrown) {
      const error = thrown instanceof Error ? thrown : new Error(String(thrown));
      tally.refused++;
      if (error.name !== 'UserError') finding(error.name, `${error.message.slice(0, 300)} ${places(error)}`);
      else if (error.message.length < 15 || /undefined|\[object/.test(error.message))
        finding('unclear', error.message.slice(0, 300));
    }
    restore();
    const { user, system } = process.cpuUsage(began);
    const seconds = (user + system) / 1e6;
    if (seconds > allowedSeconds) finding('slow', `${seconds.toFixed(1)} s`);
    const left =
      kind.leftBehind?.() ?? (liveTensors() <= live ? undefined : `${liveTensors() - live} tensors`);
    if (left !== undefined) finding('left behind', left);
    live = liveTensors();
    const now = process.resourceUsage().maxRSS;
    if ((now - peak) * 1024 > allowedBytes) finding('memory', `${Math.round((now - peak) / 1024)} MiB more`);
    peak = now;
  }
  say({ kind: name, tally });
}

/** Where it was thrown: the innermost lines of our own. */
function places(error: Error): string {
  const lines = (error.stack ?? '')
    .split('\n')
    .filter((line) => line.includes('/packages/') || line.includes('node_modules'));
  return lines
    .slice(0, 3)
    .map((line) => line.trim().replace(/\(?(file:\/\/)?\/.*\/(packages|node_modules)\//, '('))
    .join(' ');
}
