/// <reference lib="dom" />
// Every view on real runs: what it shows is what the files say, and what it writes is there.

import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Browser } from 'playwright-core';
import { afterAll, beforeAll, describe, expect, inject, test } from 'vitest';
import { go, openBrowser, type Visit, visit } from './browser.js';
import { type Studio, startStudio } from './runs.js';

const runs = join(inject('folder'), 'runs');
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

const rows = (run: string) =>
  readFileSync(join(runs, run, 'metrics.jsonl'), 'utf8')
    .trimEnd()
    .split('\n')
    .map((line) => JSON.parse(line) as Record<string, number>);
/** As the page writes rewards. */
const shown = (value: number) => {
  const size = Math.abs(value);
  const text =
    size >= 100
      ? value.toFixed(0)
      : size >= 10
        ? value.toFixed(1)
        : size >= 0.1
          ? value.toFixed(2)
          : String(Number(value.toPrecision(3)));
  return text.replace('-', '−');
};

test('runs: state, method, reward from start to now, pictures, alarm; filter, order, ticking', async () => {
  const { page } = seen;
  await go(page, '#/');
  const row = page.locator('table.runs tbody tr', {
    has: page.getByRole('link', { name: 'seed-1', exact: true }),
  });
  const validation = rows('seed-1').flatMap((one) =>
    'validation/reward' in one ? [one['validation/reward']!] : [],
  );
  expect(validation.length).toBeGreaterThan(2);
  const text = await row.innerText();
  for (const part of ['finished', 'ddpo', 'seed 1', shown(validation[0]!), shown(validation.at(-1)!), '6/6'])
    expect(text).toContain(part);
  expect(await row.locator('.c-pictures').innerText()).toContain(String(rows('seed-1').at(-1)!.pictures));
  expect(await row.locator('svg.spark polyline').count()).toBe(1);
  const line = (name: string) =>
    page.locator('table.runs tbody tr', { has: page.getByRole('link', { name, exact: true }) });
  expect(await line('hacked').innerText()).toContain('hack watch');
  expect((await line('damaged').locator('.bad-chip').innerText()).length).toBeGreaterThan(10);

  await page.getByRole('searchbox').fill('seed-');
  await expect.poll(() => page.locator('table.runs tbody tr').count()).toBe(2);
  await page.getByRole('searchbox').fill('no such run');
  await page.getByText('Nothing fits').waitFor();
  await page.getByRole('searchbox').fill('');
  const names = () => page.locator('table.runs tbody th a').allInnerTexts();
  const order = new Intl.Collator('en', { numeric: true });
  const ascending = (await names()).sort((a, b) => order.compare(a, b));
  await page.getByRole('button', { name: 'Run', exact: true }).click();
  await expect.poll(names).toEqual(ascending);
  await page.getByRole('button', { name: 'Run', exact: true }).click();
  await expect.poll(names).toEqual([...ascending].reverse());

  await page.getByRole('checkbox', { name: 'Compare seed-1' }).check();
  await page.getByRole('checkbox', { name: 'Compare seed-2' }).check();
  await page.getByRole('link', { name: 'Compare 2 runs' }).click();
  await page.getByRole('heading', { level: 1, name: 'Compared' }).waitFor();
});

test('compared: two seeds are one band; the recipes differ in the seed alone', async () => {
  const { page } = seen;
  await go(page, '#/compare?runs=seed-1,seed-2');
  expect(await page.locator('.groups > li').count()).toBe(1);
  const chart = page.getByRole('application', { name: /^Validation reward/ });
  await chart.waitFor();
  const [a, b] = ['seed-1', 'seed-2'].map(
    (run) => rows(run).findLast((row) => 'validation/reward' in row)!['validation/reward']!,
  );
  expect(await page.locator('figure', { has: chart }).locator('.readout b').innerText()).toBe(
    shown((a! + b!) / 2),
  );
  const table = page.getByRole('region', { name: 'Table of differences' });
  expect(await table.locator('tbody tr').allInnerTexts()).toEqual([expect.stringMatching(/^seed\s+1\s+2$/)]);
  await expect.poll(() => page.locator('.picture-row').count()).toBe(2);
});

