/** One rank of distributed.test.ts: `rank size port way seconds`. Prints what it found as JSON, or its error. */

import { cat, full, Group, ones, type Tensor, tensor } from './index.js';

const [rank, size, port, way, seconds] = process.argv.slice(2) as [string, string, string, string, string];
const say = (text: string) => process.stdout.write(`${text}\n`);
const numbers = (one: Tensor) => one.toNumbers();
try {
  const [at, all] = [Number(rank), Number(size)];
  const group = await Group.open({
    rank: at,
    size: all,
    host: '127.0.0.1',
    port: Number(port),
    timeoutSeconds: Number(seconds),
  });
  if (way === 'dies' && at === 1) process.kill(process.pid, 'SIGKILL');
  if (way === 'stays away' && at === 1) await group.store.get('what nobody writes', 600); // ends with the store, which is rank 0's
  const sum = group.allReduce(full([3], at + 1)); // 1 + 2 + ...
  const most = group.allReduce(tensor([at, -at]), 'max');
  const columns = cat([ones([2, 1]), full([2, 1], 2)], 1).permute([1, 0]); // of strides that are not row-major
  const strided = group.allReduce(columns);
  const many = [full([2, 2], at + 1), full([3], 10), full([1], 5 * at)];
  group.allReduceAll(many, 20); // two buckets: 16 bytes, and 12 + 4
  const told = group.broadcast(full([2], 10 * at), 1);
  const whole = group.allGather(tensor([[at, 7]]));
  group.barrier();
  group.store.set(`said/${at}`, `by ${at}`);
  const heard = await group.store.get(`said/${(at + 1) % all}`);
  const { collectives, bytes } = group.traffic;
  say(
    JSON.stringify({
      ...{
        sum: numbers(sum),
        most: numbers(most),
        strided: numbers(strided),
        told: numbers(told),
        many: many.map(numbers),
      },
      ...{ whole: numbers(whole), heard, collectives, bytes },
    }),
  );
  group.close();
  process.exit(0);
} catch (error) {
  say(`${(error as Error).name}: ${(error as Error).message}`);
  process.exit(3);
}
