import { chmodSync, existsSync, mkdirSync, statSync, symlinkSync, writeFileSync } from 'node:fs';
import { request } from 'node:http';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import type { PicturesAnswer, RunsAnswer } from './api.js';
import { RunsFolder } from './folder.js';
import { type Asked, newFolder, openStudio, writeRun } from './studio.fixture.js';

const outside = newFolder();
const runs = newFolder();
const app = newFolder();
let studio: Asked;
beforeAll(async () => {
  writeFileSync(join(outside, 'secret.txt'), 'secret');
  writeFileSync(join(outside, 'recipe.yaml'), 'method: secret\n');
  writeFileSync(join(outside, 'metrics.jsonl'), '{"step":1,"reward/mean":42}\n');
  writeRun(runs, 'first', [{ step: 0, 'validation/reward': 1 }]);
  symlinkSync(outside, join(runs, 'elsewhere'));
  mkdirSync(join(runs, 'first', 'samples', 'step-00000'));
  const line = {
    step: 0,
    kind: 'validation',
    width: 1,
    height: 1,
    kept: 2,
    prompts: ['a', 'b'],
    rewards: [1, 2],
    parts: {},
    seeds: [1, 2],
  };
  writeFileSync(join(runs, 'first', 'samples', 'pictures.jsonl'), `${JSON.stringify(line)}\n`);
  writeFileSync(join(runs, 'first', 'samples', 'step-00000', 'validation-000.png'), 'a picture');
  symlinkSync(
    join(outside, 'secret.txt'),
    join(runs, 'first', 'samples', 'step-00000', 'validation-001.png'),
  );
  writeFileSync(join(app, 'index.html'), '<p>the page</p>');
  writeFileSync(join(outside, 'page.html'), 'secret');
  studio = await openStudio(runs, { app });
});
afterAll(() => studio.close());

/** A request as it is written, without what fetch corrects. */
function raw(
  path: string,
  headers: Record<string, string> = {},
  method = 'GET',
): Promise<{ status: number; text: string; headers: NodeJS.Dict<string | string[]> }> {
  return new Promise((resolve, reject) => {
    const options = { host: '127.0.0.1', port: studio.port, path, method, headers, agent: false } as const;
    const asked = request(options, (response) => {
      let text = '';
      response.on('data', (chunk) => {
        text += chunk;
      });
      response.on('end', () =>
        resolve({ status: response.statusCode as number, text, headers: response.headers }),
      );
    });
    asked.on('error', reject);
    asked.end();
  });
}
const bearer = () => ({ authorization: `Bearer ${studio.token}` });

test('without the token, or with a wrong one, nothing is answered', async () => {
  for (const path of [
    '/',
    '/api/runs',
    '/api/runs/first',
    '/api/files/x.y',
    '/api/events',
    '/assets/x.js',
    '/nothing',
  ]) {
    expect((await raw(path)).status, path).toBe(401);
    expect((await raw(path, { authorization: `Bearer ${studio.token.slice(1)}` })).status, path).toBe(401);
    expect((await raw(path, { cookie: `rldf-studio-${studio.port}=x` })).status, path).toBe(401);
  }
  expect((await raw(`/?token=${studio.token}x`)).status).toBe(401);
  expect((await raw(`/api/runs?token=${studio.token}`)).status).toBe(401); // only the first visit of the page
  expect((await raw('/api/runs', bearer())).status).toBe(200);
});

test('the printed address gives a cookie that scripts and other sites do not get, and leads to the page', async () => {
  const { status, headers } = await raw(new URL(studio.address).pathname + new URL(studio.address).search);
  expect(status).toBe(302);
  expect(headers.location).toBe('/');
  const [cookie] = headers['set-cookie'] as string[];
  expect(cookie).toMatch(/; HttpOnly/);
  expect(cookie).toMatch(/; SameSite=Strict/);
  const page = await raw('/', { cookie: (cookie as string).split(';')[0] as string });
  expect(page).toMatchObject({ status: 200, text: '<p>the page</p>' });
  expect(page.headers['content-security-policy']).toContain("default-src 'none'");
  expect(page.headers['content-security-policy']).toContain("script-src 'self';");
  expect(page.headers['x-content-type-options']).toBe('nosniff');
});

test('a foreign Host is refused, though the token is right: a name that was bound to 127.0.0.1 meanwhile', async () => {
  for (const host of [
    'evil.example',
    `evil.example:${studio.port}`,
    '127.0.0.1',
    `127.0.0.1:${studio.port + 1}`,
    `127.0.0.1.evil.example:${studio.port}`,
  ])
    expect((await raw('/api/runs', { ...bearer(), host })).status, host).toBe(403);
  expect((await raw('/api/runs', { ...bearer(), host: `localhost:${studio.port}` })).status).toBe(200);
});

