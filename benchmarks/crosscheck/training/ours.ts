// Our side of one training, as a process of its own: planted.ts runs it in a copy of the sources with a fault.
// Usage: ours.ts CASE MODEL FOLDER -> FOLDER/ours.json, FOLDER/ours.safetensors
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { writeSafetensors } from '@rldf/torch';
import type { Context } from '../checks.js';
import { allCases } from './cases.js';

const [name = '', model = '', folder = ''] = process.argv.slice(2);
const context = { folder, model, say: () => {} } as unknown as Context; // no other side
const made = await allCases[name]!(context);
const { weights, ...rest } = await made.train();
writeSafetensors(join(folder, 'ours.safetensors'), weights);
writeFileSync(join(folder, 'ours.json'), JSON.stringify(rest));
