/** One rank of crew.test.ts: `rank size port way`. Prints what it found as JSON, or its error. */

import { arange, full, tensor } from '@rldf/torch';
import { Crew, LeftStep } from './crew.js';

const [rank, size, port, way] = process.argv.slice(2) as [string, string, string, string];
const [at, all] = [Number(rank), Number(size)];
const place = { rank: at, size: all, localRank: at, host: '127.0.0.1', port: Number(port), serves: at === 0 };
const say = (value: unknown) => process.stdout.write(`${JSON.stringify(value)}\n`);
const later = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));
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
    const told = full([2], at + 5);
    await crew.broadcast('weights', [told]);
    const said = await crew.meet('words', { at, odd: [Number.NaN, 2n ** 60n] });
    if (crew.leads) crew.tell({ do: 'this' });
    const command = crew.leads ? undefined : await crew.command();
    const numbers = [whole, few, a, b, told].map((one) => one.toNumbers());
    say({ own, gathered, numbers, said: said.map(({ at, odd }) => `${at} ${odd}`), command });
    await (crew.leads ? crew.end(0) : crew.command().catch((error) => say(`${error.name} ${error.code}`)));
  }
  if (way === 'leaves') {
    // the leader leaves before the others come, then while they wait; both times nobody passes, and the next meeting does
    const found: string[] = [];
    for (const when of [0, 300]) {
      if (crew.leads) {
        await later(when);
        crew.leave();
      } else {
        await later(150);
        await crew.meet('never', 1).catch((error) => found.push(error.name));
      }
    }
    const controller = new AbortController();
    setTimeout(() => controller.abort(new Error('Ctrl-C')), 100);
    if (at === 2) await later(300); // called off before it comes
    const last = crew.meet('called off', 1, controller.signal);
    await last.catch((error) => found.push(error instanceof LeftStep ? error.name : error.message));
    found.push(`${await crew.meet('then', at)}`);
    say(found);
    if (crew.leads) await crew.end(0);
  }
  if (way === 'dies' && at === 1) process.kill(process.pid, 'SIGKILL');
  if (way === 'fails' && at === 1) {
    await crew.fail(new TypeError('a reward of mine'));
    process.exit(0);
  }
  if (way === 'hangs' && at === 1) await later(5000);
  if (['dies', 'fails', 'hangs'].includes(way)) await crew.meet('scores', 1);
} catch (error) {
  say(`${(error as Error).name}: ${(error as Error).message}`);
}
process.exit(0);
