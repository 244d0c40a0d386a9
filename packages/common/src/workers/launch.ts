/** `--workers N`: this process leads, and starts the others on this machine with its own command line. */

import { type ChildProcess, spawn } from 'node:child_process';
import { availableParallelism } from 'node:os';
import { freePort, setThreads } from '@rldf/torch';
import { UserError } from '@rldf/torch/errors';
import { Crew } from './crew.js';

/**
 * Starts `size - 1` followers and meets them. Each gets an equal part of the machine's cores; they end with this process.
 * @param words the command line that followers are started with
 */
export async function launchCrew(size: number, words: readonly string[]): Promise<Crew> {
  const port = await freePort();
  const ownThreads = Math.max(1, Math.floor(availableParallelism() / size));
  if (process.env.OMP_NUM_THREADS === undefined) setThreads(ownThreads);
  let lost: Error | undefined;
  const children = Array.from({ length: size - 1 }, (_, i): ChildProcess => {
    const rank = i + 1;
    const env = {
      OMP_NUM_THREADS: `${ownThreads}`,
      ...process.env,
      ...{ RANK: `${rank}`, LOCAL_RANK: `${rank}`, WORLD_SIZE: `${size}`, RLDF_LAUNCHED: `${process.pid}` },
      ...{ MASTER_ADDR: '127.0.0.1', MASTER_PORT: `${port}` },
    };
    const child = spawn(process.execPath, [...process.execArgv, process.argv[1] as string, ...words], {
      env,
      stdio: ['ignore', 'ignore', 'inherit'],
    });
    child.on('exit', (code, signal) => {
      lost ??= new UserError(
        `worker ${rank} of ${size} ended while it was waited for (${signal ?? `exit code ${code}`}) — all must start. Look at the message above, if there is one`,
      );
    });
    child.unref();
    return child;
  });
  const place = { rank: 0, size, localRank: 0, host: '127.0.0.1', port, serves: true, attempt: 0 };
  try {
    return await Crew.join({ ...place, launcher: 'rldf' }, { giveUp: () => lost });
  } catch (error) {
    for (const child of children) child.kill('SIGKILL');
    throw error;
  }
}
