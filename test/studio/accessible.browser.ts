/// <reference lib="dom" />
// For every hand and eye: axe-core on every view, both widths and schemes; keys alone; reduced motion.

import { join } from 'node:path';
import type { Browser, Page } from 'playwright-core';
import { afterAll, beforeAll, describe, expect, inject, test } from 'vitest';
import { seriousFindings } from './axe.js';
import { go, openBrowser, visit } from './browser.js';
import { type Studio, startStudio } from './runs.js';

const runs = join(inject('folder'), 'runs');
let browser: Browser;
let studio: Studio;

beforeAll(async () => {
  [browser, studio] = await Promise.all([openBrowser(), startStudio(runs)]);
});
afterAll(async () => {
  await browser?.close();
  await studio?.kill();
});

const views: Record<string, { hash: string; ready: string; open?: (page: Page) => Promise<void> }> = {
  runs: { hash: '#/', ready: 'table.runs' },
  curves: { hash: '#/run/hacked', ready: '.plot canvas' },
  pictures: { hash: '#/run/seed-1/pictures', ready: '.thumb img' },
  picture: {
    hash: '#/run/seed-1/pictures',
    ready: '.thumb img',
    open: async (page) => {
      await page.locator('.thumb').first().click();
      await page.locator('dialog[open]').waitFor();
    },
  },
  time: { hash: '#/run/seed-1/time', ready: '.pictures.large img' },
  strength: { hash: '#/run/seed-1/strength', ready: '.pad' },
  findings: { hash: '#/run/seed-1/findings', ready: '.findings' },
  recipe: { hash: '#/run/seed-1/recipe', ready: '.fields' },
  compared: { hash: '#/compare?runs=seed-1,seed-2', ready: '.plot canvas' },
  searches: { hash: '#/searches', ready: '.card' },
  search: { hash: '#/search/searches~one', ready: '.plane' },
  tables: { hash: '#/tables', ready: '.card' },
  table: { hash: '#/table/base-methods', ready: '.arms' },
  rating: { hash: '#/rate?run=seed-1&kind=rollout', ready: '.duelist img' },
  nowhere: { hash: '#/nowhere', ready: '.empty' },
};

/** What makes the page wider than its window. */
function wider(): string[] {
  if (document.documentElement.scrollWidth <= innerWidth) return [];
  return [...document.querySelectorAll('body *')].flatMap((element) => {
    const { right } = element.getBoundingClientRect();
    const by = Math.ceil(right - innerWidth);
    return by > 0 ? [`${by} px wider than the window: ${element.outerHTML.slice(0, 120)}`] : [];
  });
}

describe.each([
  { width: 1440, scheme: 'light' },
  { width: 1440, scheme: 'dark' },
  { width: 360, scheme: 'light' },
  { width: 360, scheme: 'dark' },
] as const)('$width px wide, $scheme', (look) => {
  test('every view fits, and axe-core finds nothing serious', { timeout: 170_000 }, async () => {
    const seen = await visit(browser, studio.address, look);
    const found: Record<string, string[]> = {};
    for (const [name, { hash, ready, open }] of Object.entries(views)) {
      await go(seen.page, hash);
      await seen.page.locator(ready).first().waitFor();
      await open?.(seen.page);
      found[name] = [...(await seen.page.evaluate(wider)), ...(await seriousFindings(seen.page))];
      if (open !== undefined) await seen.page.keyboard.press('Escape');
    }
    const faults = seen.faults;
    await seen.close();
    expect(found).toEqual(Object.fromEntries(Object.keys(views).map((name) => [name, []])));
    expect(faults).toEqual([]);
  });
});

