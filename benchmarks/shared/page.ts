// docs/performance.md: each benchmark writes its own section, between <!-- NAME --> and <!-- /NAME -->.
import { spawnSync } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { cpus } from 'node:os';
import { fileURLToPath } from 'node:url';
import { type Device, torchVersion, UserError } from '@rldf/torch';
import type { Row } from './rows.js';

export const pageFile = fileURLToPath(new URL('../../docs/performance.md', import.meta.url));

/** Where and when the numbers were taken. */
export function provenance(threads: number, device: Device = 'cpu'): string {
  const [processor] = cpus();
  const date = new Date().toISOString().slice(0, 10);
  const gpu = device === 'cpu' ? '' : `${gpuName()}; `;
  return `${gpu}${processor?.model.trim() ?? 'unknown processor'}, ${cpus().length} logical CPUs, ${threads} threads; Node ${process.versions.node}, libtorch ${torchVersion()}; ${date}.`;
}

/** Name, driver and memory of the first GPU. */
function gpuName(): string {
  const query = ['--query-gpu=name,driver_version,memory.total', '--format=csv,noheader'];
  const { status, stdout } = spawnSync('nvidia-smi', query, { encoding: 'utf8' });
  return status === 0 ? (stdout.split('\n')[0] as string) : 'unknown GPU';
}

/** @throws UserError when the page has no such section */
export function writeSection(name: string, text: string, file = pageFile): void {
  const page = readFileSync(file, 'utf8');
  const [begin, end] = [`<!-- ${name} -->`, `<!-- /${name} -->`];
  const [from, to] = [page.indexOf(begin), page.indexOf(end)];
  if (from < 0 || to < from)
    throw new UserError(
      `${file}: there is no section ${begin} ... ${end} — add both lines where it shall stand.`,
    );
  writeFileSync(file, `${page.slice(0, from + begin.length)}\n${text.trim()}\n${page.slice(to)}`);
}

export function markdownTable(head: readonly string[], lines: readonly (readonly string[])[]): string {
  return [head, head.map(() => '---'), ...lines].map((cells) => `| ${cells.join(' | ')} |`).join('\n');
}

/** Rows as a table of a page. */
export function rowsTable(rows: readonly Row[]): string {
  const digits = (value: number | null) => (value === null ? '-' : value.toPrecision(3));
  const lines = rows.map((row) => [
    row.case,
    digits(row.ours),
    digits(row.peer),
    row.unit,
    row.ratio === null ? (row.skipped ?? '-') : row.ratio.toFixed(2),
    row.ci95 === undefined ? '' : row.ci95.map((limit) => limit.toFixed(2)).join(' to '),
    row.difference === undefined ? '' : row.difference.toExponential(1),
    row.peerName,
  ]);
  return markdownTable(['case', 'ours', 'peer', 'unit', 'ratio', '95 %', 'difference', 'peer'], lines);
}
