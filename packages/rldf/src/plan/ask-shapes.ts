/** A question to a process whose tensors have shapes but no numbers. */

import { spawn } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { InternalError, UserError } from '@rldf/torch/errors';

export type Failure = { error: string; user: boolean };

/** Runs a script beside this file as this process was started: from sources or compiled. */
export function askShapes<Question, Answer extends object>(
  name: string,
  question: Question,
): Promise<Answer> {
  const own = fileURLToPath(import.meta.url);
  const script = own.replace(/ask-shapes\.([jt]s)$/, `${name}.$1`);
  return new Promise((resolve, reject) => {
    const words = script.endsWith('.ts')
      ? ['--conditions=rldf-source', '--import', import.meta.resolve('tsx'), script]
      : [script];
    const child = spawn(process.execPath, words, {
      env: { ...process.env, RLDF_TORCH: 'shapes' },
      stdio: ['pipe', 'pipe', 'inherit'],
    });
    let text = '';
    child.stdout.on('data', (chunk) => {
      text += chunk;
    });
    child.on('error', reject);
    child.on('close', () => {
      if (text === '')
        return reject(new InternalError(`${name}: the process that reckons with shapes gave no answer.`));
      const answer = JSON.parse(text) as Answer | Failure;
      if (!('error' in answer)) resolve(answer);
      else reject(answer.user ? new UserError(answer.error) : new InternalError(answer.error));
    });
    child.stdin.end(JSON.stringify(question));
  });
}