test('a foreign Origin is refused', async () => {
  const own = `http://127.0.0.1:${studio.port}`;
  for (const origin of [
    'http://evil.example',
    'null',
    `https://127.0.0.1:${studio.port}`,
    `${own}0`,
    `http://localhost:${studio.port}`,
  ])
    expect((await raw('/api/runs', { ...bearer(), origin })).status, origin).toBe(403);
  expect((await raw('/api/runs', { ...bearer(), origin: own })).status).toBe(200);
});

test('what changes something must be JSON, and must not come from another site', async () => {
  const path = '/api/runs/first/stop';
  expect((await raw(path, bearer(), 'POST')).status).toBe(415);
  expect((await raw(path, { ...bearer(), 'content-type': 'text/plain' }, 'POST')).status).toBe(415);
  const json = { ...bearer(), 'content-type': 'application/json' };
  expect((await raw(path, { ...json, 'sec-fetch-site': 'cross-site' }, 'POST')).status).toBe(403);
  expect((await raw(path, { ...json, origin: 'http://evil.example' }, 'POST')).status).toBe(403);
  expect((await studio.post(path, {})).status).toBe(200);
  const large = await raw('/api/draw', { ...json, 'content-length': `${2 << 20}` }, 'POST');
  expect(large.status).toBe(413);
});

test.each([
  '/../../../../etc/passwd',
  '/..%2f..%2f..%2fetc%2fpasswd',
  '/%2e%2e/%2e%2e/etc/passwd',
  '/%252e%252e%252fetc%252fpasswd',
  '/..\\..\\etc\\passwd',
  '//etc/passwd',
  '/assets/../../page.html',
  '/.studio/token',
  '/api/runs/..',
  '/api/runs/..%2f..%2fetc',
  '/api/runs/%2e%2e~%2e%2e',
  '/api/runs/..~etc/metrics',
  '/api/runs/first~..~..~etc',
  '/api/runs/.studio',
  '/api/runs/%00',
  '/api/searches/..%2fetc',
  '/api/tables/..%2fetc',
  '/api/files/..%2f..%2fetc%2fpasswd',
])('no way out of the folder: %s', async (path) => {
  const { status, text } = await raw(path, bearer());
  expect([400, 404]).toContain(status);
  expect(text).not.toMatch(/root:|secret/);
});

test('a file is sent by an id that the server gave, and by no other', async () => {
  const { pictures } = await studio.json<PicturesAnswer>('/api/runs/first/pictures?kind=validation');
  const id = pictures[0]?.file as string;
  expect(await (await studio.ask(`/api/files/${id}`)).text()).toBe('a picture');
  const outsideIt = '../../etc/passwd';
  const forged = Buffer.from(outsideIt).toString('base64url');
  for (const wrong of [
    `${id}x`,
    id.slice(1),
    `${forged}.${id.split('.')[1]}`,
    `${forged}.`,
    forged,
    `${id}.x`,
  ])
    expect((await studio.ask(`/api/files/${wrong}`)).status, wrong).toBe(404);
  const another = new RunsFolder(runs); // signs with another key
  expect(
    (await studio.ask(`/api/files/${another.idOfFile(join(runs, 'first', 'recipe.yaml'))}`)).status,
  ).toBe(404);
});

test('links that lead out of the runs folder are not followed: neither a picture nor a whole run', async () => {
  const { pictures } = await studio.json<PicturesAnswer>('/api/runs/first/pictures?kind=validation');
  const link = await studio.ask(`/api/files/${pictures[1]?.file}`);
  expect(link.status).toBe(404);
  expect(await link.text()).not.toContain('secret');
  expect((await studio.json<RunsAnswer>('/api/runs')).runs.map(({ id }) => id)).toEqual(['first']);
  for (const path of ['', '/metrics', '/pictures', '/prompts', '/explain']) {
    const answer = await studio.ask(`/api/runs/elsewhere${path}`);
    expect(answer.status, path).toBe(404);
    expect(await answer.text()).not.toMatch(/secret|42/);
  }
});

test('the token is kept for the next start, readable by its owner alone', async () => {
  const file = join(runs, '.studio', 'token');
  expect(existsSync(file)).toBe(true);
  expect(statSync(file).mode & 0o077).toBe(0);
  expect(new RunsFolder(runs).token()).toBe(studio.token);
  expect(studio.token).toMatch(/^[A-Za-z0-9_-]{43}$/); // 256 bits
  const other = new RunsFolder(newFolder());
  const first = other.token();
  chmodSync(other.own('token'), 0o644); // now others can read it
  expect(other.token()).not.toBe(first);
  expect(statSync(other.own('token')).mode & 0o077).toBe(0);
});