describe('a run', () => {
  test('curves: the newest numbers, a cursor by keys, numbers as a table, zoom', async () => {
    const { page } = seen;
    await go(page, '#/run/seed-1');
    const all = rows('seed-1');
    const chart = page.getByRole('application', { name: /^Reward by step/ });
    await chart.waitFor();
    const figure = page.locator('figure.chart').first();
    const last = all.at(-1)!;
    expect(await figure.locator('.readout b').allInnerTexts()).toEqual([
      shown(last['reward/mean']!),
      shown(all.findLast((row) => 'validation/reward' in row)!['validation/reward']!),
    ]);
    await chart.focus();
    await page.keyboard.press('Home');
    await page.keyboard.press('ArrowRight');
    expect(await figure.locator('.plot [aria-live]').innerText()).toMatch(/^step 1: training /);
    expect(await figure.locator('.readout').innerText()).toContain('step 1');
    await page.keyboard.press('+');
    await page.getByRole('button', { name: 'Show all steps' }).waitFor();
    await page.keyboard.press('Escape');
    expect(await page.getByRole('button', { name: 'Show all steps' }).count()).toBe(0);
    const box = (await chart.boundingBox())!;
    await page.mouse.move(box.x + box.width * 0.4, box.y + 60);
    await page.mouse.down();
    await page.mouse.move(box.x + box.width * 0.8, box.y + 60, { steps: 5 });
    await page.mouse.up();
    await page.getByRole('button', { name: 'Show all steps' }).click();

    await figure.getByRole('button', { name: 'Reward: numbers as a table' }).click();
    const cells = async () =>
      (await figure.locator('tbody tr').last().locator('th, td').allInnerTexts()).slice(0, 2);
    await expect.poll(cells).toEqual([String(last.step), shown(last['reward/mean']!)]);
    await figure.getByRole('button', { name: 'Reward: numbers as a table' }).click();
    for (const title of ['Rewards', 'Policy', 'Optimiser', 'Speed', 'Memory'])
      expect(await page.getByRole('heading', { name: title, exact: true }).count()).toBe(1);
  });

  test('rewards of single pictures and by prompt, from what was noted of every picture', async () => {
    const { page } = seen;
    await go(page, '#/run/seed-1');
    const heat = page.getByRole('slider', { name: 'Step whose rewards are shown' });
    await heat.focus();
    await page.keyboard.press('Home');
    expect(await heat.getAttribute('aria-valuetext')).toMatch(/^step 1: 4 pictures, mean /);
    const prompts = page.getByRole('region', { name: 'Rewards by prompt' });
    expect((await prompts.locator('li').allInnerTexts()).map((text) => text.split('\n')[0]).sort()).toEqual([
      'a cat',
      'a cow',
      'a dog',
    ]);
  });

  test('smoothing keeps the raw curve', async () => {
    const { page } = seen;
    await go(page, '#/run/seed-1');
    const slider = page.getByRole('slider', { name: /Smoothing/ });
    await slider.focus();
    await page.keyboard.press('End');
    await expect.poll(() => page.locator('.tool .said').first().innerText()).toBe('0.98');
    await page.keyboard.press('Home');
    await expect.poll(() => page.locator('.tool .said').first().innerText()).toBe('off');
  });

  test('pictures: a row a step; a picture with seed, reward, behaviour and the command that redraws it', async () => {
    const { page } = seen;
    await go(page, '#/run/seed-1/pictures');
    await page.locator('.thumb img').first().waitFor();
    expect(await page.locator('.picture-row h3').first().innerText()).toBe('Step 6');
    const thumb = page.locator('.thumb').first();
    await thumb.focus();
    await page.keyboard.press('Enter');
    const dialog = page.getByRole('dialog');
    await dialog.waitFor();
    const noted = readFileSync(join(runs, 'seed-1/samples/pictures.jsonl'), 'utf8')
      .trimEnd()
      .split('\n')
      .map((line) => JSON.parse(line));
    const line = noted.find(({ kind, step }) => kind === 'rollout' && step === 6);
    const text = await dialog.innerText();
    for (const part of [line.prompts[0], shown(line.rewards[0]), 'Seed', 'Guidance', '3 steps', 'rldf '])
      expect(text).toContain(part);
    await dialog.getByRole('button', { name: /^Copy: Draws/ }).click();
    await expect.poll(() => page.evaluate(() => navigator.clipboard.readText())).toMatch(/^(npx )?rldf /);
    const first = await dialog.locator('img').first().getAttribute('src');
    await page.keyboard.press('ArrowRight');
    await expect.poll(() => dialog.locator('img').first().getAttribute('src')).not.toBe(first);
    await page.keyboard.press('Escape');
    await dialog.waitFor({ state: 'detached' });
    await expect
      .poll(() => page.evaluate(() => document.activeElement?.classList.contains('thumb')))
      .toBe(true);
    await page.getByText('Before and after').click();
    await expect.poll(() => page.locator('.picture-row').count()).toBe(1);
    await page.locator('.thumb img').first().waitFor();
    await page.locator('.thumb').first().click();
    await expect
      .poll(() => dialog.locator('figcaption').allInnerTexts())
      .toEqual([expect.stringContaining('before'), expect.stringContaining('after')]);
    await page.keyboard.press('Escape');
  });

  test('through time: one slider for the same prompts and seeds; b shows the beginning', async () => {
    const { page } = seen;
    await go(page, '#/run/seed-1/time');
    const picture = page.locator('.pictures.large img').first();
    await picture.waitFor();
    const slider = page.getByRole('slider', { name: /^Step/ });
    await slider.focus();
    await page.keyboard.press('End');
    await expect
      .poll(() => page.locator('.pictures.large').getAttribute('aria-label'))
      .toBe('Pictures at step 6');
    const newest = await picture.getAttribute('src');
    await page.keyboard.press('Home');
    await expect.poll(() => picture.getAttribute('src')).not.toBe(newest);
    const first = await picture.getAttribute('src');
    await page.keyboard.press('End');
    await page.getByRole('button', { name: 'Play' }).focus();
    await page.keyboard.down('b');
    await expect.poll(() => picture.getAttribute('src')).toBe(first);
    await page.keyboard.up('b');
    await expect.poll(() => picture.getAttribute('src')).toBe(newest);
  });

  test('through time: a prompt of one’s own by the weights of every checkpoint', {
    timeout: 120_000,
  }, async () => {
    const { page } = seen;
    await go(page, '#/run/seed-1/time');
    await page.getByText('Your own prompt').click();
    await page.getByRole('textbox').fill('a dog #7');
    await page.getByRole('button', { name: 'Draw', exact: true }).click();
    const kept = readdirSync(join(runs, 'seed-1/checkpoints')).filter((name) =>
      /^step-\d+$/.test(name),
    ).length;
    await expect.poll(() => page.locator('table.through img').count(), { timeout: 90_000 }).toBe(kept);
  });

  test('strength: a pad for text encoder and U-Net, drawn while it is turned; exactly that is exported', {
    timeout: 180_000,
  }, async () => {
    const { page } = seen;
    await go(page, '#/run/seed-1/strength');
    const drawn = page.locator('.pairs img');
    await expect.poll(() => drawn.count(), { timeout: 120_000 }).toBeGreaterThanOrEqual(2);
    const after = drawn.nth(1);
    await expect.poll(() => page.locator('.pairs.waiting').count(), { timeout: 60_000 }).toBe(0);
    const [without, full] = [await drawn.nth(0).getAttribute('src'), await after.getAttribute('src')];
    expect(without).not.toBe(full);
    const unet = page.getByRole('slider', { name: /U-Net/ });
    await unet.focus();
    for (let i = 0; i < 10; i++) await page.keyboard.press('ArrowLeft');
    await expect.poll(() => after.getAttribute('src'), { timeout: 60_000 }).not.toBe(full);
    await expect.poll(() => page.locator('.corner img').count(), { timeout: 60_000 }).toBe(4);
    const { width, height } = (await page.locator('.pad').boundingBox())!;
    await page.locator('.pad').click({ position: { x: 0.486 * width, y: 0.486 * height } });
    await expect.poll(() => page.locator('.axis .said').allInnerTexts()).toEqual(['0.60', '0.65']);
    const name = page.getByRole('textbox', { name: 'Name of the file' });
    await expect.poll(() => name.inputValue()).toBe('seed-1-at-0.6-and-0.65');
    await page.getByRole('button', { name: 'Export', exact: true }).click();
    await page.getByRole('link', { name: 'Download' }).waitFor();
    expect(existsSync(join(runs, 'exports/seed-1-at-0.6-and-0.65.safetensors'))).toBe(true);
    const answer = await page.evaluate(
      async (href) => (await fetch(href)).status,
      (await page.getByRole('link', { name: 'Download' }).getAttribute('href'))!,
    );
    expect(answer).toBe(200);
  });

  test('why: what rldf explain says', async () => {
    const { page } = seen;
    await go(page, '#/run/seed-1/findings');
    const findings = page.getByRole('region', { name: 'What the numbers say' });
    expect(await findings.getByRole('heading', { level: 2 }).innerText()).toMatch(
      /^The reward (curve )?(rose|stalled|fell|is too short)/,
    );
    expect(await findings.locator('li').count()).toBeGreaterThan(0);
  });

  test('recipe: every field with what it means', async () => {
    const { page } = seen;
    await go(page, '#/run/seed-1/recipe');
    const fields = page.locator('.fields > div');
    const all = await fields.count();
    expect(all).toBeGreaterThan(30);
    const rank = fields.filter({ has: page.locator('code', { hasText: /^train\.rank$/ }) });
    expect(await rank.locator('.value').innerText()).toMatch(/^2/);
    expect((await rank.locator('.explanation').innerText()).length).toBeGreaterThan(10);
    await page.getByRole('searchbox', { name: 'Find a field' }).fill('rank');
    await expect.poll(() => fields.count()).toBeLessThan(all);
    expect(await page.locator('.checkpoints li').count()).toBeGreaterThan(2);
  });

  test('hack watch: the banner, and back to the last clean checkpoint as a new run', async () => {
    const { page } = seen;
    await go(page, '#/run/hacked');
    const banner = page.locator('.banner.alarm');
    expect(await banner.innerText()).toContain('step 6');
    await banner.getByRole('button', { name: 'Go back to step 4' }).click();
    const link = banner.getByRole('link');
    await link.waitFor();
    const name = await link.innerText();
    expect(existsSync(join(runs, name, 'checkpoints/step-4'))).toBe(true);
    await link.click();
    await page.getByRole('heading', { level: 1, name }).waitFor();
  });

  test('what is not there is said in words', async () => {
    const { page } = seen;
    await go(page, '#/run/seed-1');
    await page.evaluate(() => {
      location.hash = '#/run/nothing-of-this-name';
    });
    const alert = page.getByRole('alert');
    await alert.waitFor();
    expect(await alert.innerText()).toContain('nothing-of-this-name');
  });
});

