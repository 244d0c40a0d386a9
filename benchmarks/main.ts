// npm run bench -- NAME [its options] [--json]; `npm run bench` lists the names, `npm run bench -- NAME --help` the options.
import { UserError } from '@rldf/torch';
import { flag, helpText, type Option, type OptionsOf, parseOptions } from './shared/options.js';
import { rowsTable, writeSection } from './shared/page.js';
import { type Result, table } from './shared/rows.js';

/** A benchmark is a folder whose index.ts says its options and runs it. */
interface Benchmark {
  options: Record<string, Option<unknown>>;
  run(options: OptionsOf<Record<never, never>>): Promise<Result>;
}

const benchmarks: Record<string, () => Promise<Benchmark>> = {
  torch: () => import('./torch/index.js'),
  attention: () => import('./attention/index.js'),
  scaling: () => import('./scaling/index.js'),
  sample: () => import('./sample/index.js'),
  growth: () => import('./growth/index.js'),
  ddpo: () => import('./ddpo/index.js'),
  'base-model': () => import('./base-model/index.js'),
  validation: () => import('./validation/index.js'),
  quickstart: () => import('./quickstart/index.js'),
  memory: () => import('./memory/index.js'),
  instruments: () => import('./instruments/index.js'),
  feedback: () => import('./feedback/index.js'),
  rewards: () => import('./rewards/index.js'),
  'hand-check': () => import('./hand-check/index.js'),
  'policy-signal': () => import('./policy-signal/index.js'),
  'hack-watch': () => import('./hack-watch/index.js'),
  diffexp: () => import('./diffexp/index.js'),
  clone: () => import('./clone/index.js'),
  search: () => import('./search/index.js'),
  device: () => import('./device/index.js'),
  'full-size': () => import('./full-size/index.js'),
  'stable-diffusion': () => import('./stable-diffusion/index.js'),
};

const always = {
  json: flag('prints the numbers as JSON'),
  help: flag('prints this'),
};

try {
  const [name = '', ...args] = process.argv.slice(2);
  const load = Object.hasOwn(benchmarks, name) ? benchmarks[name] : undefined;
  if (load === undefined) {
    throw new UserError(`bench: there is no "${name}" — one of ${Object.keys(benchmarks).join(', ')}.`);
  }
  const benchmark = await load();
  if (name === 'full-size' && args[0] !== undefined && !args[0].startsWith('-')) args.unshift('--model'); // its one word
  const { json, help, ...given } = parseOptions(args, { ...benchmark.options, ...always });
  if (help) {
    process.stdout.write(`npm run bench -- ${name}\n${helpText({ ...benchmark.options, ...always })}`);
  } else {
    const result = await benchmark.run({ ...given, say: (text) => process.stderr.write(`${text}\n`) });
    if (given.page && Array.isArray(result)) writeSection(name, rowsTable(result));
    const { data, text } = Array.isArray(result) ? { data: result, text: table(result) } : result;
    process.stdout.write(json ? `${JSON.stringify(data, null, 2)}\n` : text);
  }
} catch (error) {
  const mistake =
    error instanceof UserError || (error as { code?: string }).code?.startsWith('ERR_PARSE_ARGS');
  process.stderr.write(`${mistake ? (error as Error).message : (error as Error).stack}\n`);
  process.exitCode = mistake ? 2 : 1;
}
