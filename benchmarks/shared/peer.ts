// The other side of a benchmark: a Python process that is spoken to in lines of JSON.
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { torchVersion, UserError } from '@rldf/torch';

export interface Answer {
  error?: string;
  /** Seconds that the asked number of calls took. */
  seconds?: number;
  [key: string]: unknown;
}

/** The Python whose PyTorch has the same version as the linked libtorch: the given one, or the one that carries it. */
export function findPython(given?: string): string {
  const root = fileURLToPath(new URL('../..', import.meta.url));
  const libtorch = process.env.LIBTORCH;
  const candidates =
    given !== undefined
      ? [given]
      : [
          ...(libtorch === undefined ? [] : [join(dirname(libtorch), '..', '..', '..', 'bin', 'python')]),
          join(root, '.venv', 'bin', 'python'),
          'python3',
        ];
  const seen: string[] = [];
  for (const python of candidates) {
    if (python.includes('/') && !existsSync(python)) continue;
    const { stdout, status } = spawnSync(python, ['-c', 'import torch; print(torch.__version__)'], {
      encoding: 'utf8',
    });
    const version = status === 0 ? (stdout.trim().split('+')[0] ?? '') : 'no PyTorch';
    if (version === torchVersion()) return python;
    seen.push(`${python}: ${version}`);
  }
  throw new UserError(
    `bench: no Python with PyTorch ${torchVersion()} was found (${seen.join('; ') || 'none'}) — name it with --python FILE.`,
  );
}

export class Peer {
  readonly #child: ChildProcess;
  readonly #waiting: ((answer: Answer) => void)[] = [];
  readonly #exit: Promise<void>;

  /**
   * @param program Python, or Node with its own words for a side of ours
   * @param script in `peers/`, which answers
   * @param environment besides this process's own
   */
  constructor(
    program: string,
    script = 'torch_peer.py',
    words: readonly string[] = ['-u'],
    environment: Record<string, string> = {},
  ) {
    const path = fileURLToPath(new URL(`../peers/${script}`, import.meta.url));
    this.#child = spawn(program, [...words, path], {
      stdio: ['pipe', 'pipe', 'inherit'],
      env: { ...process.env, ...environment },
    });
    const lines = createInterface({ input: this.#child.stdout as NonNullable<ChildProcess['stdout']> });
    lines.on('line', (line) => this.#waiting.shift()?.(JSON.parse(line)));
    this.#exit = new Promise((resolve) => this.#child.on('close', () => resolve()));
    this.#child.on('exit', (code) => {
      for (const answer of this.#waiting.splice(0))
        answer({ error: `the Python peer ended with code ${code}` });
    });
  }

  ask(question: Record<string, unknown>): Promise<Answer> {
    return new Promise((resolve) => {
      this.#waiting.push(resolve);
      this.#child.stdin?.write(`${JSON.stringify(question)}\n`);
    });
  }

  end(): void {
    this.#child.stdin?.end();
  }

  /** Ends it in the middle of an answer. @returns when it is gone, with what it held */
  kill(): Promise<void> {
    this.#child.kill('SIGKILL');
    return this.#exit;
  }
}
