/** Ends, or does not, in each of the ways that the guard knows; this file plays a module of the user's. */

import { fileURLToPath } from 'node:url';
import { beginRun, noteCheckpoint } from '@rldf/common/base/underway';
import { noteUserModule } from '../base/user-modules.js';
import { exitCodeOf } from './exit-code.js';
import { guarded } from './guard.js';
import { print } from './output.js';

const forever = new Promise<number>(() => {});
const whileAlive = () => {
  setInterval(() => {}, 1000);
  return forever;
};
const ways: Record<string, () => Promise<number>> = {
  done: async () => {
    setInterval(() => {}, 1000);
    console.log('said');
    process.stdout.write('raw\n');
    print('{"result":1}\n');
    return 0;
  },
  dry: () => forever,
  exit: async () => process.exit(0),
  rejection: () => {
    void Promise.reject(new Error('late'));
    return whileAlive();
  },
  reason: () => {
    void Promise.reject('a text');
    return whileAlive();
  },
  timer: () => {
    setTimeout(() => {
      throw new RangeError('later');
    });
    return whileAlive();
  },
};
const [way = '', owner] = process.argv.slice(2);
if (owner === 'user') await noteUserModule(fileURLToPath(import.meta.url));
if (owner === 'user') beginRun({ name: 'first', folder: 'runs/first' });
if (owner === 'user') noteCheckpoint({ step: 3, path: 'runs/first/checkpoints/step-3' });
await guarded(ways[way]!, exitCodeOf);
