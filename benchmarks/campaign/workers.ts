// Runs of several workers in which a seeded one is killed with SIGKILL at a seeded time, over all phases. Each time all processes
// must end within ten seconds with one message; each run then goes on with another number of workers, and must end with the curve and
// the adapters of the run that nobody killed, to 1e-5.
import { type ChildProcess, spawn } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { noiseKey, Random, readSafetensors } from '@rldf/torch';
import { openRun, readMetrics } from 'rldf';
import { saveTinyModel, tinyRecipe } from 'rldf/testing';
import type { CampaignOptions } from './main.js';

const program = fileURLToPath(new URL('../../packages/rldf/dist/cli/main.js', import.meta.url));
const epochs = 6;
const killsPerRun = 5;
/** All must have ended by then. */
const mostSeconds = 10;

/** Smooth, so that a rounding stays one. */
const reward = `export const reward = ({ images }) =>
  images.map(({ data }) => data.reduce((a, b) => a + b, 0) / data.length / 255);\n`;

interface Started {
  child: ChildProcess;
  ended: Promise<{ code: number | null; said: string }>;
}

function start(words: readonly string[]): Started {
  const env = { ...process.env, OMP_NUM_THREADS: '1' };
  const child = spawn(process.execPath, [program, ...words], { env, stdio: ['ignore', 'ignore', 'pipe'] });
  let said = '';
  child.stderr?.on('data', (data) => (said += data));
  const ended = new Promise<{ code: number | null; said: string }>((resolve) =>
    child.on('close', (code) => resolve({ code, said })),
  );
  return { child, ended };
}

const alive = (pid: number) =>
  existsSync(`/proc/${pid}/stat`) && !/\) Z /.test(readFileSync(`/proc/${pid}/stat`, 'utf8'));

/** The processes of a run by rank, the first one's own first. */
function workersOf({ pid = 0 }: ChildProcess): number[] {
  const list = `/proc/${pid}/task/${pid}/children`;
  const children = existsSync(list)
    ? readFileSync(list, 'utf8').trim().split(' ').filter(Boolean).map(Number)
    : [];
  return [pid, ...children];
}

async function gone(pids: readonly number[], seconds: number): Promise<boolean> {
  for (const end = performance.now() + 1000 * seconds; performance.now() < end; ) {
    if (!pids.some(alive)) return true;
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  return false;
}

export async function run({ count = 50, seed, say }: CampaignOptions): Promise<boolean> {
  const folder = mkdtempSync(join(tmpdir(), 'rldf-workers-'));
  const runs = join(folder, 'runs');
  const file = join(folder, 'recipe.json');
  writeFileSync(join(folder, 'bright.mjs'), reward);
  const recipe = {
    ...tinyRecipe(saveTinyModel(join(folder, 'model')), epochs),
    reward: { module: join(folder, 'bright.mjs') },
  };
  writeFileSync(file, JSON.stringify({ ...recipe, log: [], report: { checkpoint: 'last' } }));
  const words = (name: string, size: number) =>
    existsSync(join(runs, name, 'recipe.yaml'))
      ? ['resume', join(runs, name), '--workers', `${size}`]
      : ['train', file, '--name', name, '--runs', runs, '--workers', `${size}`];

  const began = performance.now();
  const straight = await start(words('straight', 2)).ended;
  const length = performance.now() - began;
  if (straight.code !== 0) throw new Error(straight.said);
  say(`seed ${seed}; the straight run, of 2 workers, took ${(length / 1000).toFixed(1)} s`);

  const random = new Random(noiseKey(seed, 'workers campaign'));
  let [kills, run, held, slowest] = [0, 0, 0, 0];
  while (kills < count) {
    const name = `run-${run++}`;
    const places: string[] = [];
    const faults: string[] = [];
    for (let own = 0; own < killsPerRun && kills < count; own++) {
      const size = 2 + random.integer(2);
      const victim = random.integer(size);
      const after = (0.05 + 0.9 * random.uniform()) * length;
      const { child, ended } = start(words(name, size));
      await Promise.race([ended, new Promise((resolve) => setTimeout(resolve, after))]);
      const pids = workersOf(child);
      const pid = pids[victim];
      if (child.exitCode !== null || pid === undefined || pids.length < size) {
        child.kill('SIGKILL'); // ended before, or not begun: no kill of a run
        await ended;
        continue;
      }
      process.kill(pid, 'SIGKILL');
      kills++;
      const killed = performance.now();
      const all = await gone(pids, 3 * mostSeconds);
      const { said, code } = await ended;
      const seconds = (performance.now() - killed) / 1000;
      slowest = Math.max(slowest, seconds);
      const messages = said.split(/[\r\n]/).filter((line) => line.startsWith('rldf: '));
      const phase = said.split(/[\r\n]/).findLast((line) => /epoch|drawing/.test(line)) ?? 'starting';
      places.push(
        `${victim} of ${size} (${/drawing \w+ pictures|epoch \d+\/\d+( +\w+)?/.exec(phase)?.[0] ?? 'starting'})`,
      );
      if (!all || seconds > mostSeconds) faults.push(`${seconds.toFixed(1)} s until all had ended`);
      const whole = code === 0 && existsSync(join(runs, name, 'report', 'report.json')); // nobody was needed any more
      if (victim > 0 && code === 0 && !whole) faults.push('exit code 0');
      if (messages.length > 1 || (victim > 0 && messages.length === 0 && !whole))
        faults.push(`${messages.length} messages: ${messages.join(' | ')}`);
    }
    const last = await start(words(name, 1 + random.integer(4))).ended;
    if (last.code !== 0) faults.push(last.said.trim().split('\n').at(-1) ?? '');
    else faults.push(...differences(runs, name));
    if (faults.length === 0) held++;
    say(
      `${String(kills).padStart(3)}/${count}  killed ${places.join(', ') || 'nobody'}: ${faults.join('; ') || 'ended as the straight run'}`,
    );
    rmSync(join(runs, name), { recursive: true, force: true });
  }
  rmSync(folder, { recursive: true, force: true });
  say(
    `${kills} kills in ${run} runs; ${held} of ${run} ended as the straight one; all workers had ended after at most ${slowest.toFixed(1)} s`,
  );
  return held === run;
}

/** Where a run differs from the straight one by more than rounding. */
function differences(runs: string, name: string): string[] {
  const [one, other] = [name, 'straight'].map((each) => openRun(each, runs));
  const weights = [one, other].map((each) => {
    const { tensors } = readSafetensors(join(each!.adaptersFolder, 'pytorch_lora_weights.safetensors'));
    return [...tensors.values()].flatMap((tensor) => tensor.toNumbers());
  }) as [number[], number[]];
  const norm = (values: number[]) => Math.sqrt(values.reduce((sum, value) => sum + value ** 2, 0));
  const apart = norm(weights[0].map((value, i) => value - (weights[1][i] as number))) / norm(weights[1]);
  const curves = [one, other].map((each) =>
    readMetrics(each!.metricsPath).map((row) => [row.step, row['reward/mean']]),
  );
  const same =
    curves[0]!.length === curves[1]!.length &&
    curves[0]!.every(([step, value], i) => {
      const [otherStep, expected] = curves[1]![i] as [number, number | undefined];
      return (
        step === otherStep &&
        Math.abs(Number(value ?? 0) - Number(expected ?? 0)) <= 1e-5 * Math.abs(Number(expected ?? 0))
      );
    });
  return [...(apart <= 1e-5 ? [] : [`adapters differ by ${apart}`]), ...(same ? [] : ['the curve differs'])];
}
