/** The server of `rldf studio`: routes, and nothing else. What they answer stands in api.ts. */

import { createReadStream } from 'node:fs';
import { mkdir, readFile } from 'node:fs/promises';
import type { AddressInfo } from 'node:net';
import { extname, join } from 'node:path';
import { Readable } from 'node:stream';
import { fileURLToPath } from 'node:url';
import { type ServerType, serve } from '@hono/node-server';
import { type Context, Hono } from 'hono';
import { bodyLimit } from 'hono/body-limit';
import type {
  AdaptersAnswer,
  ApiError,
  BackAnswer,
  BackRequest,
  DrawRequest,
  ExportAnswer,
  ExportRequest,
  PictureKind,
  RatingRequest,
  StudioInfo,
} from './api.js';
import { Catalogue, checkpointSteps } from './catalogue.js';
import { compare } from './compare.js';
import { adaptersOf, detailOf } from './detail.js';
import { Drawing } from './drawing.js';
import { jobEvents, listEvents, runEvents } from './events.js';
import { factsOf, RunsFolder } from './folder.js';
import { histogramOf, PictureLines, picturesOf, promptsOf, quoted } from './pictures.js';
import { badRequest, conflict, notFound, Problem } from './problem.js';
import { RatingSets } from './ratings.js';
import { gate, secure } from './security.js';
import type { Services } from './services.js';

export interface StudioOptions {
  /** Folder of all runs; made if missing. */
  runs: string;
  services: Services;
  /** Folders with tables of `rldf reproduce` besides those in the runs folder. */
  results?: readonly string[];
  /** 0: a free one. */
  port?: number;
  /** Between two looks at a run that a page watches. */
  everyMs?: number;
  /** Of the built page; default: the package's. */
  app?: string;
}

export interface Studio {
  /** With the token: what is opened. */
  address: string;
  port: number;
  token: string;
  close(): Promise<void>;
}

const types: Record<string, string> = {
  '.css': 'text/css; charset=utf-8',
  '.html': 'text/html; charset=utf-8',
  '.js': 'text/javascript; charset=utf-8',
  '.json': 'application/json; charset=utf-8',
  '.jsonl': 'text/plain; charset=utf-8',
  '.png': 'image/png',
  '.svg': 'image/svg+xml',
  '.woff2': 'font/woff2',
  '.yaml': 'text/plain; charset=utf-8',
};
const mostBodyBytes = 1 << 20;
/** Runs whose picture lines are kept in memory. */
const mostLines = 12;