test('a search: its world by Q, visits and pictures; the way; sliders', async () => {
  const { page } = seen;
  await go(page, '#/searches');
  await page.getByRole('link', { name: /one/ }).click();
  await page.getByRole('heading', { name: 'The world' }).waitFor();
  const cells = page.locator('button.cell');
  expect(await cells.count()).toBeGreaterThan(5);
  await page.locator('.choice label', { hasText: 'pictures' }).click();
  await page.locator('.cell img').first().waitFor();
  const chosen = page.locator('button.cell[aria-pressed="true"]');
  const before = await chosen.getAttribute('aria-label');
  await chosen.focus();
  await page.keyboard.press(
    (await cells.first().getAttribute('aria-pressed')) === 'true' ? 'ArrowRight' : 'Home',
  );
  await expect.poll(() => chosen.getAttribute('aria-label')).not.toBe(before);
  expect(await page.locator('.path li').count()).toBeGreaterThan(0);
  expect(await page.locator('.slide').count()).toBeGreaterThan(0);
});

test('tables of rldf reproduce: arms with intervals', async () => {
  const { page } = seen;
  await go(page, '#/tables');
  await page.getByRole('link', { name: 'base-methods', exact: true }).click();
  await page.getByRole('heading', { level: 1, name: 'base-methods' }).waitFor();
  const told = JSON.parse(readFileSync(join(inject('root'), 'docs/results/base-methods.json'), 'utf8'));
  const arms = page.locator('table.arms tbody tr');
  expect(await arms.count()).toBe(Object.keys(told.arms).length);
  expect(await arms.first().locator('.interval .whisker').count()).toBeGreaterThan(0);
  await page.getByText('against the reference').click();
  await page.getByText('the reference', { exact: true }).first().waitFor();
});

