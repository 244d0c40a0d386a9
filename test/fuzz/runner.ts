// Drives child.ts: watches that every case ends, begins again behind one that ended the process, and gathers findings.
import { spawn } from 'node:child_process';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';

export interface Finding {
  kind: string;
  seed: number;
  /** Number within the kind. */
  case: number;
  file?: string;
  finding: string;
  detail: string;
}

export interface Tally {
  refused: number;
  accepted: number;
  findings: Finding[];
}

/** As in kinds.ts, which only the child loads. */
export const fuzzKinds: readonly string[] = [
  'safetensors',
  'recipes',
  'prompts',
  'tokenizers',
  'models',
  'adapters',
  'peft',
  'ldm',
  'shards',
  'torchFiles',
  'singleFiles',
  'lycoris',
  'xl',
  'schedulers',
];

const child = fileURLToPath(new URL('child.ts', import.meta.url));
/** A case that takes longer hangs. Generous, as the machine may be busy with other things. */
const allowedSeconds = 240;
/** Limits of the child: a memory bomb must not take the machine with it. */
const heapMegabytes = 512;
const dataKilobytes = 4 * 2 ** 20;
const limits = `ulimit -c 0; ulimit -d ${dataKilobytes} 2>/dev/null; exec "$@"`;

/** Reads `count` damaged files of each kind. */
export async function fuzz(kinds: readonly string[], seed: number, count: number): Promise<Tally> {
  const tally: Tally = { refused: 0, accepted: 0, findings: [] };
  const end = kinds.length * count;
  for (let first = 0; first < end; ) first = await untilEnd(kinds, seed, count, first, tally);
  return tally;
}

/** @returns where to go on: behind the last case, or behind the one that ended the process */
async function untilEnd(
  kinds: readonly string[],
  seed: number,
  count: number,
  first: number,
  tally: Tally,
): Promise<number> {
  const node = [process.execPath, `--max-old-space-size=${heapMegabytes}`, '--conditions=rldf-source'];
  const words = [...node, '--import', 'tsx', child, kinds.join(), ...[seed, count, first].map(String)];
  const running = spawn('sh', ['-c', limits, 'sh', ...words], { stdio: ['ignore', 'pipe', 'pipe'] });
  let current: number | undefined;
  let finished = false;
  let hangs = false;
  let errors = '';
  let timer: NodeJS.Timeout | undefined;
  const watch = () => {
    clearTimeout(timer);
    const seconds = current === undefined ? 2 * allowedSeconds : allowedSeconds;
    timer = setTimeout(() => {
      hangs = true;
      running.kill('SIGKILL');
    }, 1000 * seconds);
  };
  running.stderr.on('data', (data) => {
    errors = `${errors}${data}`.slice(-3000);
  });
  createInterface({ input: running.stdout }).on('line', (text) => {
    const line = JSON.parse(text);
    if (line.finding !== undefined) tally.findings.push({ seed, ...line });
    else if (line.finished) finished = true;
    else if (line.tally !== undefined) {
      tally.refused += line.tally.refused;
      tally.accepted += line.tally.accepted;
    } else current = line.case;
    watch();
  });
  watch();
  const [status, signal] = await new Promise<[number | null, string | null]>((resolve) =>
    running.on('close', (...how) => resolve(how)),
  );
  clearTimeout(timer);
  if (finished) return kinds.length * count;
  if (current === undefined)
    throw new Error(`fuzz ${kinds.join()}: the process ended before its first case\n${errors}`);
  tally.findings.push({
    kind: kinds[Math.floor(current / count)]!,
    seed,
    case: current % count,
    finding: hangs ? 'hang' : 'crash',
    detail: `${signal ?? `exit ${status}`} ${errors.slice(0, 600)}`,
  });
  return current + 1;
}
