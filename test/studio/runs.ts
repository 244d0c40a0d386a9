/** Real runs for the page to show: tiny trainings, made once a session, and the studio that shows them. */

import { type ChildProcess, spawn } from 'node:child_process';
import { appendFileSync, cpSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { saveTinyModel, tinyRecipe } from 'rldf/testing';
import { stringify } from 'yaml';

export const root = resolve(import.meta.dirname, '../..');
const program = join(root, 'packages/rldf/bin/rldf.js');
const environment = { ...process.env, OMP_NUM_THREADS: '1' };

/** Runs a command of rldf to its end. @throws with what it said when it fails */
export function rldf(words: string[], cwd = root): Promise<string> {
  return new Promise((done, failed) => {
    const child = spawn(process.execPath, [program, ...words], { cwd, env: environment });
    let output = '';
    child.stdout.on('data', (data) => (output += data));
    child.stderr.on('data', (data) => (output += data));
    child.on('error', failed);
    child.on('close', (code) =>
      code === 0 ? done(output) : failed(new Error(`rldf ${words.join(' ')} ended with ${code}:\n${output}`)),
    );
  });
}

/** A training that goes on while the page looks at it. */
export function startTraining(words: string[]): ChildProcess {
  return spawn(process.execPath, [program, ...words], { cwd: root, env: environment, stdio: 'ignore' });
}

/**
 * A folder with finished runs `seed-1` and `seed-2` of one recipe, on text encoder and U-Net; `hacked`, whose hack watch speaks;
 * `damaged`; `long` of 10,000 steps; and a search.
 */
export async function makeRuns(folder: string): Promise<void> {
  const runs = join(folder, 'runs');
  mkdirSync(runs);
  const model = saveTinyModel(join(folder, 'tiny-model'));
  const recipe = { ...tinyRecipe(model, 6), checkpoint: { every: 2, keep: 5 }, watch: { mode: 'log' } };
  writeFileSync(join(folder, 'tiny.yaml'), stringify(recipe));
  for (const seed of [1, 2])
    await rldf([
      'train',
      join(folder, 'tiny.yaml'),
      '--runs',
      runs,
      '--name',
      `seed-${seed}`,
      '--set',
      `seed=${seed}`,
    ]);
  copyRun(runs, 'seed-1', 'hacked');
  const metrics = join(runs, 'hacked', 'metrics.jsonl');
  const lines = readFileSync(metrics, 'utf8').trimEnd().split('\n');
  const alarmed = lines.map((line) => {
    const row = JSON.parse(line) as Record<string, unknown>;
    return row.step === 6 ? JSON.stringify({ ...row, 'watch/alarm': ['edgeDensity', 'diversity'] }) : line;
  });
  writeFileSync(metrics, `${alarmed.join('\n')}\n`);
  mkdirSync(join(runs, 'damaged'));
  writeFileSync(join(runs, 'damaged', 'recipe.yaml'), 'method: [\n');
  writeFileSync(join(runs, 'damaged', 'metrics.jsonl'), '');
  makeLong(runs, 10_000);
  const input = join(root, 'docs/images/rldf-input.png');
  const words = ['--steps', '6', '--pictures', '2', '--slide', 'Density'];
  await rldf(['search', '--image', input, '--output', join(runs, 'searches/one'), ...words]);
}

export function copyRun(runs: string, from: string, to: string): string {
  cpSync(join(runs, from), join(runs, to), { recursive: true });
  rmSync(join(runs, to, 'lock.json'), { force: true });
  return join(runs, to);
}

/** A run whose metrics have so many steps, with every metric that the real one has. */
function makeLong(runs: string, steps: number): void {
  const folder = copyRun(runs, 'seed-1', 'long');
  rmSync(join(folder, 'report'), { recursive: true, force: true });
  const recipe = readFileSync(join(folder, 'recipe.yaml'), 'utf8');
  writeFileSync(join(folder, 'recipe.yaml'), recipe.replace(/^epochs: .*$/m, `epochs: ${2 * steps}`));
  const rows = readFileSync(join(folder, 'metrics.jsonl'), 'utf8')
    .trimEnd()
    .split('\n')
    .map((line) => JSON.parse(line));
  writeFileSync(join(folder, 'metrics.jsonl'), longRows(rows, 1, steps));
}

/** Rows as a training would write them, each number swinging about the real one by a fifth. */
export function longRows(rows: Record<string, unknown>[], from: number, to: number): string {
  const [evaluated, trained] = [
    rows.find((row) => 'validation/reward' in row)!,
    rows.find((row) => 'reward/mean' in row)!,
  ];
  let text = '';
  for (let step = from; step <= to; step++) {
    const row: Record<string, unknown> = {
      ...(step % 50 === 0 ? { ...trained, ...evaluated } : trained),
      step,
    };
    delete row['watch/alarm'];
    for (const [name, value] of Object.entries(row)) {
      if (name !== 'step' && typeof value === 'number')
        row[name] = value * (1 + 0.2 * Math.sin(step / 300 + name.length) + 0.05 * Math.sin(step * 12.9898));
    }
    text += `${JSON.stringify(row)}\n`;
  }
  return text;
}

export const appendRows = (runs: string, run: string, text: string) =>
  appendFileSync(join(runs, run, 'metrics.jsonl'), text);

export interface Studio {
  address: string;
  port: number;
  process: ChildProcess;
  /** Ends at once, as a power cut would. */
  kill(): Promise<void>;
}

/** The studio as a user starts it. */
export function startStudio(runs: string, port = 0): Promise<Studio> {
  const child = spawn(
    process.execPath,
    [program, 'studio', runs, '--no-open', '--port', String(port), '--json'],
    { cwd: root, env: environment },
  );
  const ended = new Promise<void>((done) => child.on('close', () => done()));
  return new Promise((done, failed) => {
    let [output, errors] = ['', ''];
    child.stderr.on('data', (data) => (errors += data));
    child.on('error', failed);
    child.on('close', (code) => failed(new Error(`rldf studio ended with ${code}: ${errors}`)));
    child.stdout.on('data', (data) => {
      output += data;
      try {
        const told = JSON.parse(output) as { address: string; port: number };
        const kill = () => {
          child.kill('SIGKILL');
          return ended;
        };
        done({ ...told, process: child, kill });
      } catch {
        // not all of it yet
      }
    });
  });
}
