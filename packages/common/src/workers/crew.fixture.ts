/** One rank of crew.test.ts: `rank size port way folder`; in the folder it tells the others where it is. Prints what it found as JSON, or its error. */

import { existsSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { arange, full, tensor } from '@rldf/torch';
import { Crew, LeftStep } from './crew.js';

const [rank, size, port, way, folder] = process.argv.slice(2) as [string, string, string, string, string];
const [at, all] = [Number(rank), Number(size)];
const place = { rank: at, size: all, localRank: at, host: '127.0.0.1', port: Number(port), serves: at === 0 };
const say = (value: unknown) => process.stdout.write(`${JSON.stringify(value)}\n`);
const file = (what: string, of: number) => join(folder, `${what} ${of}`);
const tell = (what: string) => writeFileSync(file(what, at), '');
/** Until some ranks have told it. */
async function told(what: string, ...by: number[]): Promise<void> {
  while (!by.every((of) => existsSync(file(what, of))))
    await new Promise((resolve) => setTimeout(resolve, 5));
}
const { meet } = Crew.prototype;
if (way === 'goes before the start' && at === 1)
  Crew.prototype.meet = async () => process.kill(process.pid, 'SIGKILL') as never;
if (way === 'goes at the start')
  Crew.prototype.meet = async function (...given) {
    const said = await meet.apply(this, given);
    if (at === 1) process.kill(process.pid, 'SIGKILL');
    process.env.RLDF_WORKERS_TIMEOUT = '1'; // they had all the time they needed to meet
    return said as never;
  };
try {
  const crew = await Crew.join({ ...place, attempt: 0, launcher: 'rldf' });
  if (way === 'works') {
    const list = ['a', 'b', 'c', 'd', 'e'];
    const own = crew.own(list);
    const gathered = await crew.gather(
      'letters',
      own.map((one) => one + at),
    );
    const rows = crew.own([0, 1, 2, 3, 4]).map((row) => [row, 10 * row]);
    const whole = await crew.gatherRows('rows', rows.length === 0 ? undefined : tensor(rows));
    // fewer rows than workers
    const few = await crew.gatherRows('few', at === 0 ? tensor([[7]]) : undefined);
    const [a, b] = [full([2, 1], at + 1), arange(3).mul(at)];
    await crew.sum('gradients', [a, b]);
    const shared = full([2], at + 5);
    await crew.broadcast('weights', [shared]);
    const said = await crew.meet('words', { at, odd: [Number.NaN, 2n ** 60n] });
    if (crew.leads) crew.tell({ do: 'this' });
    const command = crew.leads ? undefined : await crew.command();
    const numbers = [whole, few, a, b, shared].map((one) => one.toNumbers());
    say({ own, gathered, numbers, said: said.map(({ at, odd }) => `${at} ${odd}`), command });
    await (crew.leads ? crew.end(0) : crew.command().catch((error) => say(`${error.name} ${error.code}`)));
  }
  if (way === 'leaves') {
    // each time nobody passes, and the next meeting does
    const found: string[] = [];
    const fails = (meeting: Promise<unknown>) => meeting.catch((error) => void found.push(error.name));
    if (crew.leads) {
      crew.leave(); // before the others come
      crew.tell('it has left');
      await told('waits', 1, 2);
      crew.leave(); // while they wait
    } else {
      await crew.command(); // which came behind that the step is left
      await fails(crew.meet('never', 1));
      const waiting = fails(crew.meet('never', 2));
      tell('waits');
      await waiting;
    }
    // called off while rank 1 waits, and before rank 2 comes
    const controller = new AbortController();
    if (at === 2) await crew.command();
    const last = crew.meet('called off', 1, controller.signal);
    tell('came');
    if (crew.leads) {
      await told('came', 1);
      controller.abort(new Error('Ctrl-C'));
      crew.tell('it is called off');
    }
    await last.catch((error) => found.push(error instanceof LeftStep ? error.name : error.message));
    if (at === 1) await crew.command();
    found.push(`${await crew.meet('then', at)}`);
    say(found);
    if (crew.leads) await crew.end(0);
  }
  if (['dies', 'fails', 'hangs'].includes(way)) {
    await crew.meet('all are here', at);
    if (way === 'dies' && at === 1) process.kill(process.pid, 'SIGKILL');
    if (way === 'fails' && at === 1) {
      await crew.fail(new TypeError('a reward of mine'));
      process.exit(0);
    }
    if (way === 'hangs' && at === 1) await crew.command(); // which never comes
    if (way === 'hangs') process.env.RLDF_WORKERS_TIMEOUT = '0.05'; // they had all the time they needed to meet
    await crew.meet('scores', 1);
  }
} catch (error) {
  say(`${(error as Error).name}: ${(error as Error).message}`);
}
process.exit(0);