/** Starts a server on 127.0.0.1. @throws the system's error when the port is taken */
export async function startStudio(options: StudioOptions): Promise<Studio> {
  const { services, port = 0, everyMs = 500 } = options;
  const folder = new RunsFolder(options.runs);
  const token = folder.token();
  const catalogue = new Catalogue(folder, services, options.results);
  const drawing = new Drawing(catalogue);
  const ratings = new RatingSets(folder, services.hashPicture);
  const lines = new Map<string, PictureLines>();
  let listening = 0;

  const app = new Hono();
  app.onError((error, context) => {
    secure(context);
    const problem = error instanceof Problem ? error : undefined;
    const isTheirs = problem !== undefined || error.name === 'UserError';
    const body: ApiError = {
      error: { code: problem?.code ?? (isTheirs ? 'conflict' : 'internal'), message: error.message },
    };
    if (!isTheirs)
      process.stderr.write(`studio: ${context.req.method} ${context.req.path}: ${error.stack}\n`);
    return context.json(body, problem?.status ?? (isTheirs ? 409 : 500));
  });
  app.notFound((context) => {
    secure(context);
    return context.json({ error: { code: 'not-found', message: `${context.req.path}: no such page` } }, 404);
  });
  app.use('*', gate({ token, port: () => listening }));
  const tooLarge = () => {
    throw new Problem(413, 'bad-request', `body: at most ${mostBodyBytes} bytes`);
  };
  app.use('*', bodyLimit({ maxSize: mostBodyBytes, onError: tooLarge }));

  const linesOf = async (id: string): Promise<PictureLines> => {
    const path = await catalogue.pathOf(id);
    const found = lines.get(id) ?? new PictureLines(folder, path);
    lines.delete(id);
    lines.set(id, found);
    for (const oldest of lines.keys()) if (lines.size > mostLines) lines.delete(oldest);
    return found;
  };
  const pictureSource = async (id: string) => {
    const own = await linesOf(id);
    await own.refresh();
    const path = await catalogue.pathOf(id);
    return { folder, path, named: folder.shown(path), recipe: await catalogue.recipe(id), lines: own };
  };

  app.get('/api/studio', (context) => {
    const info: StudioInfo = {
      version: services.version,
      runsFolder: folder.given,
      canDraw: drawing.possible,
    };
    return context.json(info);
  });
  app.get('/api/runs', async (context) => context.json(await catalogue.list()));
  app.get('/api/events', (context) => listEvents(context, catalogue, everyMs));
  app.get('/api/compare', async (context) => {
    const ids = listIn(context, 'runs');
    if (ids.length < 1 || ids.length > 50)
      throw badRequest('runs: expected 1 to 50 ids, separated by commas');
    return context.json(
      await compare(catalogue, ids, listIn(context, 'names'), wholeIn(context, 'points', 500, 1, 20_000)),
    );
  });

  app.get('/api/runs/:id', async (context) => {
    const id = context.req.param('id');
    return context.json(await detailOf(catalogue, id, await linesOf(id)));
  });
  app.get('/api/runs/:id/metrics', async (context) => {
    const names = listIn(context, 'names');
    const points = wholeIn(context, 'points', 1000, 1, 20_000);
    const columns = await catalogue.columns(context.req.param('id'));
    return context.json(
      columns.answer(names.length > 0 ? names : undefined, points, wholeIn(context, 'from', 0, 0, 2 ** 40)),
    );
  });
  app.get('/api/runs/:id/events', async (context) => {
    const id = context.req.param('id');
    return runEvents(context, catalogue, id, await linesOf(id), everyMs);
  });
  app.get('/api/runs/:id/prompts', async (context) =>
    context.json(promptsOf((await pictureSource(context.req.param('id'))).lines.lines)),
  );
  app.get('/api/runs/:id/histogram', async (context) => {
    const source = await pictureSource(context.req.param('id'));
    return context.json(histogramOf(source.lines.lines, kindIn(context)));
  });
  app.get('/api/runs/:id/pictures', async (context) => {
    const asked =
      context.req.query('step') === undefined ? undefined : wholeIn(context, 'step', 0, 0, 2 ** 40);
    const offset = wholeIn(context, 'offset', 0, 0, 2 ** 40);
    const source = await pictureSource(context.req.param('id'));
    return context.json(
      await picturesOf(source, kindIn(context), asked, offset, wholeIn(context, 'limit', 64, 1, 256)),
    );
  });
  app.get('/api/runs/:id/explain', async (context) => {
    const path = await catalogue.pathOf(context.req.param('id'));
    return context.json(services.explain(path));
  });
  app.post('/api/runs/:id/stop', async (context) => {
    const path = await catalogue.pathOf(context.req.param('id'));
    await bodyOf(context);
    return context.json({ pid: services.stop(path) });
  });
  app.post('/api/runs/:id/back', async (context) => {
    const { step, name } = await bodyOf<BackRequest>(context);
    return context.json(await goBack(catalogue, context.req.param('id'), step, name));
  });

  app.post('/api/draw', async (context) =>
    context.json(await drawing.draw(await bodyOf<DrawRequest>(context))),
  );
  app.get('/api/jobs/:id/events', (context) => jobEvents(context, drawing, context.req.param('id')));
  app.delete('/api/jobs/:id', (context) => {
    drawing.cancel(context.req.param('id'));
    return context.json({});
  });
  app.post('/api/export', async (context) =>
    context.json(await exportPoint(catalogue, drawing, await bodyOf<ExportRequest>(context))),
  );
  app.get('/api/adapters', async (context) => context.json(await allAdapters(catalogue)));
  app.get('/api/searches/:id', async (context) =>
    context.json(await catalogue.searches.detail(context.req.param('id'))),
  );
  app.get('/api/tables/:id', async (context) => {
    await catalogue.list(); // finds tables that are new
    return context.json(await catalogue.tables.detail(context.req.param('id')));
  });

  /** All kept pictures of a run and kind, of all steps. */
  const rated = async (run: string, kind: PictureKind) => {
    const source = await pictureSource(run);
    const set = `${run}-${kind}`;
    const steps = kind === 'test' ? [0] : source.lines.steps(kind);
    const pictures = await Promise.all(steps.slice(-60).map((step) => picturesOf(source, kind, step, 0, 64)));
    return ratings.session(
      set,
      pictures.flatMap((one) => one.pictures),
    );
  };
  app.get('/api/ratings', async (context) =>
    context.json(await rated(context.req.query('run') ?? '', kindIn(context))),
  );
  app.post('/api/ratings', async (context) => {
    const request = await bodyOf<RatingRequest>(context);
    const [, run, kind] = /^(.+)-(rollout|validation|test)$/.exec(String(request.set)) ?? [];
    if (run === undefined) throw badRequest('set: expected RUN-KIND');
    if (!ratings.knows(request.set)) await rated(run, kind as PictureKind); // the server was started anew
    return context.json(await ratings.answer(request));
  });

  app.get('/api/files/:id', (context) => sendFile(context, folder));
  app.get('/api/*', () => {
    throw notFound('no such route');
  });
  const page = options.app ?? fileURLToPath(new URL('../dist/app/', import.meta.url));
  app.get('*', (context) => sendPage(context, page));

  const server = await new Promise<ServerType>((resolve, reject) => {
    const started = serve({ fetch: app.fetch, hostname: '127.0.0.1', port }, () => resolve(started));
    started.once('error', reject);
  });
  listening = (server.address() as AddressInfo).port;
  return {
    address: `http://127.0.0.1:${listening}/?token=${token}`,
    port: listening,
    token,
    close: () =>
      new Promise<void>((resolve) => {
        drawing.end();
        server.close(() => resolve());
        if ('closeAllConnections' in server) server.closeAllConnections(); // event streams never end by themselves
      }),
  };
}

