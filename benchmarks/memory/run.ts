// Trains by a recipe (JSON) and prints the most bytes that libtorch's tensors and the process held. A process of its own:
// run by memory.ts, so that one case does not see what another left.
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { peakBytes, setThreads } from '@rldf/torch';
import { train } from 'rldf';

const resident: Record<string, number> = { start: process.memoryUsage().rss };
setThreads(1);
const root = mkdtempSync(join(tmpdir(), 'rldf-memory-'));
const began = performance.now();
for await (const event of train(JSON.parse(process.argv[2] as string), { name: 'run', root })) {
  if (event.kind === 'interrupted') throw new Error('interrupted');
}
const seconds = (performance.now() - began) / 1000;
rmSync(root, { recursive: true, force: true });
const most = process.resourceUsage().maxRSS * 1024;
process.stdout.write(
  `\n${JSON.stringify({ peak: peakBytes(), resident: most, start: resident.start, seconds })}\n`,
);
