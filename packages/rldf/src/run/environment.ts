/** What a run ran on: enough to explain why another machine's numbers differ in the last bits. */

import { execFileSync } from 'node:child_process';
import { arch, cpus, platform, release, totalmem } from 'node:os';
import { version } from '@rldf/common/base/version';
import { availableDevices, threads, torchVersion } from '@rldf/torch';

export interface Environment {
  rldf: string;
  node: string;
  libtorch: string;
  platform: string;
  cpu: string;
  cores: number;
  threads: number;
  memoryGiB: number;
  devices: string[];
  /** Commit of the repository in the working folder, if it is one. */
  git: { commit: string; changed: boolean } | null;
  command: string[];
  started: string;
}

export function describeEnvironment(): Environment {
  return {
    rldf: version,
    node: process.versions.node,
    libtorch: torchVersion(),
    platform: `${platform()} ${release()} ${arch()}`,
    cpu: cpus()[0]?.model.trim() ?? 'unknown',
    cores: cpus().length,
    threads: threads(),
    memoryGiB: Math.round((totalmem() / 2 ** 30) * 10) / 10,
    devices: availableDevices(),
    git: gitState(process.cwd()),
    command: process.argv.slice(2),
    started: new Date().toISOString(),
  };
}

function gitState(folder: string): Environment['git'] {
  const git = (...args: string[]) =>
    execFileSync('git', args, {
      cwd: folder,
      encoding: 'utf8',
      stdio: ['ignore', 'pipe', 'ignore'],
      timeout: 5000,
    });
  try {
    const commit = git('rev-parse', 'HEAD').trim();
    return { commit, changed: git('status', '--porcelain').trim() !== '' };
  } catch {
    return null; // no git, no repository, or no commit yet
  }
}
