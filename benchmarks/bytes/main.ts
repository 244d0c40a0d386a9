// npm run bytes -- record | compare [--base REVISION]: whether a change of the code left what is learned as it was, byte for byte.
// `record` writes record.json: hashes of adapters, metrics (without times) and pictures of every method, a run, a fusion, a
// search and an evaluation, all in miniature. `compare` repeats them. Floats differ between processors: on another one than the
// record's, or with --base, the other side is made here and now, from that revision (default: the one that last changed record.json).
import { execFileSync } from 'node:child_process';
import {
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { cpus, tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { UserError } from '@rldf/torch';
import { findModel, instrumentFile, listInstruments } from 'rldf';
import { type Hashes, hashOf } from './hash.js';
import { others } from './others.js';
import { trainings } from './trainings.js';

interface BytesRecord {
  /** Where it was made: floats differ between processors and builds of libtorch. */
  processor: string;
  /** Of the shipped model's and instruments' files, which some cases read. */
  shippedWeights: string;
  cases: Record<string, Hashes & { shipped?: string }>;
}

const here = dirname(fileURLToPath(import.meta.url));
const repository = join(here, '..', '..');
const file = join(here, 'record.json');

function processor(): string {
  const info = existsSync('/proc/cpuinfo') ? readFileSync('/proc/cpuinfo', 'utf8').split('\n\n')[0]! : '';
  const kind = info.split('\n').filter((line) => /^(cpu family|model|stepping|flags)\s*:/.test(line));
  return `${cpus()[0]?.model} ${hashOf(kind.join('\n'))}`;
}

function shippedWeights(): string {
  const { path } = findModel('emoji');
  const files = readdirSync(path, { recursive: true, encoding: 'utf8' })
    .filter((name) => name.endsWith('.safetensors'))
    .sort()
    .map((name) => join(path, name));
  return hashOf(
    ...[...files, ...listInstruments().map((name) => instrumentFile(name))].map((one) => readFileSync(one)),
  );
}

async function made(): Promise<BytesRecord> {
  const cases: BytesRecord['cases'] = {};
  for (const all of [trainings(), others()]) {
    for await (const { name, hashes, shipped } of all) {
      cases[name] = shipped ? { ...hashes, shipped: 'yes' } : hashes;
      process.stderr.write(`${name}\n`);
    }
  }
  return { processor: processor(), shippedWeights: shippedWeights(), cases };
}

const git = (...words: string[]) =>
  execFileSync('git', words, { cwd: repository, encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] }).trim();

/** The record that another revision of the packages makes on this machine, by the script as it is now. */
function madeAt(revision: string): BytesRecord {
  const folder = mkdtempSync(join(tmpdir(), 'rldf-bytes-base-'));
  const tree = join(folder, 'tree');
  git('worktree', 'add', '--detach', tree, revision);
  try {
    const modules = join(tree, 'node_modules');
    mkdirSync(join(modules, '@rldf'), { recursive: true });
    for (const name of readdirSync(join(repository, 'node_modules'))) {
      if (name !== 'rldf' && name !== '@rldf')
        symlinkSync(join(repository, 'node_modules', name), join(modules, name));
    }
    for (const name of readdirSync(join(tree, 'packages'))) {
      symlinkSync(join(tree, 'packages', name), join(modules, name === 'rldf' ? name : `@rldf/${name}`));
    }
    symlinkSync(join(repository, 'packages/torch/build'), join(tree, 'packages/torch/build'));
    if (existsSync(join(repository, '.venv'))) symlinkSync(join(repository, '.venv'), join(tree, '.venv'));
    const script = join(tree, 'benchmarks', 'bytes');
    rmSync(script, { recursive: true, force: true });
    cpSync(here, script, { recursive: true });
    const words = ['--conditions=rldf-source', '--import', 'tsx', join(script, 'main.ts'), 'record'];
    execFileSync(process.execPath, words, { cwd: tree, stdio: ['ignore', 'ignore', 'inherit'] });
    return JSON.parse(readFileSync(join(script, 'record.json'), 'utf8'));
  } finally {
    git('worktree', 'remove', '--force', tree);
    rmSync(folder, { recursive: true, force: true });
  }
}

/** One line for each case that is not the same in both. */
function differences(before: BytesRecord, now: BytesRecord): string[] {
  const replaced = before.shippedWeights !== now.shippedWeights;
  const names = new Set([...Object.keys(before.cases), ...Object.keys(now.cases)]);
  return [...names].flatMap((name) => {
    const [was, is] = [before.cases[name], now.cases[name]];
    if (was === undefined) return `${name}: new`;
    if (is === undefined) return `${name}: gone`;
    const parts = Object.keys(was).filter((part) => was[part] !== is[part]);
    if (parts.length === 0 || (replaced && is.shipped)) return [];
    return `${name}: ${parts.join(', ')} differ`;
  });
}

const { values, positionals } = parseArgs({ allowPositionals: true, options: { base: { type: 'string' } } });
const [what] = positionals;
if (what === 'record') {
  writeFileSync(file, `${JSON.stringify(await made(), null, 1)}\n`);
} else if (what === 'compare') {
  const stored = JSON.parse(readFileSync(file, 'utf8')) as BytesRecord;
  const elsewhere = values.base !== undefined || stored.processor !== processor();
  const base = values.base ?? git('log', '-1', '--format=%H', '--', 'benchmarks/bytes/record.json');
  const before = elsewhere ? madeAt(base) : stored;
  const now = await made();
  const found = differences(before, now);
  const against = elsewhere ? `revision ${base}, made on this machine` : 'record.json';
  if (before.shippedWeights !== now.shippedWeights)
    process.stdout.write(
      'shipped weights were replaced: cases that read them are not compared; record again\n',
    );
  process.stdout.write(
    found.length === 0
      ? `${Object.keys(now.cases).length} cases equal ${against}\n`
      : `${found.join('\n')}\nagainst ${against}\n`,
  );
  if (found.length > 0) process.exitCode = 1;
} else throw new UserError(`bytes: "${what ?? ''}" — expected record or compare [--base REVISION].`);
