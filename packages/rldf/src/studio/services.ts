/** What the studio's server is given. */

import { fork } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { version } from '@rldf/common/base/version';
import { askToStop, holderOfFolder } from '@rldf/common/storage/lock';
import { readLora } from '@rldf/models';
import type { Services, Worker, WorkerAnswer } from '@rldf/studio';
import { scope } from '@rldf/torch';
import { fuseAdapters } from '../adapters/fuse.js';
import { explainRun } from '../report/explain.js';
import { readPicture } from '../report/report.js';
import { pictureHash } from '../rewards/ratings.js';
import { Run } from '../run/run.js';
import { meaningOf } from '../train/hack-watch.js';
import { goBack } from './go-back.js';
import { describeMetric } from './metric-words.js';
import { describeRecipe, stepsOf } from './recipe-words.js';

export function studioServices(): Services {
  return {
    version,
    explain: (folder) => explainRun(new Run(folder)),
    describeRecipe,
    stepsOf,
    describeMetric,
    symptom: meaningOf,
    holderOf: (folder) => {
      const found = holderOfFolder(folder);
      return found && { pid: found.holder.pid, host: found.holder.host, here: found.here };
    },
    stop: askToStop,
    goBack: (folder, step, name) => {
      goBack(folder, step, name);
    },
    hashPicture: async (file) => pictureHash(await readPicture(file)),
    describeAdapter: (file) =>
      scope(() => {
        const parts = readLora(file).map(({ part }) => (part === 'unet' ? part : 'textEncoder'));
        return { parts: [...new Set(parts)].sort().reverse() };
      }),
    exportAdapters: (adapters, output) => {
      const files = adapters.map(({ path, unet, textEncoder }) => ({ path, strength: unet, textEncoder }));
      const { rank, layers } = fuseAdapters(files, output);
      return { rank, layers };
    },
    startWorker,
  };
}

/** The drawing process: from sources or compiled, as this one. */
function startWorker(): Worker {
  const own = fileURLToPath(import.meta.url);
  const script = own.replace(/services\.([jt]s)$/, 'draw-process.$1');
  const execArgv = script.endsWith('.ts')
    ? ['--conditions=rldf-source', '--import', import.meta.resolve('tsx')]
    : [];
  const child = fork(script, [], { execArgv, stdio: ['ignore', 'ignore', 'pipe', 'ipc'] });
  let last = '';
  child.stderr?.on('data', (chunk) => {
    last = `${last}${chunk}`.slice(-2000);
  });
  return {
    send: (request) => {
      child.send(request);
    },
    listen(answer, ended) {
      child.on('message', (message) => answer(message as WorkerAnswer));
      child.once('error', (error) => ended(error.message));
      child.once('exit', (code, signal) =>
        ended(last.trim().split('\n').at(-1) || `${signal ?? `exit code ${code}`}`),
      );
    },
    end() {
      child.removeAllListeners('exit');
      child.kill('SIGKILL'); // it has nothing to save; files are renamed when they are whole
    },
  };
}
