// Our side of `npm run bench -- sample`, in a process of its own so that its memory can be read: one JSON question a
// line, one JSON answer a line, as peers/sample_peer.py.
import { readFileSync, writeFileSync } from 'node:fs';
import { createInterface } from 'node:readline';
import { type Generated, generate, loadPipeline } from '@rldf/models';
import { free, readSafetensors, setThreads, type Tensor } from '@rldf/torch';

interface Question {
  ask: 'prepare' | 'run' | 'memory';
  model: string;
  latents: string;
  prompts: string[];
  steps: number;
  guidance: number;
  threads: number;
}

let draw: () => Promise<Generated>;

function drawing({ model, latents, prompts, steps, guidance, threads }: Question): typeof draw {
  setThreads(threads);
  const pipeline = loadPipeline(model);
  const options = {
    prompts,
    seeds: prompts.map((_, i) => i),
    latents: readSafetensors(latents).tensors.get('latents') as Tensor,
    steps,
    guidanceScale: guidance,
  };
  return () => generate(pipeline, options);
}

async function timed(): Promise<{ seconds: number; bytes: Uint8Array }> {
  const start = process.hrtime.bigint();
  const drawn = await draw();
  const seconds = Number(process.hrtime.bigint() - start) / 1e9;
  const bytes = drawn.images.bytes();
  free(drawn);
  return { seconds, bytes };
}

async function answer(question: Question): Promise<object> {
  if (question.ask === 'run') return { seconds: (await timed()).seconds };
  if (question.ask === 'memory') {
    const [, peak] = /VmHWM:\s+(\d+)/.exec(readFileSync('/proc/self/status', 'utf8')) ?? [];
    return { peak: Number(peak) * 1024 };
  }
  draw = drawing(question);
  const { seconds, bytes } = await timed();
  const pictures = `${question.latents}.ours`;
  writeFileSync(pictures, bytes);
  writeFileSync('/proc/self/clear_refs', '5'); // the peak begins anew: not that of loading
  return { seconds, pictures };
}

for await (const line of createInterface({ input: process.stdin })) {
  const reply = await answer(JSON.parse(line)).catch((error: Error) => ({ error: error.message }));
  process.stdout.write(`${JSON.stringify(reply)}\n`);
}
