// Prints how long each operator takes while a batch is drawn, as JSON. A process of its own, since the clock is put
// around the binding's one call before anything else has taken hold of it: run by growth.ts with batch and threads.
import { native } from '@rldf/torch/native';

const names: string[] = [];
const spent = new Map<string, { calls: number; milliseconds: number }>();
const { resolve, call } = native;
native.resolve = (name, overload) => {
  const number = resolve(name, overload);
  names[number] = name;
  return number;
};
native.call = (operator, ...values) => {
  const start = performance.now();
  const result = call(operator, ...values);
  const name = names[operator] as string;
  const entry = spent.get(name) ?? { calls: 0, milliseconds: 0 };
  spent.set(name, entry);
  entry.milliseconds += performance.now() - start;
  entry.calls++;
  return result;
};

const [{ generate, loadPipeline }, { free, setThreads }, { findModel }] = await Promise.all([
  import('@rldf/models'),
  import('@rldf/torch'),
  import('rldf'),
]);
const [batch, threads] = process.argv.slice(2).map(Number) as [number, number];
setThreads(threads);
const pipeline = loadPipeline(findModel('emoji').path);
const prompts = Array<string>(batch).fill('a cat');
const options = { prompts, seeds: prompts.map((_, i) => i) };
for (let i = 0; i < 3; i++) free(await generate(pipeline, options));
spent.clear();
const times = Math.max(1, Math.round(16 / batch));
const start = performance.now();
for (let i = 0; i < times; i++) free(await generate(pipeline, options));
const milliseconds = (performance.now() - start) / times;
const operators = [...spent].map(([name, entry]) => ({
  name,
  calls: entry.calls / times,
  milliseconds: entry.milliseconds / times,
}));
process.stdout.write(`${JSON.stringify({ milliseconds, operators })}\n`);