async function goBack(catalogue: Catalogue, id: string, step: unknown, asked: unknown): Promise<BackAnswer> {
  const { folder, services } = catalogue;
  const path = await catalogue.pathOf(id);
  const kept = await checkpointSteps(path);
  if (typeof step !== 'number' || !kept.includes(step))
    throw badRequest(`step ${step}: has no checkpoint — there are ${kept.join(', ') || 'none'}`);
  const own = path.split(/[/\\]/).at(-1) as string;
  const parent = join(path, '..');
  const taken = async (name: string) => (await factsOf(join(parent, name))) !== undefined;
  let name: string;
  if (asked === undefined) {
    name = `${own}-back-${step}`;
    for (let number = 2; await taken(name); number++) name = `${own}-back-${step}-${number}`;
  } else {
    if (typeof asked !== 'string' || !/^[A-Za-z0-9][A-Za-z0-9._-]{0,199}$/.test(asked))
      throw badRequest('name: only letters, digits, ".", "_" and "-", beginning with a letter or digit');
    if (await taken(asked)) throw conflict(`${asked}: there is already a run of this name — choose another`);
    name = asked;
  }
  services.goBack(path, step, name);
  catalogue.changed();
  const made = join(parent, name);
  return { run: folder.idOf(made), name, command: `rldf resume ${quoted(folder.shown(made))}` };
}

async function exportPoint(
  catalogue: Catalogue,
  drawing: Drawing,
  request: ExportRequest,
): Promise<ExportAnswer> {
  const { folder, services } = catalogue;
  const adapters = await drawing.adapters(request.adapters);
  if (adapters.length === 0)
    throw badRequest('adapters: nothing to export — the model alone is what there was before');
  if (typeof request.name !== 'string' || !/^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$/.test(request.name))
    throw badRequest('name: only letters, digits, ".", "_" and "-", beginning with a letter or digit');
  const recipe = await catalogue.recipe(request.run);
  const output = join(folder.path, 'exports', `${request.name}.safetensors`);
  if ((await factsOf(output)) !== undefined)
    throw conflict(`${request.name}: there is already an export of this name — choose another`);
  await mkdir(join(folder.path, 'exports'), { recursive: true });
  const { rank, layers } = services.exportAdapters(adapters, output);
  const facts = await factsOf(output);
  const path = folder.shown(output);
  const model = typeof recipe.value.model === 'string' ? recipe.value.model : 'emoji';
  return {
    file: folder.idOfFile(output),
    path,
    bytes: facts?.size ?? 0,
    rank,
    layers,
    command: `rldf generate "a cat" --model ${quoted(model)} --adapter ${quoted(path)}`,
  };
}

