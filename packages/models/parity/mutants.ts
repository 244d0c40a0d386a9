/**
 * `npm run test:mutants [NAME ...]`: plants one fault at a time in a copy of the sources and shows that the goldens
 * notice: an error the goldens cannot see would survive. Faults are edits of the code itself, compiled on the fly and
 * run in a process of their own. Exits with 1 when a mutant survives, or when the unchanged code fails.
 */

import { execFile } from 'node:child_process';
import {
  cpSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { availableParallelism, tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Mutant } from './mutant.js';
import { adapterMutants } from './mutants-adapters.js';
import { gligenMutants } from './mutants-gligen.js';
import { networkMutants } from './mutants-networks.js';
import { samplingMutants } from './mutants-sampling.js';
import { scorerMutants } from './mutants-scorers.js';
import { singleFileMutants } from './mutants-single-files.js';
import { xlMutants } from './mutants-xl.js';

const repository = join(import.meta.dirname, '..', '..', '..');

interface Outcome {
  /** Lines of the parity table that fail; undefined when the table was not printed at all. */
  failures: string[] | undefined;
  output: string;
}

/** A copy of the packages under test, with links to everything that is not edited. */
function workspace(root: string): string {
  const packages = join(root, 'packages');
  for (const name of ['torch', 'models']) {
    const from = join(repository, 'packages', name);
    const to = join(packages, name);
    mkdirSync(to, { recursive: true });
    for (const entry of readdirSync(from)) {
      if (entry === 'src' || entry === 'parity' || entry === 'package.json') {
        cpSync(join(from, entry), join(to, entry), { recursive: true });
      } else {
        symlinkSync(join(from, entry), join(to, entry));
      }
    }
  }
  mkdirSync(join(root, 'node_modules', '@rldf'), { recursive: true });
  for (const entry of readdirSync(join(repository, 'node_modules'))) {
    if (entry !== '@rldf') {
      symlinkSync(join(repository, 'node_modules', entry), join(root, 'node_modules', entry));
    }
  }
  for (const name of ['torch', 'models']) {
    symlinkSync(join(packages, name), join(root, 'node_modules', '@rldf', name));
  }
  cpSync(join(repository, 'package.json'), join(root, 'package.json'));
  return root;
}

/** Runs parity on some cases in the workspace. */
function parity(root: string, cases: readonly string[]): Promise<Outcome> {
  const script = join(root, 'packages', 'models', 'parity', 'main.ts');
  const flags = ['--conditions=rldf-source', '--import', 'tsx', script, ...cases];
  const environment = {
    ...process.env,
    RLDF_GOLDENS: join(repository, 'packages', 'models', 'goldens'),
    RLDF_EMOJI_TOKENIZER: join(repository, 'packages', 'emoji-world', 'model', 'tokenizer'),
  };
  return new Promise((resolve) => {
    execFile(
      process.execPath,
      flags,
      { cwd: root, env: environment, timeout: 120_000 },
      (_, stdout, stderr) => {
        const failures = stdout.split('\n').filter((line) => line.includes('  FAIL  '));
        resolve({
          failures: stdout.includes(' rows pass, ') ? failures : undefined,
          output: stdout + stderr,
        });
      },
    );
  });
}

/** Why a mutant no longer fits the code, if so. */
function misfit({ name, file, find }: Mutant): string[] {
  const count = readFileSync(join(repository, 'packages', file), 'utf8').split(find).length - 1;
  if (count === 1) return [];
  return [`mutant ${name}: ${JSON.stringify(find)} occurs ${count} times in packages/${file}, not once`];
}

/** Runs parity with the fault in place, then takes it out again. */
async function plant(root: string, mutant: Mutant): Promise<Outcome> {
  const path = join(root, 'packages', mutant.file);
  const original = readFileSync(path, 'utf8');
  writeFileSync(
    path,
    original.replace(mutant.find, () => mutant.replace),
  );
  try {
    return await parity(root, mutant.cases);
  } finally {
    writeFileSync(path, original);
  }
}

const starts = process.argv.slice(2);
const mutants = [
  networkMutants,
  xlMutants,
  gligenMutants,
  samplingMutants,
  adapterMutants,
  scorerMutants,
  singleFileMutants,
].flat();
const chosen = mutants.filter(
  ({ name }) => starts.length === 0 || starts.some((start) => name.startsWith(start)),
);
const misfits = chosen.flatMap(misfit);
if (misfits.length > 0) {
  console.error(`${misfits.join('\n')}\nChange mutants-*.ts with the code.`);
  process.exit(1);
}
const folder = mkdtempSync(join(tmpdir(), 'rldf-mutants-'));
process.on('exit', () => rmSync(folder, { recursive: true, force: true }));
for (const signal of ['SIGINT', 'SIGTERM'] as const) process.on(signal, () => process.exit(130));

const width = Math.max(...chosen.map(({ name }) => name.length));
let killed = 0;
const survivors: string[] = [];
const broken: string[] = [];
const workers = Array.from({ length: Math.min(2, availableParallelism()) }, (_, i) =>
  workspace(join(folder, `${i}`)),
);

const unchanged = await parity(workers[0]!, [...new Set(chosen.flatMap(({ cases }) => cases))]);
if (unchanged.failures?.length !== 0) {
  console.error(unchanged.output);
  console.error('The unchanged code fails: mutants would prove nothing. See npm run parity.');
  process.exit(1);
}
console.log(`${'unchanged code'.padEnd(width)}  passes\n`);

const queue = [...chosen];
await Promise.all(
  workers.map(async (root) => {
    for (let mutant = queue.shift(); mutant; mutant = queue.shift()) {
      const { failures, output } = await plant(root, mutant);
      if (failures === undefined) {
        broken.push(mutant.name);
        console.log(`${mutant.name.padEnd(width)}  BROKEN: the mutant does not run\n${output}`);
      } else if (failures.length === 0) {
        survivors.push(mutant.name);
        console.log(`${mutant.name.padEnd(width)}  SURVIVED: ${mutant.cases.join(', ')} still pass`);
      } else {
        killed++;
        const [first] = failures;
        const [row, , error] = first!.trim().split(/ {2,}/);
        const more = failures.length > 1 ? ` and ${failures.length - 1} more` : '';
        console.log(`${mutant.name.padEnd(width)}  killed by ${row} (error ${error})${more}`);
      }
    }
  }),
);
if (broken.length > 0) console.log(`\n${broken.length} did not run: ${broken.join(', ')}`);
console.log(
  `\n${killed} killed, ${survivors.length} survived${survivors.length > 0 ? `: ${survivors.join(', ')}` : ''}`,
);
process.exit(survivors.length + broken.length === 0 && killed > 0 ? 0 : 1);
