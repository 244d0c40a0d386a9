#!/usr/bin/env node
// npm run test:isa [-- FILES] [-- --every] [-- --all]: the numeric tests as other processors compute them. Kernels round
// differently by instruction set; libtorch, oneDNN and MKL can be told to use an older one, and so can the threads.
// Ends with the ten checks that came nearest to their bounds, as a share of the bound. Only checks whose value changes
// between the settings are listed: the others do not depend on the processor.
import { spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, relative, resolve } from 'node:path';
import { parseArgs } from 'node:util';

const root = resolve(import.meta.dirname, '..');
const { values: options, positionals } = parseArgs({
  options: { every: { type: 'boolean', default: false }, all: { type: 'boolean', default: false } },
  allowPositionals: true,
});

const aten = ['default', 'avx2', 'avx512'];
const oneDnn = ['SSE41', 'AVX2', 'AVX512_CORE', 'AVX512_CORE_AMX'];
const setting = (ATEN_CPU_CAPABILITY, ONEDNN_MAX_CPU_ISA, others = {}) => ({
  ATEN_CPU_CAPABILITY,
  ONEDNN_MAX_CPU_ISA,
  ...others,
});
/** Each kernel library at each of its levels; with `--every`, each level of one with each of the other. */
const settings = options.every
  ? aten.flatMap((capability) => oneDnn.map((isa) => setting(capability, isa)))
  : [
      setting('default', 'SSE41', { MKL_CBWR: 'COMPATIBLE' }),
      setting('avx2', 'AVX2', { MKL_CBWR: 'AVX2', OMP_NUM_THREADS: '2' }),
      setting('avx512', 'AVX512_CORE', { OMP_NUM_THREADS: '3' }),
      setting('avx512', 'AVX512_CORE_AMX'),
    ];

/** A test file is numeric if it holds a check against a small bound and computes with libtorch. */
const holdsBound = /toBeCloseTo|closeTo\(|toBeLessThan(OrEqual)?\((0\.0|[\d.]+e-|\w*([bB]ound|[tT]olerance))/;
const computes = /from '(@rldf\/(torch|models|common|search)|rldf)'|packages\/torch\/|packages\/models\//;
const testFiles = (folder) =>
  readdirSync(folder, { withFileTypes: true }).flatMap((entry) => {
    if (entry.isDirectory()) return entry.name === 'node_modules' ? [] : testFiles(join(folder, entry.name));
    return entry.name.endsWith('.test.ts') ? [join(folder, entry.name)] : [];
  });
const numericFiles = () =>
  ['packages', 'test']
    .flatMap((folder) => testFiles(join(root, folder)))
    .map((file) => relative(root, file))
    .filter((file) => {
      const text = readFileSync(join(root, file), 'utf8');
      return holdsBound.test(text) && (computes.test(text) || file.startsWith('packages/torch/'));
    })
    .sort();

const files = positionals.length > 0 ? positionals : options.all ? [] : numericFiles();
const vitest = join(root, 'node_modules', 'vitest', 'vitest.mjs');
const folder = mkdtempSync(join(tmpdir(), 'rldf-isa-'));

/** @typedef {{ place: string; test: string; bound: number; found: number[] }} Check */
/** @type {Map<string, Check>} */
const checks = new Map();
let failures = 0;
for (const [number, env] of settings.entries()) {
  const name = Object.entries(env)
    .map(([key, value]) => `${key}=${value}`)
    .join(' ');
  console.log(`\ntest-isa: ${number + 1} of ${settings.length}: ${name}, ${files.length || 'all'} files`);
  const output = join(folder, `${number}.jsonl`);
  const { status } = spawnSync(process.execPath, [vitest, 'run', '--reporter=dot', ...files], {
    cwd: root,
    // threads that wait must not spin: there may be more of them than cores
    env: { ...process.env, OMP_WAIT_POLICY: 'passive', ...env, RLDF_TEST_CLOSENESS: output },
    stdio: 'inherit',
  });
  if (status !== 0) failures++;
  const lines = existsSync(output) ? readFileSync(output, 'utf8').trim().split('\n') : [];
  for (const row of lines.filter(Boolean).map((line) => JSON.parse(line))) {
    const file = relative(root, row.file);
    const key = `${file} ${row.test} ${row.check}`;
    const check = checks.get(key) ?? {
      place: `${file}:${row.line}`,
      test: row.test,
      bound: row.bound,
      found: [],
    };
    check.found[number] = row.found;
    checks.set(key, check);
  }
}
rmSync(folder, { recursive: true });

const smallBound = 0.1; // what is compared with more is no rounding
const share = (check) => Math.max(...check.found.filter(Number.isFinite)) / check.bound;
const closeness = [...checks.values()].filter(({ bound }) => bound <= smallBound);
const moving = closeness.filter(({ found }) => new Set(found).size > 1).sort((a, b) => share(b) - share(a));
console.log(
  `\n${closeness.length} numeric checks, of which ${moving.length} depend on the processor; nearest to their bounds:`,
);
for (const check of moving.slice(0, 10)) {
  const errors = check.found.map((value) => value.toPrecision(2)).join(' ');
  console.log(
    `  ${share(check).toFixed(2)} of ${check.bound.toPrecision(2)}  ${check.place}  ${check.test}  (${errors})`,
  );
}
console.log(
  failures === 0
    ? `test-isa: green under ${settings.length} settings`
    : `test-isa: red under ${failures} of ${settings.length} settings`,
);
process.exitCode = failures === 0 ? 0 : 1;
