/// <reference lib="dom" />
/**
 * npm run test:studio -- --screenshots [NAMES]: draws docs/images/studio-*.png from real runs: two seeds of the quickstart, the second
 * one shorter, and a search. They are made in .cache/studio-gallery, which takes some minutes, unless they are there; a run that was interrupted is continued.
 */

import { existsSync, mkdirSync } from 'node:fs';
import { join, relative } from 'node:path';
import type { Page } from 'playwright-core';
import sharp from 'sharp';
import { go, type Look, openBrowser, visit } from './browser.js';
import { rldf, root, startStudio } from './runs.js';

const wanted = process.argv.slice(3);
const gallery = join(root, '.cache/studio-gallery');
const named = relative(root, gallery);
const target = join(root, 'docs/images');
const often = [
  '--set',
  'evaluate.every=2',
  '--set',
  'checkpoint.every=2',
  '--set',
  'checkpoint.keep=8',
  '--set',
  'threads=1',
];

async function trained(name: string, settings: string[]): Promise<void> {
  if (existsSync(join(gallery, name, 'report/report.json'))) return;
  process.stdout.write(`${name} is trained\n`);
  if (existsSync(join(gallery, name))) await rldf(['resume', name, '--runs', named]);
  else
    await rldf([
      'train',
      'quickstart',
      '--runs',
      named,
      '--name',
      name,
      ...often,
      ...settings.flatMap((one) => ['--set', one]),
    ]);
}

mkdirSync(gallery, { recursive: true });
await trained('first', []);
await trained('second', ['seed=2', 'epochs=8']);
if (!existsSync(join(gallery, 'inputs/0000.png')))
  await rldf(['generate', 'a cat in the snow', '--seed', '3', '--output', join(named, 'inputs')]);
if (!existsSync(join(gallery, 'searches/cat/search.json')))
  await rldf([
    'search',
    '--image',
    join(named, 'inputs/0000.png'),
    '--output',
    join(named, 'searches/cat'),
    '--steps',
    '100',
    '--slide',
    'Noun',
    '--slide',
    'Scene',
  ]);

const shots: {
  name: string;
  hash: string;
  look?: Look;
  height?: number;
  ready: string;
  before?: (page: Page) => Promise<unknown>;
}[] = [
  { name: 'runs', hash: '#/', ready: '.spark', height: 330 },
  { name: 'curves', hash: '#/run/first', ready: '.plot canvas', height: 900 },
  {
    name: 'pictures',
    hash: '#/run/first/pictures',
    ready: '.thumb img',
    height: 760,
    look: { scheme: 'dark' },
  },
  {
    name: 'picture',
    hash: '#/run/first/pictures',
    ready: '.thumb img',
    height: 640,
    before: (page) => page.locator('.thumb').nth(3).click(),
  },
  { name: 'time', hash: '#/run/first/time', ready: '.pictures.large img', height: 860 },
  {
    name: 'strength',
    hash: '#/run/first/strength',
    ready: '.through img',
    height: 860,
    before: async (page) => {
      const labels = await page.locator('.strength select option').allInnerTexts();
      await page
        .locator('.strength select')
        .selectOption({ index: labels.findIndex((label) => label.startsWith('second')) });
      await page.locator('.corner img').nth(3).waitFor({ timeout: 120_000 });
      await page.locator('.pad').click({ position: { x: 190, y: 150 } });
      await page.waitForTimeout(400);
    },
  },
  {
    name: 'compare',
    hash: '#/compare?runs=first,second',
    ready: '.plot canvas',
    height: 820,
    look: { scheme: 'dark' },
  },
  { name: 'search', hash: '#/search/searches~cat', ready: '.plane', height: 860 },
  { name: 'table', hash: '#/table/base-methods', ready: '.arms', height: 900 },
  { name: 'narrow', hash: '#/run/first', ready: '.plot canvas', height: 900, look: { width: 360 } },
];

/** Connected, everything read, everything drawn. */
const settled = (page: Page) =>
  page.waitForFunction(
    () =>
      document.querySelector('.loading, .pairs.waiting') === null &&
      document.querySelector('.link.up') !== null,
    null,
    { timeout: 120_000 },
  );

const [browser, studio] = await Promise.all([openBrowser(), startStudio(named)]);
try {
  for (const { name, hash, look = {}, height = 900, ready, before } of shots) {
    if (wanted.length > 0 && !wanted.includes(name)) continue;
    const { page, close } = await visit(browser, studio.address, { ...look, reducedMotion: 'reduce' });
    await page.setViewportSize({ width: look.width ?? 1280, height });
    await go(page, hash);
    await page.locator(ready).first().waitFor({ timeout: 120_000 });
    await before?.(page);
    await settled(page);
    await page.waitForTimeout(600);
    const png = await page.screenshot();
    const file = join(target, `studio-${name}.png`);
    await sharp(png).png({ palette: true, colours: 128, effort: 10 }).toFile(file);
    process.stdout.write(`${relative(root, file)}\n`);
    await close();
  }
} finally {
  await browser.close();
  await studio.kill();
}