test('rating by keys alone: pairs, equal, taken back; scores; the file that a recipe reads', async () => {
  const { page } = seen;
  await go(page, '#/rate?run=seed-1&kind=rollout');
  await page.locator('.duelist img').first().waitFor();
  const given = () => page.locator('.rate [role=status]').innerText();
  for (const [key, count] of [
    ['ArrowLeft', 1],
    ['ArrowRight', 2],
    ['ArrowDown', 3],
  ] as const) {
    await page.keyboard.press(key);
    await expect.poll(given).toContain(`${count} pair`);
  }
  await page.keyboard.press('u');
  await expect.poll(given).toContain('2 pairs');
  await page.locator('.choice label', { hasText: '1 to 5' }).click();
  await page.locator('h1').click();
  await page.locator('.single img').waitFor();
  await page.keyboard.press('5');
  await expect.poll(given).toContain('1 score');
  await page.keyboard.press('2');
  await expect.poll(given).toContain('2 scores');
  await page.getByText('Use these ratings').click();
  const path = await page.locator('details code').first().innerText();
  const file = existsSync(path) ? path : join(inject('root'), path);
  const text = readFileSync(file, 'utf8');
  expect(text).toMatch(/rating/);
  expect(await page.locator('.command pre').innerText()).toContain('ratings');
});

test('no error in the console, no request to elsewhere', () => {
  expect(seen.faults.filter((fault) => !fault.includes('nothing-of-this-name'))).toEqual([]);
});
