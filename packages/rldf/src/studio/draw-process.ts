/** Run as a process of its own by services.ts. Ends with the server that started it. */

import type { WorkerAnswer, WorkerRequest } from '@rldf/studio';
import { Drawer } from './draw-worker.js';

const drawer = new Drawer();
const say = (answer: WorkerAnswer) => {
  if (process.connected) process.send?.(answer);
};
let turn: Promise<void> = Promise.resolve();
process.on('message', (request: WorkerRequest) => {
  turn = turn.then(async () => {
    try {
      await drawer.draw(request, say);
    } catch (error) {
      drawer.free(); // whatever state it is in
      say({ id: request.id, kind: 'failed', message: (error as Error).message });
    }
  });
});
process.on('disconnect', () => process.exit(0));
process.on('SIGINT', () => {}); // Ctrl-C on the terminal is the server's, which then disconnects
