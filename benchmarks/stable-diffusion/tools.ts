// Questions to the sides of `npm run bench -- stable-diffusion`, rldf's command line, and files of tensors.
import { spawn } from 'node:child_process';
import { initialNoiseKeys } from '@rldf/models';
import { normal, readSafetensors, scope, type Tensor, writeSafetensors } from '@rldf/torch';
import type { Answer, Peer } from '../shared/peer.js';
import { commandLine } from './cases.js';

export const threads = Number(process.env.OMP_NUM_THREADS ?? 0) || 8;
const limit = 150_000; // milliseconds for one question

/** An answer, or an error: also when it takes too long. */
export async function ask(peer: Peer, question: object): Promise<Answer> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<Answer>((resolve) => {
    timer = setTimeout(() => {
      void peer.kill();
      resolve({ error: `no answer within ${limit / 1000} s` });
    }, limit);
  });
  const answer = await Promise.race([peer.ask({ threads, ...question }), late]);
  clearTimeout(timer);
  if (answer.error !== undefined) throw new Error(answer.error);
  return answer;
}

/** Runs the command line. @returns what it printed @throws Error when it fails */
export function rldf(words: readonly string[]): Promise<string> {
  return new Promise((resolve, reject) => {
    const child = spawn(process.execPath, [...process.execArgv, commandLine, ...words], {
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    const timer = setTimeout(() => child.kill('SIGKILL'), limit);
    let [out, err] = ['', ''];
    child.stdout.on('data', (chunk) => {
      out += chunk;
    });
    child.stderr.on('data', (chunk) => {
      err += chunk;
    });
    child.on('error', reject);
    child.on('close', (code) => {
      clearTimeout(timer);
      if (code === 0) resolve(out);
      else reject(new Error(`rldf ${words[0]} ended with ${code}: ${err.slice(-1500)}`));
    });
  });
}

/** Of a tensor in two files; relative to the largest value if asked for. */
export function largestDifference(files: readonly [string, string], name: string, relative = false): number {
  return scope(() => {
    const [a, b] = files.map((file) => readSafetensors(file).tensors.get(name)) as [Tensor, Tensor];
    const most = a.sub(b).abs().amax().item();
    return relative ? most / a.abs().amax().item() : most;
  });
}

/** The same adapter with numbers of size 0.05 in place of what it learned in a few updates. */
export function strengthen(from: string, to: string): void {
  scope(() => {
    const { tensors, metadata } = readSafetensors(from);
    const strong = [...tensors].map(([name, tensor], i): [string, Tensor] => {
      const noise = normal(initialNoiseKeys([i]), tensor.shape)
        .squeeze(0)
        .mul(0.05);
      return [name, /lora_B|up\.weight/.test(name) ? tensor.add(noise).contiguous() : tensor.contiguous()];
    });
    writeSafetensors(to, new Map(strong), metadata);
  });
}
