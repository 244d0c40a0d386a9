// npm run bench -- NAME [--json] [--python FILE]
import { parseArgs } from 'node:util';
import { UserError } from '@rldf/torch';
import { type Options, type Row, table } from './rows.js';

const benchmarks: Record<string, () => Promise<{ run(options: Options): Promise<Row[]> }>> = {
  torch: () => import('./torch.js'),
};

try {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: { json: { type: 'boolean', default: false }, python: { type: 'string' } },
  });
  const [name = ''] = positionals;
  const load = Object.hasOwn(benchmarks, name) ? benchmarks[name] : undefined;
  if (load === undefined) {
    throw new UserError(`bench: there is no "${name}" — one of ${Object.keys(benchmarks).join(', ')}.`);
  }
  const rows = await (await load()).run({
    ...(values.python === undefined ? {} : { python: values.python }),
    say: (text) => process.stderr.write(`${text}\n`),
  });
  process.stdout.write(values.json ? `${JSON.stringify(rows, null, 2)}\n` : table(rows));
} catch (error) {
  const mistake =
    error instanceof UserError || (error as { code?: string }).code?.startsWith('ERR_PARSE_ARGS');
  process.stderr.write(`${mistake ? (error as Error).message : (error as Error).stack}\n`);
  process.exitCode = mistake ? 2 : 1;
}
