/// <reference lib="dom" />
// What moves: a run that is trained while it is watched, one that vanishes, a server that is killed and comes back.

import { existsSync, renameSync } from 'node:fs';
import { join } from 'node:path';
import type { Browser } from 'playwright-core';
import { afterAll, beforeAll, expect, inject, test } from 'vitest';
import { go, openBrowser, type Visit, visit } from './browser.js';
import { appendRows, copyRun, longRows, type Studio, startStudio, startTraining } from './runs.js';

const folder = inject('folder');
const runs = join(folder, 'runs');
let browser: Browser;
let studio: Studio;
let seen: Visit;

beforeAll(async () => {
  [browser, studio] = await Promise.all([openBrowser(), startStudio(runs)]);
  seen = await visit(browser, studio.address);
});
afterAll(async () => {
  await browser?.close();
  await studio?.kill();
});

test('a training is watched while it goes on, and stopped by the page', { timeout: 170_000 }, async () => {
  const { page } = seen;
  await go(page, '#/');
  const training = startTraining([
    'train',
    join(folder, 'tiny.yaml'),
    '--runs',
    runs,
    '--name',
    'watched',
    '--set',
    'epochs=100000',
    '--set',
    'evaluate.every=50',
    '--set',
    'checkpoint.every=50',
  ]);
  const ended = new Promise<number | null>((done) => training.on('close', done));
  try {
    // It appears in the list by itself.
    const row = page.locator('table.runs tbody tr', {
      has: page.getByRole('link', { name: 'watched', exact: true }),
    });
    await row.waitFor({ timeout: 60_000 });
    await expect.poll(() => row.innerText(), { timeout: 30_000 }).toContain('running');
    await row.getByRole('link').click();
    const steps = async () =>
      Number(
        /step ([\d\u2009]+)/
          .exec(await page.locator('.view-head').innerText())?.[1]
          ?.replaceAll('\u2009', '') ?? -1,
      );
    await expect.poll(steps, { timeout: 60_000 }).toBeGreaterThanOrEqual(2);
    const chart = page.getByRole('application', { name: /^Reward by step/ });
    await chart.waitFor();
    const reached = async () =>
      Number(/ at step (\d+), between/.exec((await chart.getAttribute('aria-label')) ?? '')?.[1] ?? -1);
    const [before, curve] = [await steps(), await reached()];
    await expect.poll(steps, { timeout: 60_000 }).toBeGreaterThan(before + 1);
    await expect.poll(reached, { timeout: 60_000 }).toBeGreaterThan(curve + 1);
    await page.getByRole('button', { name: 'Stop and save' }).click();
    await page.getByRole('dialog').getByRole('button', { name: 'Stop and save' }).click();
    expect(await ended).toBe(2);
    await page.locator('.run-head .state.stopped').waitFor({ timeout: 60_000 });
    expect(existsSync(join(runs, 'watched/report/report.json'))).toBe(false);
  } finally {
    training.kill('SIGKILL');
  }
});

test('rows appear in the curve without asking; a torn line waits for its end', async () => {
  const { page } = seen;
  copyRun(runs, 'long', 'growing');
  await go(page, '#/run/growing');
  const chart = page.getByRole('application', { name: /^Reward by step/ });
  await chart.waitFor();
  const says = (step: number) =>
    expect.poll(() => chart.getAttribute('aria-label')).toContain(` at step ${step}, between`);
  await says(10_000);
  const line = JSON.stringify({ step: 10_001, 'reward/mean': -1.5 });
  appendRows(runs, 'growing', line.slice(0, 12));
  appendRows(runs, 'growing', `${line.slice(12)}\n`);
  await says(10_001);
  appendRows(
    runs,
    'growing',
    longRows([{ step: 1, 'reward/mean': -1, 'validation/reward': -1 }], 10_002, 10_500),
  );
  await says(10_500);
});

test('a folder that vanishes is said, and what was read stays', async () => {
  const { page } = seen;
  copyRun(runs, 'seed-2', 'fleeting');
  await go(page, '#/run/fleeting');
  await page.getByRole('application', { name: /^Reward by step/ }).waitFor();
  renameSync(join(runs, 'fleeting'), join(folder, 'elsewhere'));
  await page.locator('.banner', { hasText: 'The folder of this run is gone' }).waitFor();
  expect(await page.getByRole('application', { name: /^Reward by step/ }).isVisible()).toBe(true);
  renameSync(join(folder, 'elsewhere'), join(runs, 'fleeting'));
  await page.locator('.banner', { hasText: 'The folder of this run is gone' }).waitFor({ state: 'detached' });
});

test('the server is killed and comes back: the page says so, then goes on where it was', {
  timeout: 120_000,
}, async () => {
  const { page } = seen;
  copyRun(runs, 'long', 'kept-on');
  await go(page, '#/run/kept-on');
  const chart = page.getByRole('application', { name: /^Reward by step/ });
  await chart.waitFor();
  const { port } = studio;
  await studio.kill();
  await page.locator('.connection .warn-banner').waitFor();
  expect(await chart.isVisible()).toBe(true);
  appendRows(
    runs,
    'kept-on',
    longRows([{ step: 1, 'reward/mean': -1, 'validation/reward': -1 }], 10_001, 10_007),
  );
  studio = await startStudio(runs, port);
  await page.locator('.connection .warn-banner').waitFor({ state: 'detached', timeout: 30_000 });
  await expect.poll(() => chart.getAttribute('aria-label')).toContain(' at step 10007, between');
  // Names of files are the server's: pictures are asked for anew.
  await go(page, '#/run/seed-1/pictures');
  await page.locator('.thumb img').first().waitFor();
  await studio.kill();
  await page.locator('.connection .warn-banner').waitFor();
  studio = await startStudio(runs, port);
  await page.locator('.connection .warn-banner').waitFor({ state: 'detached', timeout: 30_000 });
  await expect
    .poll(() =>
      page.evaluate(
        () =>
          [...document.querySelectorAll<HTMLImageElement>('.thumb img')].filter(
            (image) => image.complete && image.naturalWidth > 0,
          ).length,
      ),
    )
    .toBeGreaterThan(3);
  expect(await page.locator('.thumb .no-image').count()).toBe(0);
});

test('nothing but the absent server was complained about', () => {
  const other = seen.faults.filter(
    (fault) =>
      !/ERR_CONNECTION_REFUSED|ERR_EMPTY_RESPONSE|ERR_INCOMPLETE_CHUNKED|ERR_CONNECTION_RESET|status of 404/.test(
        fault,
      ),
  );
  expect(other).toEqual([]);
});
