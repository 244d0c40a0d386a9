// Two workers of one thread beside one worker of one and of two threads, on one machine: pictures a second of drawing and of DDPO's
// epochs, and what an update communicates. Two commands that know nothing of each other, at once, show what the machine allows: its
// threads share cores and memory. The command line is run as a user would.
import { spawn } from 'node:child_process';
import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { UserError } from '@rldf/torch';
import { mean, readMetrics } from 'rldf';
import { type OptionsOf, whole } from '../shared/options.js';
import type { Row } from '../shared/rows.js';

const program = fileURLToPath(new URL('../../packages/rldf/dist/cli/main.js', import.meta.url));

export const options = {
  rounds: whole('turns of each setting; default 3'),
  pictures: whole('pictures drawn in a turn; default 192'),
  epochs: whole('epochs of a turn, the first of which is not counted; default 4'),
  workers: whole('workers beside one; default 2'),
};

interface Setting {
  workers: number;
  threads: number;
  /** Commands at once. */
  commands: number;
}

const settingsOf = (workers: number): Setting[] => [
  { commands: 1, workers: 1, threads: 1 },
  { commands: 1, workers: 1, threads: workers },
  { commands: 1, workers, threads: 1 },
  { commands: workers, workers: 1, threads: 1 },
];

export async function run(given: OptionsOf<typeof options>): Promise<Row[]> {
  if (!existsSync(program)) throw new UserError('bench: packages are not compiled — run `npm run build`.');
  const { rounds = 3, pictures = 192, epochs = 4, workers = 2, say } = given;
  const folder = mkdtempSync(join(tmpdir(), 'rldf-scaling-'));
  const found = settingsOf(workers).map((setting) => ({
    ...{ setting, drawn: [] as number[], trained: [] as number[] },
    ...{ seconds: [] as number[], bytes: [] as number[] },
  }));
  try {
    for (let round = 0; round < rounds; round++) {
      for (const { setting, drawn, trained, seconds, bytes } of found) {
        say(`round ${round + 1} of ${rounds}: ${nameOf(setting)}`);
        const { commands, workers } = setting;
        const draw = (count: number) =>
          timed(setting, (i) => [
            'generate',
            'a cat',
            '--count',
            `${count}`,
            '--output',
            join(folder, `${i}`),
          ]);
        const few = 16 * workers; // start and loading cost the same
        const start = await draw(few);
        drawn.push((commands * (pictures - few)) / Math.max(1e-3, (await draw(pictures)) - start));
        const names = Array.from({ length: commands }, (_, i) => `run-${i}`);
        await timed(setting, (i) => [
          ...['train', 'emoji/compressibility', '--name', names[i] as string, '--runs', folder],
          ...[
            '--set',
            `epochs=${epochs}`,
            '--set',
            'evaluate.every=1000',
            '--set',
            `threads=${setting.threads}`,
          ],
        ]);
        let speed = 0;
        for (const name of names) {
          const all = readMetrics(join(folder, name, 'metrics.jsonl')).slice(1); // without step 0
          const rows = all.slice(1); // without the first epoch
          const total = (key: string) => rows.map((row) => Number(row[key] ?? 0));
          const made = Number(rows.at(-1)?.pictures ?? 0) - Number(all[0]?.pictures ?? 0);
          speed += made / total('time/step').reduce((sum, one) => sum + one, 0);
          seconds.push(mean(total('time/collectives')));
          bytes.push(mean(total('memory/communicated')));
          rmSync(join(folder, name), { recursive: true, force: true });
        }
        trained.push(speed);
      }
    }
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
  const [single] = found as [(typeof found)[number]];
  return found.flatMap(({ setting, drawn, trained, seconds, bytes }) => {
    const row = (what: string, ours: number[], peer: number[]): Row => ({
      case: `${what}, ${nameOf(setting)}`,
      ours: mean(ours),
      peer: mean(peer),
      unit: 'pictures/s',
      ratio: mean(ours) / mean(peer),
      peerName: `of ideal: ${(mean(ours) / mean(peer) / (setting.commands * setting.workers * setting.threads)).toFixed(3)}`,
    });
    return [
      row('drawing', drawn, single.drawn),
      row('epochs of DDPO', trained, single.trained),
      ...(setting.workers === 1
        ? []
        : [
            alone(`communicated in an epoch, ${nameOf(setting)}`, mean(bytes), 'bytes'),
            alone(`time of it, ${nameOf(setting)}`, mean(seconds), 's'),
          ]),
    ];
  });
}

/** A number beside which there is no other. */
const alone = (name: string, ours: number, unit: string): Row => ({
  ...{ case: name, ours, unit, peer: null, peerName: '', ratio: null },
});

const nameOf = ({ commands, workers, threads }: Setting) =>
  commands > 1
    ? `${commands} commands of one thread each, apart`
    : `${workers} worker${workers > 1 ? 's' : ''} x ${threads} thread${threads > 1 ? 's' : ''}`;

/** Seconds of the commands of a setting, at once. */
async function timed(
  { commands, workers, threads }: Setting,
  wordsOf: (command: number) => readonly string[],
): Promise<number> {
  const began = performance.now();
  await Promise.all(
    Array.from({ length: commands }, async (_, command) => {
      const words = wordsOf(command);
      const child = spawn(process.execPath, [program, ...words, '--workers', `${workers}`], {
        env: { ...process.env, OMP_NUM_THREADS: `${threads}` },
        stdio: ['ignore', 'ignore', 'pipe'],
      });
      let said = '';
      child.stderr.on('data', (data) => (said += data));
      const code = await new Promise((resolve) => child.on('close', resolve));
      if (code !== 0)
        throw new UserError(
          `bench: ${words.join(' ')} ended with ${code}: ${said.trim().split('\n').at(-1)}`,
        );
    }),
  );
  return (performance.now() - began) / 1000;
}
