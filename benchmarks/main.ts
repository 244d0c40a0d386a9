// npm run bench -- torch | base-model | quickstart [--json] [--python FILE] [--output FOLDER] [--seeds FIRST-LAST] [--pictures N]
import { parseArgs } from 'node:util';
import { UserError } from '@rldf/torch';
import { type Options, type Result, table } from './rows.js';

const benchmarks: Record<string, () => Promise<{ run(options: Options): Promise<Result> }>> = {
  torch: () => import('./torch.js'),
  'base-model': () => import('./base-model.js'),
  quickstart: () => import('./quickstart.js'),
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
    say: (text) => process.stderr.write(`${text}\n`),
  });
  const { data, text } = Array.isArray(result) ? { data: result, text: table(result) } : result;
  process.stdout.write(values.json ? `${JSON.stringify(data, null, 2)}\n` : text);
} catch (error) {
  const mistake =
    error instanceof UserError || (error as { code?: string }).code?.startsWith('ERR_PARSE_ARGS');
  process.stderr.write(`${mistake ? (error as Error).message : (error as Error).stack}\n`);
  process.exitCode = mistake ? 2 : 1;
}
