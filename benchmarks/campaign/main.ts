// npm run campaign -- kill [N] | endurance [N] | fuzz [N] | workers [N] [--seed S] [--kind KIND]
import { parseArgs } from 'node:util';
import { UserError } from '@rldf/torch';

export interface CampaignOptions {
  /** Kills, updates or inputs of each kind; each campaign has its own default. */
  count?: number;
  seed: number;
  /** Of fuzz: one kind of input only. */
  kind?: string;
  say(text: string): void;
}

/** Each answers whether everything held. */
const campaigns: Record<string, () => Promise<{ run(options: CampaignOptions): Promise<boolean> }>> = {
  kill: () => import('./kill.js'),
  endurance: () => import('./endurance.js'),
  fuzz: () => import('./fuzz.js'),
  workers: () => import('./workers.js'),
};

try {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: { seed: { type: 'string', default: '0' }, kind: { type: 'string' } },
  });
  const [name = '', count] = positionals;
  const load = Object.hasOwn(campaigns, name) ? campaigns[name] : undefined;
  if (load === undefined) {
    throw new UserError(`campaign: there is no "${name}" — one of ${Object.keys(campaigns).join(', ')}.`);
  }
  for (const [what, text] of Object.entries({ count: count ?? '1', '--seed': values.seed })) {
    if (!/^\d{1,9}$/.test(text)) throw new UserError(`campaign: ${what} ${text} — a whole number is needed.`);
  }
  const { run } = await load();
  const held = await run({
    ...(count === undefined ? {} : { count: Number(count) }),
    ...(values.kind === undefined ? {} : { kind: values.kind }),
    seed: Number(values.seed),
    say: (text) => process.stdout.write(`${text}\n`),
  });
  process.exitCode = held ? 0 : 1;
} catch (error) {
  const mistake =
    error instanceof UserError || (error as { code?: string }).code?.startsWith('ERR_PARSE_ARGS');
  process.stderr.write(`${mistake ? (error as Error).message : (error as Error).stack}\n`);
  process.exitCode = mistake ? 2 : 1;
}