describe('keys alone', () => {
  /** What has the focus, in words, and whether that can be seen. */
  const focus = (page: Page) =>
    page.evaluate(() => {
      const element = document.activeElement as HTMLElement;
      const style = getComputedStyle(element);
      const label = element.closest('label') ?? element;
      const around = getComputedStyle(label);
      return {
        tag: element.tagName,
        text: (element.getAttribute('aria-label') ?? element.textContent ?? '').trim().slice(0, 60),
        visible:
          (style.outlineStyle !== 'none' && style.outlineWidth !== '0px') ||
          (around.outlineStyle !== 'none' && around.outlineWidth !== '0px'),
      };
    });

  /** Presses Tab until something has the focus. */
  async function tabTo(page: Page, wanted: RegExp, most = 60) {
    const passed: string[] = [];
    for (let i = 0; i < most; i++) {
      await page.keyboard.press('Tab');
      const { tag, text, visible } = await focus(page);
      if (tag !== 'BODY') expect({ text, visible }).toEqual({ text, visible: true });
      if (wanted.test(text)) return;
      passed.push(text);
    }
    throw new Error(`no Tab leads to ${wanted}; passed ${passed.join(' | ')}`);
  }

  test('from the list to a picture of a run and back; the focus is seen at every stop', async () => {
    const { page, close } = await visit(browser, studio.address);
    await page.locator('table.runs').waitFor();
    await page.keyboard.press('Tab');
    expect((await focus(page)).text).toBe('Skip to the content');
    await page.keyboard.press('Enter');
    expect(await page.evaluate(() => document.activeElement?.id)).toBe('main');

    // One stop for the whole list; arrows move in it, Space ticks.
    await tabTo(page, /^Compare /);
    await page.keyboard.press('Tab');
    await page.keyboard.press('End');
    await page.keyboard.press('ArrowUp');
    await page.keyboard.press('Space');
    await page.keyboard.press('Home');
    await page.keyboard.press('Space');
    await page.getByRole('link', { name: 'Compare 2 runs' }).waitFor();
    for (let i = 0; i < 20 && (await focus(page)).text !== 'seed-1'; i++)
      await page.keyboard.press('ArrowDown');
    await page.keyboard.press('Enter');
    await page.getByRole('heading', { level: 1, name: 'seed-1' }).waitFor();
    expect(await page.evaluate(() => document.activeElement?.id)).toBe('main');

    await tabTo(page, /^Curves/);
    await page.keyboard.press('ArrowRight');
    await expect.poll(async () => (await focus(page)).text).toBe('Pictures');
    await page.keyboard.press('Enter');
    await page.locator('.thumb img').first().waitFor();
    await tabTo(page, /^a (cat|dog|cow), reward/);
    const first = (await focus(page)).text;
    await page.keyboard.press('ArrowRight');
    await page.keyboard.press('ArrowLeft');
    expect((await focus(page)).text).toBe(first);
    await page.keyboard.press('Enter');
    await page.locator('dialog[open]').waitFor();
    await tabTo(page, /^Copy: Draws/);
    await page.keyboard.press('Enter');
    await page.keyboard.press('Escape');
    await expect.poll(async () => (await focus(page)).text).toBe(first);
    await close();
  });

  test('scrubber, dial, world and rating answer to keys', { timeout: 120_000 }, async () => {
    const { page, close } = await visit(browser, studio.address);
    await go(page, '#/run/seed-1/time');
    await page.locator('.pictures.large img').first().waitFor();
    await tabTo(page, /^Play/);
    await page.keyboard.press('Tab');
    await page.keyboard.press('Home');
    await expect
      .poll(() => page.locator('.pictures.large').getAttribute('aria-label'))
      .toBe('Pictures at step 0');

    await go(page, '#/run/seed-1/strength');
    await page.locator('.pad').waitFor();
    await tabTo(page, /^Mix with|^another adapter|U-Net/);
    await page.getByRole('slider', { name: /text encoder/ }).focus();
    await page.keyboard.press('Home');
    await expect.poll(async () => (await page.locator('.axis .said').allInnerTexts())[1]).toBe('-0.25');

    await go(page, '#/search/searches~one');
    await page.locator('.plane').waitFor();
    expect(await page.locator('button.cell[tabindex="0"]').count()).toBe(1);

    await go(page, '#/rate?run=seed-2&kind=rollout');
    await page.locator('.duelist img').first().waitFor();
    await tabTo(page, /^The left one is better/);
    await page.keyboard.press('Enter');
    await expect.poll(() => page.locator('.rate [role=status]').innerText()).toContain('1 pair');
    await close();
  });
});

test('nothing moves for those who asked for that', async () => {
  const moving = async (reducedMotion: 'reduce' | 'no-preference') => {
    const { page, close } = await visit(browser, studio.address, { reducedMotion });
    await page.locator('table.runs').waitFor();
    const count = await page.evaluate(() => {
      const mark = document.querySelector('.state .dot')!.parentElement!;
      mark.className = 'state running'; // as the row of a running training
      const button = document.querySelector('button')!;
      return {
        animations: document.getAnimations().length,
        transition: getComputedStyle(button).transitionDuration,
      };
    });
    await close();
    return count;
  };
  expect(await moving('no-preference')).toEqual({
    animations: 1,
    transition: expect.not.stringMatching(/^0s(, 0s)*$/),
  });
  expect(await moving('reduce')).toEqual({ animations: 0, transition: '0s' });
});
