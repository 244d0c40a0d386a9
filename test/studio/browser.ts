/// <reference lib="dom" />
/** The browser that the page is tried in: the system's Chromium, by playwright-core. */

import { accessSync, constants } from 'node:fs';
import { delimiter, join } from 'node:path';
import { type Browser, type BrowserContext, chromium, type Page } from 'playwright-core';

const names = ['chromium', 'chromium-browser', 'google-chrome', 'google-chrome-stable', 'chrome'];

/** Path of a Chromium: `CHROMIUM`, or the first in PATH. */
export function findChromium(): string | undefined {
  const asked = process.env.CHROMIUM;
  const folders = (process.env.PATH ?? '').split(delimiter).filter(Boolean);
  const candidates =
    asked !== undefined && asked !== ''
      ? [asked]
      : names.flatMap((name) => folders.map((folder) => join(folder, name)));
  return candidates.find((path) => {
    try {
      accessSync(path, constants.X_OK);
      return true;
    } catch {
      return false;
    }
  });
}

export const missingChromium = `no Chromium was found — the page is tested in a real browser.
  Debian and Ubuntu: apt-get install chromium     Fedora: dnf install chromium     macOS: install Chromium or Chrome
  Elsewhere: CHROMIUM=/path/to/chrome npm run test:studio`;

export async function openBrowser(): Promise<Browser> {
  const executablePath = findChromium();
  if (executablePath === undefined) throw new Error(missingChromium);
  const args = [
    '--no-sandbox',
    '--disable-gpu',
    '--disable-background-networking',
    '--disable-component-update',
    '--disable-sync',
  ];
  return chromium.launch({ executablePath, args });
}

export interface Visit {
  page: Page;
  context: BrowserContext;
  /** Errors of the console and of scripts, and requests to elsewhere; must stay empty. */
  faults: string[];
  close(): Promise<void>;
}

export interface Look {
  width?: number;
  scheme?: 'light' | 'dark';
  reducedMotion?: 'reduce' | 'no-preference';
}

/** A window of its own, let in by the address with the token. */
export async function visit(browser: Browser, address: string, look: Look = {}): Promise<Visit> {
  const { width = 1440, scheme = 'light', reducedMotion = 'no-preference' } = look;
  const context = await browser.newContext({
    viewport: { width, height: width > 800 ? 900 : 740 },
    colorScheme: scheme,
    reducedMotion,
  });
  await context.grantPermissions(['clipboard-read', 'clipboard-write']);
  const page = await context.newPage();
  page.setDefaultTimeout(20_000);
  const faults: string[] = [];
  const own = new URL(address).origin;
  page.on('console', (message) => {
    if (message.type() === 'error') faults.push(`console: ${message.text()} ${message.location().url}`);
  });
  page.on('pageerror', (error) => faults.push(`script: ${error.message}`));
  page.on('request', (request) => {
    const url = request.url();
    if (!url.startsWith(own) && !/^(data|blob):/.test(url)) faults.push(`request to elsewhere: ${url}`);
  });
  await page.goto(address);
  return { page, context, faults, close: () => context.close() };
}

/** Another view of the page that is open; ends when its heading is there. */
export async function go(page: Page, hash: string): Promise<void> {
  await page.evaluate((to) => {
    location.hash = to;
  }, hash);
  await page.waitForFunction((to) => {
    const main = document.querySelector('main');
    return (
      main?.dataset.place === to &&
      main.querySelector('h1, h2') !== null &&
      main.querySelector('.loading') === null
    );
  }, hash);
}