async function allAdapters(catalogue: Catalogue): Promise<AdaptersAnswer> {
  const { folder, services } = catalogue;
  const found: (AdaptersAnswer['adapters'][number] & { changed: number })[] = [];
  for (const row of (await catalogue.list()).runs) {
    const path = await catalogue.pathOf(row.id).catch(() => undefined);
    if (path === undefined) continue;
    for (const { name, file, bytes, parts } of await adaptersOf(catalogue, path))
      found.push({
        file,
        label: `${row.name}: ${name}`,
        run: row.id,
        model: row.model,
        parts,
        bytes,
        changed: row.changedAt,
      });
  }
  const { readdir } = await import('node:fs/promises');
  for (const name of await readdir(join(folder.path, 'exports')).catch(() => [])) {
    if (!name.endsWith('.safetensors')) continue;
    const path = join(folder.path, 'exports', name);
    const facts = await factsOf(path);
    try {
      const { parts } = services.describeAdapter(await folder.inside(path));
      found.push({
        file: folder.idOfFile(path),
        label: `export: ${name}`,
        run: null,
        model: null,
        parts,
        bytes: facts?.size ?? 0,
        changed: facts?.changed ?? 0,
      });
    } catch {
      // half-written, or no adapter
    }
  }
  found.sort((a, b) => b.changed - a.changed);
  return { adapters: found.map(({ changed: _changed, ...rest }) => rest) };
}

/** A file of the runs folder, by the id that this server gave it. */
async function sendFile(context: Context, folder: RunsFolder): Promise<Response> {
  const path = folder.pathOfFile(context.req.param('id') ?? '');
  const { handle, info } = await folder.open(path);
  const tag = `"${info.ino}-${info.size}-${Math.round(info.mtimeMs)}"`;
  context.header('cache-control', 'private, no-cache'); // asked again each time, answered with 304
  context.header('etag', tag);
  if (context.req.header('if-none-match') === tag) {
    await handle.close();
    return context.body(null, 304);
  }
  const ending = extname(path);
  context.header('content-type', types[ending] ?? 'application/octet-stream');
  context.header('content-length', String(info.size));
  // what a run's folder holds is not ours: an SVG or a page from it runs no script, whoever opens it
  context.header('content-security-policy', "default-src 'none'; style-src 'unsafe-inline'; sandbox");
  if (types[ending] === undefined)
    context.header(
      'content-disposition',
      `attachment; filename="${path.split(/[/\\]/).at(-1)?.replaceAll('"', '')}"`,
    );
  const stream = createReadStream('', {
    fd: handle,
    autoClose: true,
    ...(info.size > 0 ? { end: info.size - 1 } : {}),
  });
  return context.body(Readable.toWeb(stream) as ReadableStream);
}

/** The built page. Names with a hash in them never change. */
async function sendPage(context: Context, app: string): Promise<Response> {
  const asked = context.req.path === '/' ? '/index.html' : context.req.path;
  if (!/^(\/[A-Za-z0-9_-][A-Za-z0-9._-]*)+$/.test(asked))
    throw notFound(`${asked.slice(0, 80)}: no such page`);
  const data = await readFile(join(app, asked)).catch(() => undefined);
  if (data === undefined) {
    if (asked === '/index.html')
      throw new Problem(503, 'unavailable', 'the page is not built — `npm run build` does it');
    throw notFound(`${asked.slice(0, 80)}: no such page`);
  }
  context.header('content-type', types[extname(asked)] ?? 'application/octet-stream');
  if (asked.startsWith('/assets/')) context.header('cache-control', 'private, max-age=31536000, immutable');
  return context.body(new Uint8Array(data));
}

const listIn = (context: Context, name: string) =>
  (context.req.query(name) ?? '').split(',').filter((one) => one !== '');

function wholeIn(context: Context, name: string, fallback: number, least: number, most: number): number {
  const text = context.req.query(name);
  if (text === undefined) return fallback;
  const value = Number(text);
  if (text === '' || !Number.isInteger(value) || value < least || value > most)
    throw badRequest(`${name} ${text.slice(0, 40)}: expected a whole number from ${least} to ${most}`);
  return value;
}

function kindIn(context: Context): PictureKind {
  const kind = context.req.query('kind') ?? 'rollout';
  if (kind === 'rollout' || kind === 'validation' || kind === 'test') return kind;
  throw badRequest('kind: expected rollout, validation or test');
}

async function bodyOf<T>(context: Context): Promise<T> {
  try {
    const body: unknown = await context.req.json();
    if (body !== null && typeof body === 'object' && !Array.isArray(body)) return body as T;
  } catch (error) {
    if (error instanceof Problem) throw error;
  }
  throw badRequest('body: expected a JSON object');
}
