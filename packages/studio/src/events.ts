/** Server-sent events: what is new in a run and in the list. Files are looked at; nobody has to tell the server. */

import { join } from 'node:path';
import type { Context } from 'hono';
import { streamSSE } from 'hono/streaming';
import type { MetricsRow, RunRow } from './api.js';
import type { Catalogue } from './catalogue.js';
import type { Drawing } from './drawing.js';
import { markAt, parseRow, wholeLines } from './lines.js';
import type { PictureLines } from './pictures.js';
import { Problem } from './problem.js';

const mostRows = 500;
/** A comment keeps proxies and sleeping browsers from ending the connection. */
const signOfLifeMs = 15_000;

type Stream = Parameters<Parameters<typeof streamSSE>[1]>[0];

/** Looks again and again until the browser has gone. @param look returns false to end */
function watch(context: Context, everyMs: number, look: (stream: Stream) => Promise<boolean | undefined>) {
  return streamSSE(context, async (stream) => {
    let open = true;
    let wake = () => {};
    stream.onAbort(() => {
      open = false;
      wake();
    });
    let spoken = Date.now();
    const speaking = new Proxy(stream, {
      get(target, key) {
        if (key === 'writeSSE') spoken = Date.now();
        const value = Reflect.get(target, key);
        return typeof value === 'function' ? value.bind(target) : value;
      },
    });
    await stream.write('retry: 1000\n\n');
    while (open && !stream.closed) {
      if ((await look(speaking)) === false) return;
      if (Date.now() - spoken > signOfLifeMs) {
        await stream.write(': here\n\n');
        spoken = Date.now();
      }
      await new Promise<void>((resolve) => {
        wake = resolve;
        setTimeout(resolve, everyMs).unref();
      });
    }
  });
}

/** The list has changed. */
export function listEvents(context: Context, catalogue: Catalogue, everyMs: number) {
  let version = context.req.header('last-event-id') ?? context.req.query('version') ?? '';
  return watch(context, Math.max(everyMs, 1000), async (stream) => {
    const list = await catalogue.list();
    if (list.version === version) return;
    version = list.version;
    await stream.writeSSE({ event: 'changed', id: version, data: JSON.stringify({ version }) });
    return;
  });
}

/**
 * New rows of a run's metrics from a byte offset on. Ids are OFFSET-MARK, where the mark tells whether what stood before the
 * offset still stands there; a plain offset is believed as far as a line ends there.
 */
export function runEvents(
  context: Context,
  catalogue: Catalogue,
  id: string,
  lines: PictureLines,
  everyMs: number,
) {
  const asked = context.req.header('last-event-id') ?? context.req.query('offset') ?? '0';
  const [, digits = '0', mark] = /^(\d{1,15})(?:-(.*))?$/.exec(asked) ?? [];
  let offset = Number(digits);
  let known: string | undefined = mark;
  let shown = '';
  let missing = false;
  let pictures = -1;
  return watch(context, everyMs, async (stream) => {
    const row = await catalogue.row(id).catch((error) => {
      if (error instanceof Problem && (error.status === 410 || error.status === 404)) return undefined;
      throw error;
    });
    if (row === undefined) {
      if (!missing) await stream.writeSSE({ event: 'gone', data: JSON.stringify({ id }) });
      missing = true;
      shown = '';
      return;
    }
    missing = false;
    const now = JSON.stringify(comparable(row));
    if (now !== shown) {
      shown = now;
      await stream.writeSSE({ event: 'run', data: JSON.stringify(row) });
    }
    const send = async (rows: MetricsRow[], end: number, check: string) => {
      offset = end;
      known = check;
      await stream.writeSSE({
        event: 'rows',
        id: `${end}-${check}`,
        data: JSON.stringify({ rows, offset: end }),
      });
    };
    await newRows(catalogue, id, offset, known, send, async () => {
      offset = (await catalogue.columns(id)).offset; // the page asks for all metrics anew; rows go on behind them
      known = undefined;
      await stream.writeSSE({ event: 'reset', id: String(offset), data: JSON.stringify({ offset }) });
    });
    await lines.refresh();
    if (pictures >= 0 && lines.lines.length > pictures) {
      const { kind, step } = lines.lines.at(-1) as (typeof lines.lines)[number];
      await stream.writeSSE({ event: 'pictures', data: JSON.stringify({ kind, step }) });
    }
    pictures = lines.lines.length;
    return;
  });
}

/** What of a row makes it worth sending again: the rows themselves come as such. */
function comparable({ state, alarm, problem, etaSeconds, rewardBest, unit }: RunRow) {
  return {
    state,
    alarm,
    problem,
    unit,
    rewardBest,
    etaSeconds: etaSeconds === null ? null : Math.round(etaSeconds),
  };
}

async function newRows(
  { folder }: Catalogue,
  id: string,
  offset: number,
  mark: string | undefined,
  send: (rows: MetricsRow[], end: number, mark: string) => Promise<void>,
  reset: () => Promise<void>,
): Promise<void> {
  const opened = await folder.open(join(folder.pathOfId(id), 'metrics.jsonl')).catch(() => undefined);
  if (opened === undefined) {
    if (offset > 0) await reset();
    return;
  }
  const { handle, info } = opened;
  try {
    if (offset > 0) {
      const found = info.size < offset ? '' : await markAt(handle, offset);
      if (found === '' || (mark !== undefined && mark !== found)) {
        await reset();
        return;
      }
    }
    if (info.size <= offset) return;
    for await (const { lines, ends } of wholeLines(handle, offset)) {
      let rows: MetricsRow[] = [];
      for (const [i, line] of lines.entries()) {
        const row = parseRow(line);
        if (row !== undefined) rows.push(row);
        if (rows.length < mostRows && i + 1 < lines.length) continue;
        const end = ends[i] as number;
        await send(rows, end, await markAt(handle, end));
        rows = [];
      }
    }
  } finally {
    await handle.close();
  }
}

/** What a drawing job says. */
export function jobEvents(context: Context, drawing: Drawing, id: string) {
  const queue: { event: string; data: string; last: boolean }[] = [];
  let wake = () => {};
  const stop = drawing.listen(id, ({ kind, data }, last) => {
    queue.push({ event: kind, data: JSON.stringify(data), last });
    wake();
  });
  return streamSSE(context, async (stream) => {
    let open = true;
    stream.onAbort(() => {
      open = false;
      wake();
    });
    try {
      while (open) {
        const next = queue.shift();
        if (next === undefined) {
          await new Promise<void>((resolve) => {
            wake = resolve;
            if (queue.length > 0 || !open) resolve();
          });
          continue;
        }
        await stream.writeSSE({ event: next.event, data: next.data });
        if (next.event === 'done' || next.event === 'failed') return;
      }
    } finally {
      stop();
    }
  });
}
