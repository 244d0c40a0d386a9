// A studio on a folder of its own, with services that need no rldf: what rldf gives is tested there (packages/rldf/src/studio).

import { mkdirSync, mkdtempSync, realpathSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type Studio, type StudioOptions, startStudio } from './server.js';
import type { Services } from './services.js';

export const services: Services = {
  version: '0.0.0',
  explain: () => ({ curve: 'reward', outcome: 'rose', evidence: 'it did', findings: [] }),
  describeRecipe: () => [],
  stepsOf: (recipe) => (recipe as { epochs?: number }).epochs ?? null,
  describeMetric: (name) => ({ name, label: name, group: 'other', unit: '', explanation: '' }),
  symptom: (name, rose) => `${name} ${rose ? 'rose' : 'fell'}`,
  holderOf: () => undefined,
  stop: () => 0,
  goBack: () => {},
  hashPicture: async () => 'hash',
  describeAdapter: () => ({ parts: ['unet'] }),
  exportAdapters: () => ({ rank: 1, layers: { unet: 1, textEncoder: 0 } }),
};

export const newFolder = () => realpathSync(mkdtempSync(join(tmpdir(), 'rldf-studio-')));

export interface Asked extends Studio {
  runs: string;
  /** With the token. @param path from `/` on */
  ask(path: string, init?: RequestInit): Promise<Response>;
  json<T = unknown>(path: string, init?: RequestInit): Promise<T>;
  post<T = unknown>(path: string, body: unknown): Promise<{ status: number; body: T }>;
}

export async function openStudio(runs: string, options: Partial<StudioOptions> = {}): Promise<Asked> {
  const studio = await startStudio({ runs, services, everyMs: 20, ...options });
  const base = `http://127.0.0.1:${studio.port}`;
  const ask: Asked['ask'] = (path, init = {}) =>
    fetch(`${base}${path}`, {
      ...init,
      // a connection of its own: one that waits for the next request may be closed in the middle of it
      headers: { authorization: `Bearer ${studio.token}`, connection: 'close', ...init.headers },
    });
  return {
    ...studio,
    runs,
    ask,
    json: async <T>(path: string, init?: RequestInit) => (await (await ask(path, init)).json()) as T,
    async post<T>(path: string, body: unknown) {
      const headers = { 'content-type': 'application/json' };
      const response = await ask(path, { method: 'POST', headers, body: JSON.stringify(body) });
      return { status: response.status, body: (await response.json()) as T };
    },
  };
}

/** A run folder with these rows. */
export function writeRun(
  runs: string,
  name: string,
  rows: readonly object[],
  recipe = 'method: ddpo\nmodel: emoji\nseed: 1\nreward: jpeg-compressibility\nepochs: 10\n',
): string {
  const folder = join(runs, name);
  mkdirSync(join(folder, 'samples'), { recursive: true });
  writeFileSync(join(folder, 'recipe.yaml'), recipe);
  writeFileSync(join(folder, 'metrics.jsonl'), rows.map((row) => `${JSON.stringify(row)}\n`).join(''));
  return folder;
}

/** Server-sent events as they come. */
export async function* eventsOf(
  response: Response,
): AsyncGenerator<{ event: string; data: never; id: string }> {
  const decoder = new TextDecoder();
  let text = '';
  for await (const chunk of response.body as unknown as AsyncIterable<Uint8Array>) {
    text += decoder.decode(chunk, { stream: true });
    for (let end = text.indexOf('\n\n'); end >= 0; end = text.indexOf('\n\n')) {
      const fields = Object.fromEntries(
        text
          .slice(0, end)
          .split('\n')
          .map((line) => [line.slice(0, line.indexOf(':')), line.slice(line.indexOf(':') + 1).trim()]),
      );
      text = text.slice(end + 2);
      if (fields.data !== undefined)
        yield {
          event: fields.event ?? 'message',
          data: JSON.parse(fields.data) as never,
          id: fields.id ?? '',
        };
    }
  }
}
