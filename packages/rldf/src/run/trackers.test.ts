import { mkdtempSync, readFileSync } from 'node:fs';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { limitsOfTests } from '@rldf/common/base/limits.fixture';
import { afterEach, expect, test, vi } from 'vitest';
import { createRun, type Run } from './run.js';
import { checkTrackers, openTrackers } from './trackers.js';

const root = mkdtempSync(join(tmpdir(), 'rldf-trackers-'));
limitsOfTests(); // none runs out
let runs = 0;
const newRun = () => createRun({ root, name: `run-${runs++}`, recipe: { method: 'toy', seed: 3 } });
afterEach(() => vi.unstubAllEnvs());

const linesOf = (run: Run, ...path: string[]) =>
  readFileSync(join(run.folder, ...path), 'utf8')
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line));

test('W&B offline: history, summary and config in its names, cut back where a run is resumed', async () => {
  vi.stubEnv('WANDB_MODE', 'offline');
  await checkTrackers(['wandb']);
  const run = newRun();
  const first = await openTrackers(['wandb'], run, -1);
  first.write(1, { 'reward/mean': 0.5 });
  first.write(2, { 'reward/mean': Number.NaN, text: 'x' });
  await first.close();
  const second = await openTrackers(['wandb'], run, 1);
  second.write(2, { 'reward/mean': 0.75 });
  await second.close();
  expect(linesOf(run, 'wandb', 'wandb-history.jsonl')).toEqual([
    { 'reward/mean': 0.5, _step: 1, _timestamp: expect.any(Number) },
    { 'reward/mean': 0.75, _step: 2, _timestamp: expect.any(Number) },
  ]);
  const json = (name: string) => JSON.parse(readFileSync(join(run.folder, 'wandb', name), 'utf8'));
  expect(json('config.json')).toEqual({ method: 'toy', seed: 3 });
  expect(json('wandb-summary.json')).toMatchObject({ 'reward/mean': 0.75, _step: 2 });
  expect([...first.notices, ...second.notices]).toEqual([]);
});

test('W&B without its key or its package is refused before anything is trained', async () => {
  vi.stubEnv('WANDB_MODE', '');
  vi.stubEnv('WANDB_API_KEY', '');
  await expect(checkTrackers(['wandb'])).rejects.toThrow('WANDB_API_KEY is not set');
  vi.stubEnv('WANDB_API_KEY', 'a key');
  await expect(checkTrackers(['wandb'])).rejects.toThrow('npm install @wandb/sdk');
  await checkTrackers(['tensorboard', 'trackio']);
});

test('trackio: lines in the folder, and the same to a server, with its token', async () => {
  const asked: { path: string; token: string; body: Record<string, unknown> }[] = [];
  const server = createServer({ keepAliveTimeout: 0 }, (request, response) => {
    let text = '';
    request.on('data', (chunk) => {
      text += chunk;
    });
    request.on('end', () => {
      asked.push({
        path: `${request.url}`,
        token: `${request.headers['x-trackio-write-token']}`,
        body: JSON.parse(text),
      });
      response.end('{}');
    });
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  vi.stubEnv('TRACKIO_SERVER_URL', `http://127.0.0.1:${(server.address() as AddressInfo).port}/`);
  vi.stubEnv('TRACKIO_WRITE_TOKEN', 'secret');
  const run = newRun();
  const trackers = await openTrackers(['trackio'], run, -1);
  for (let step = 1; step <= 21; step++)
    trackers.write(step, { a: step === 2 ? Number.NaN : step, text: 'x' });
  await trackers.close();
  server.closeAllConnections();
  server.close();
  expect(asked.map(({ path, token, body }) => [path, token, (body.steps as number[]).length])).toEqual([
    ['/api/bulk_log', 'secret', 20],
    ['/api/bulk_log', 'secret', 1],
  ]);
  expect(asked[0]?.body).toMatchObject({ project: 'rldf', run: run.name });
  const [{ body }] = asked as [(typeof asked)[0]];
  expect((body.metrics_list as object[]).slice(0, 2)).toEqual([{ a: 1 }, {}]);
  const lines = linesOf(run, 'trackio.jsonl');
  expect(lines).toHaveLength(21);
  expect(lines[1]).toMatchObject({
    project: 'rldf',
    run: run.name,
    step: 2,
    metrics: { a: 'NaN', text: 'x' },
  });
  expect(trackers.notices).toEqual([]);
});

test('a server that is not there is told of once, and ends nothing', async () => {
  vi.stubEnv('TRACKIO_SERVER_URL', 'http://127.0.0.1:9'); // discard: nobody listens
  const run = newRun();
  const trackers = await openTrackers(['trackio'], run, -1);
  for (let step = 1; step <= 45; step++) trackers.write(step, { a: step });
  await trackers.close();
  expect(trackers.notices).toHaveLength(1);
  expect(trackers.notices[0]).toContain('log: trackio: ');
  expect(linesOf(run, 'trackio.jsonl')).toHaveLength(45);
});
