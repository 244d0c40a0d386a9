/** A hub on this machine, for tests: one repository, with the answers and faults of a real one. */

import { createHash } from 'node:crypto';
import { lstatSync, readdirSync, readFileSync } from 'node:fs';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { savePipeline, tinyPipeline } from '@rldf/models';

export interface HubServer {
  url: string;
  commit: string;
  /** Requests so far: method, path, range and authorization. */
  requests: { path: string; range: string | undefined; authorization: string | undefined }[];
  /** Called before each answer; true if it has answered itself. */
  fault: ((request: IncomingMessage, response: ServerResponse, path: string) => boolean) | undefined;
  files: Map<string, Buffer>;
  /** Large files are offered by the hub's own protocol, which does not work here. */
  xet: boolean;
  close(): Promise<void>;
}

/** Larger ones are kept as a hub keeps large files: by SHA-256, behind a link to another host. */
const large = 1000;

export async function hubServer(files: Map<string, Buffer>, repo = 'owner/name'): Promise<HubServer> {
  const commit = createHash('sha1')
    .update([...files.keys()].join())
    .digest('hex');
  const server: HubServer = {
    ...{ url: '', commit, requests: [], fault: undefined, files, xet: false },
    close: () => new Promise((done) => void [http.closeAllConnections(), http.close(() => done())]),
  };
  const http = createServer({ keepAliveTimeout: 0 }, (request, response) => {
    const path = decodeURIComponent((request.url ?? '').replace(/\?.*/, ''));
    const { range, authorization } = request.headers;
    server.requests.push({ path, range, authorization });
    if (server.fault?.(request, response, path)) return;
    const answer = (body: unknown) =>
      response.setHeader('Content-Type', 'application/json').end(JSON.stringify(body));
    if (path.startsWith(`/api/models/${repo}/revision/`)) {
      const revision = path.split('/revision/')[1]!;
      if (!['main', 'v1.0', commit].includes(revision)) return refuse(response, 404, 'RevisionNotFound');
      return answer({
        _id: '1',
        id: repo,
        sha: commit,
        gated: false,
        lastModified: '2026-01-01T00:00:00.000Z',
      });
    }
    if (path.startsWith(`/api/models/${repo}/tree/${commit}`)) {
      const all = [...server.files].map(([name, content]) => entry(name, content));
      const half = Math.ceil(all.length / 2); // pages, as large repositories have
      if (request.url!.includes('cursor=2')) return answer(all.slice(half));
      response.setHeader('Link', `<${server.url}${request.url}&cursor=2>; rel="next"`);
      return answer(all.slice(0, half));
    }
    const [, name] = new RegExp(`^/${repo}/resolve/[^/]+/(.+)$`).exec(path) ?? [];
    const content = name === undefined ? undefined : server.files.get(name);
    if (name !== undefined && content === undefined) return refuse(response, 404, 'EntryNotFound');
    if (content !== undefined) {
      const { lfs, oid } = entry(name!, content);
      response.setHeader('X-Repo-Commit', commit);
      response.setHeader('X-Linked-Size', content.length);
      response.setHeader('X-Linked-ETag', `"${lfs?.oid ?? oid}"`);
      if (!lfs) return send(request, response, content);
      if (server.xet && request.headers.accept?.includes('application/vnd.xet-fileinfo+json')) {
        const link = (rel: string) => `<${server.url}/xet/${rel}>; rel="${rel}"`;
        response
          .writeHead(200, {
            'Content-Type': 'application/vnd.xet-fileinfo+json',
            'X-Xet-Hash': lfs.oid,
            Link: `${link('xet-auth')}, ${link('xet-reconstruction-info')}`,
          })
          .end('{}');
        return;
      }
      const elsewhere = server.url.replace('127.0.0.1', 'localhost');
      return response.writeHead(302, { Location: `${elsewhere}/storage/${name}` }).end();
    }
    const stored = server.files.get(path.replace('/storage/', ''));
    if (stored !== undefined) {
      response.setHeader('ETag', `"${entry('', stored).oid}"`);
      return send(request, response, stored);
    }
    refuse(response, 401, 'RepoNotFound');
  });
  await new Promise<void>((done) => http.listen(0, '127.0.0.1', done));
  server.url = `http://127.0.0.1:${(http.address() as AddressInfo).port}`;
  return server;
}

export function refuse(response: ServerResponse, status: number, code?: string, headers: object = {}): void {
  response
    .writeHead(status, { ...(code && { 'X-Error-Code': code }), ...headers })
    .end(JSON.stringify({ error: code ?? status }));
}

/** As the tree of a repository lists a file. */
function entry(path: string, content: Buffer) {
  const oid = createHash('sha1').update(`blob ${content.length}\0`).update(content).digest('hex');
  const lfs = {
    oid: createHash('sha256').update(content).digest('hex'),
    size: content.length,
    pointerSize: 134,
  };
  return { type: 'file', path, size: content.length, oid, ...(content.length > large && { lfs }) };
}

/** The whole or a range. */
export function send(request: IncomingMessage, response: ServerResponse, content: Buffer): void {
  const [, from, to] = /^bytes=(\d+)-(\d*)$/.exec(request.headers.range ?? '') ?? [];
  if (from === undefined) {
    response.writeHead(200, { 'Content-Length': content.length }).end(content);
    return;
  }
  const end = Math.min(to ? Number(to) + 1 : content.length, content.length);
  response
    .writeHead(206, {
      'Content-Length': end - Number(from),
      'Content-Range': `bytes ${from}-${end - 1}/${content.length}`,
    })
    .end(content.subarray(Number(from), end));
}

/** A tiny model of the real classes, with what a repository holds beside it. */
export function tinyRepository(folder: string): Map<string, Buffer> {
  const pipeline = tinyPipeline(1);
  savePipeline(pipeline, folder);
  for (const parameters of Object.values(pipeline.parameters)) parameters.free();
  return new Map([
    ...readdirSync(folder, { recursive: true, encoding: 'utf8' })
      .filter((path) => lstatSync(join(folder, path)).isFile())
      .map((path) => [path.replaceAll('\\', '/'), readFileSync(join(folder, path))] as const),
    ['README.md', Buffer.from('---\nlicense: openrail++\n---\n')],
    ['unet/diffusion_pytorch_model.bin', Buffer.alloc(5000, 1)],
    ['unet/diffusion_flax_model.msgpack', Buffer.alloc(5000, 2)],
    ['safety_checker/model.safetensors', Buffer.alloc(5000, 3)],
    ['v1-5-pruned.safetensors', Buffer.alloc(5000, 4)],
  ]);
}
