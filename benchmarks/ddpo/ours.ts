// Our side of `npm run bench -- ddpo`, in a process of its own so that its memory can be read: one JSON question a line,
// one JSON answer a line, as peers/ddpo_peer.py.
import { readFileSync, writeFileSync } from 'node:fs';
import { createInterface } from 'node:readline';
import { setThreads } from '@rldf/torch';
import { loadRecipe, type Training } from 'rldf';
import { openTraining } from '../shared/open-training.js';

interface Question {
  ask: 'prepare' | 'epoch' | 'memory';
  recipe: string;
  threads: number;
}

let events: ReturnType<Training['run']>;
let epochs = 0;

async function prepare({ recipe: file, threads }: Question): Promise<void> {
  setThreads(threads);
  const recipe = loadRecipe(file, ['epochs=1000']);
  const training = await openTraining(recipe);
  events = training.run(0);
}

/** Seconds until the pictures are there; from then on, scoring them included, until the last update; and both. */
async function epoch(): Promise<{ sampling: number; update: number; epoch: number }> {
  const seconds = () => Number(process.hrtime.bigint()) / 1e9;
  const start = seconds();
  let drawn = start;
  for (let next = await events.next(); !next.done; next = await events.next()) {
    if (next.value.kind === 'step') {
      const end = seconds();
      if (epochs++ === 0) writeFileSync('/proc/self/clear_refs', '5'); // the peak begins anew: not that of loading
      return { sampling: drawn - start, update: end - drawn, epoch: end - start };
    }
    if (next.value.phase === 'scoring') drawn = seconds();
  }
  throw new Error('the recipe has no more epochs');
}

async function answer(question: Question): Promise<object> {
  if (question.ask === 'epoch') return epoch();
  if (question.ask === 'memory') {
    const [, peak] = /VmHWM:\s+(\d+)/.exec(readFileSync('/proc/self/status', 'utf8')) ?? [];
    return { peak: Number(peak) * 1024 };
  }
  await prepare(question);
  return {};
}

for await (const line of createInterface({ input: process.stdin })) {
  const reply = await answer(JSON.parse(line)).catch((error: Error) => ({ error: error.message }));
  process.stdout.write(`${JSON.stringify(reply)}\n`);
}
