// Python environments of the tools that benchmarks and cross-checks stand beside.
import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { UserError } from '@rldf/torch';

export type EnvironmentName = 'diffusers' | 'scorers' | 'trl';

export interface EnvironmentOptions {
  /** A Python that has the packages already; nothing is made or installed then. */
  python?: string | undefined;
  /** Where the environments lie. */
  root?: string;
  say?: (text: string) => void;
}

const repository = fileURLToPath(new URL('../..', import.meta.url));

/**
 * The Python of an environment: the one given, else of the variable `RLDF_PEER_PYTHON_DIFFUSERS`, `_SCORERS` or `_TRL`, else of
 * `RLDF_PEER_PYTHON`, else `.environments/NAME`, which the first use makes from `peers/requirements-NAME.txt`.
 *
 * To choose the build of PyTorch (pip's default on Linux x64 is the CUDA build of several GB), make the environment
 * yourself and install PyTorch into it: what is there and fits is kept.
 *
 * @throws UserError when there is no Python, or pip fails
 */
export function pythonEnvironment(name: EnvironmentName, options: EnvironmentOptions = {}): string {
  const { root = join(repository, '.environments'), say = (text) => process.stderr.write(`${text}\n`) } =
    options;
  const given =
    options.python ??
    process.env[`RLDF_PEER_PYTHON_${name.toUpperCase()}`] ??
    process.env.RLDF_PEER_PYTHON ??
    '';
  if (given !== '') return checkedPython(given);

  const folder = join(root, name);
  const python = join(folder, 'bin', 'python');
  const requirements = join(repository, 'benchmarks', 'peers', `requirements-${name}.txt`);
  const stamp = join(folder, 'requirements.sha256');
  const wanted = createHash('sha256').update(readFileSync(requirements)).digest('hex');
  if (existsSync(python) && existsSync(stamp) && readFileSync(stamp, 'utf8') === wanted) return python;

  if (!existsSync(python)) {
    say(`environment ${name}: making ${folder}`);
    step('python3', ['-m', 'venv', folder], () => {
      rmSync(folder, { recursive: true, force: true }); // half an environment would pass for a whole one
      return 'Python 3.10 to 3.14 with venv is needed (Debian: apt-get install python3-venv)';
    });
  }
  say(`environment ${name}: installing ${requirements} (minutes, the first time)`);
  step(
    python,
    ['-m', 'pip', 'install', '--disable-pip-version-check', '--quiet', '-r', requirements],
    () => 'check the connection to your Python package index and run again',
  );
  writeFileSync(stamp, wanted);
  return python;
}

function checkedPython(python: string): string {
  const { status, error } = spawnSync(python, ['--version']);
  if (status === 0) return python;
  throw new UserError(
    `--python ${python}: ${error?.message ?? `ended with code ${status}`} — must be a Python that runs. ` +
      'Leave it out, and an environment is made.',
  );
}

function step(command: string, words: readonly string[], howToFix: () => string): void {
  const { status, error, stderr } = spawnSync(command, words, {
    encoding: 'utf8',
    stdio: ['ignore', 'ignore', 'pipe'],
  });
  if (status === 0) return;
  const lines = (stderr ?? '').trim().split('\n').slice(-4).join('\n');
  const fix = howToFix();
  throw new UserError(
    `${command} ${words.join(' ')}: ${error?.message ?? `ended with code ${status}`}${lines && `\n${lines}\n`} — ${fix}.`,
  );
}
