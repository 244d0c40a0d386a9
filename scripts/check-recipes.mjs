#!/usr/bin/env node
// Plans every recipe of recipes/stable-diffusion from the model's configuration, and compares with what its header says under
// Hardware. `--write` corrects the headers; names choose some. About two seconds a recipe. Run by npm run check:docs.
import { spawnSync } from 'node:child_process';
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';

const root = resolve(import.meta.dirname, '..');
const main = join(root, 'packages', 'rldf', 'dist', 'cli', 'main.js');
const folder = join(root, 'recipes', 'stable-diffusion');
/** Of what a header says of the memory. */
const tolerance = 0.15;
const processBytes = 0.5e9; // what rldf plan says that Node.js and libtorch take

const chosen = process.argv.slice(2).filter((word) => word.endsWith('.yaml'));
let failed = 0;
for (const file of chosen.length > 0
  ? chosen
  : readdirSync(folder).filter((name) => name.endsWith('.yaml'))) {
  const path = join(folder, file);
  const { status, stdout, stderr } = spawnSync(
    process.execPath,
    [main, 'plan', path, '--no-calibration', '--json'],
    { encoding: 'utf8', maxBuffer: 1e8 },
  );
  const text = readFileSync(path, 'utf8');
  const said = /^# Hardware: .*$/m.exec(text)?.[0] ?? '';
  const planned = status === 0 ? hardware(JSON.parse(stdout)) : undefined;
  const good = planned !== undefined && agree(said, planned);
  process.stdout.write(
    `${good ? 'ok    ' : 'FAILED'} ${file}${good ? '' : `: ${planned ?? stderr.slice(-500)}`}\n`,
  );
  if (planned !== undefined && process.argv.includes('--write'))
    writeFileSync(path, text.replace(/^# Hardware: .*$/m, planned));
  else if (!good) failed++;
}
if (failed > 0) process.exitCode = 1;

function hardware({ memory, arithmetic }) {
  const gigabytes = Math.round((memory.peak + processBytes) / 1e9);
  const passes = (count) => count.toLocaleString('en');
  return `# Hardware: about ${gigabytes} GB of memory without a scorer; ${passes(arithmetic.samplingForwards)} passes through the U-Net to draw, ${passes(arithmetic.trainingForwards)} to learn.`;
}

function agree(said, planned) {
  const [a, b] = [said, planned].map((line) => /about (\d+) GB(.*)/.exec(line) ?? []);
  return Math.abs(a[1] / b[1] - 1) < tolerance && a[2] === b[2];
}
