// npm run bench -- torch | sample | growth | ddpo | base-model | quickstart | instruments | feedback | rewards | hand-check | hack-watch | diffexp | clone | search | device | stable-diffusion [--json] [--python FILE] [--output FOLDER] [--seeds FIRST-LAST] [--pictures N] [--nouns N] [--epochs N] [--redraw N] [--device DEVICE] [--size sd15|tiny] [--batches N,N] [--ways WAY,WAY] [--page] [--calibrate] [--smoke]
import { parseArgs } from 'node:util';
import { type Device, UserError } from '@rldf/torch';
import { rowsTable, writeSection } from './shared/page.js';
import { type Options, type Result, table } from './shared/rows.js';

const benchmarks: Record<string, () => Promise<{ run(options: Options): Promise<Result> }>> = {
  torch: () => import('./torch/index.js'),
  sample: () => import('./sample/index.js'),
  growth: () => import('./growth/index.js'),
  ddpo: () => import('./ddpo/index.js'),
  'base-model': () => import('./base-model/index.js'),
  quickstart: () => import('./quickstart/index.js'),
  memory: () => import('./memory/index.js'),
  instruments: () => import('./instruments/index.js'),
  feedback: () => import('./feedback/index.js'),
  rewards: () => import('./rewards/index.js'),
  'hand-check': () => import('./hand-check/index.js'),
  'hack-watch': () => import('./hack-watch/index.js'),
  diffexp: () => import('./diffexp/index.js'),
  clone: () => import('./clone/index.js'),
  search: () => import('./search/index.js'),
  device: () => import('./device/index.js'),
  'stable-diffusion': () => import('./stable-diffusion/index.js'),
};

try {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: {
      json: { type: 'boolean', default: false },
      python: { type: 'string' },
      output: { type: 'string' },
      seeds: { type: 'string' },
      pictures: { type: 'string' },
      nouns: { type: 'string' },
      epochs: { type: 'string' },
      redraw: { type: 'string' },
      device: { type: 'string' },
      size: { type: 'string' },
      batches: { type: 'string' },
      ways: { type: 'string' },
      page: { type: 'boolean', default: false },
      calibrate: { type: 'boolean', default: false },
      smoke: { type: 'boolean', default: false },
    },
  });
  const [name = ''] = positionals;
  const load = Object.hasOwn(benchmarks, name) ? benchmarks[name] : undefined;
  if (load === undefined) {
    throw new UserError(`bench: there is no "${name}" — one of ${Object.keys(benchmarks).join(', ')}.`);
  }
  const result = await (await load()).run({
    ...(values.python === undefined ? {} : { python: values.python }),
    ...(values.output === undefined ? {} : { output: values.output }),
    ...(values.seeds === undefined ? {} : { seeds: values.seeds }),
    ...(values.pictures === undefined ? {} : { pictures: Number(values.pictures) }),
    ...(values.nouns === undefined ? {} : { nouns: Number(values.nouns) }),
    ...(values.epochs === undefined ? {} : { epochs: Number(values.epochs) }),
    ...(values.batches === undefined ? {} : { batches: values.batches.split(',').map(Number) }),
    ...(values.redraw === undefined ? {} : { redraw: Number(values.redraw) }),
    ...(values.device === undefined ? {} : { device: values.device as Device }),
    ...(values.size === undefined ? {} : { size: values.size }),
    calibrate: values.calibrate,
    smoke: values.smoke,
    page: values.page,
    ...(values.ways === undefined ? {} : { ways: values.ways.split(',') }),
    say: (text) => process.stderr.write(`${text}\n`),
  });
  if (values.page && Array.isArray(result)) writeSection(name, rowsTable(result));
  const { data, text } = Array.isArray(result) ? { data: result, text: table(result) } : result;
  process.stdout.write(values.json ? `${JSON.stringify(data, null, 2)}\n` : text);
} catch (error) {
  const mistake =
    error instanceof UserError || (error as { code?: string }).code?.startsWith('ERR_PARSE_ARGS');
  process.stderr.write(`${mistake ? (error as Error).message : (error as Error).stack}\n`);
  process.exitCode = mistake ? 2 : 1;
}
