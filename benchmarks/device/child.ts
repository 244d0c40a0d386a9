// One check in a process of its own: CHECK DEVICE SMOKE; its rows go to file descriptor 3, one line of JSON each.
import { writeSync } from 'node:fs';
import type { Device } from '@rldf/torch';
import { pictures, speed } from './drawing.js';
import { gradients, method, resumed } from './learning.js';
import type { CheckOptions, Found } from './row.js';
import { scores } from './scoring.js';
import { quickstart } from './training.js';

const checks: Record<string, (options: CheckOptions, name: string) => Found> = {
  pictures,
  speed,
  scores,
  gradients,
  resumed,
  quickstart,
  methods: (options, name) => method(name, options),
};

const [check = '', device = 'cpu', smoke] = process.argv.slice(2);
const [kind = '', name = ''] = check.split(':');
const found = checks[kind];
if (found === undefined) throw new Error(`there is no check "${kind}"`);
for await (const row of found({ device: device as Device, smoke: smoke === 'true' }, name)) {
  writeSync(3, `${JSON.stringify(row)}\n`);
}
