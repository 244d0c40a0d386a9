/// <reference lib="dom" />
/**
 * npm run test:studio -- --frames: how long the page's frames take on a run of 10,000 steps that goes on growing: opened, pointed at, zoomed,
 * scrolled, smoothed, while 20 rows arrive each half second. A frame's work is the processor time of the page's main thread from before
 * the event until the frame after it is done (script, style, layout, paint), which other load on the machine changes little; how long
 * that took by the clock is printed too.
 */

import { cpSync, existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { go, openBrowser, visit } from './browser.js';
import { appendRows, copyRun, longRows, makeRuns, startStudio } from './runs.js';

const LIMIT = 50;

const folder = mkdtempSync(join(tmpdir(), 'rldf-studio-'));
const kept = process.env.STUDIO_RUNS;
if (kept !== undefined && existsSync(join(kept, 'runs'))) cpSync(kept, folder, { recursive: true });
else await makeRuns(folder);
const runs = join(folder, 'runs');
copyRun(runs, 'long', 'measured');
const rows = readFileSync(join(runs, 'seed-1/metrics.jsonl'), 'utf8')
  .trimEnd()
  .split('\n')
  .map((line) => JSON.parse(line));
const [browser, studio] = await Promise.all([openBrowser(), startStudio(runs)]);
try {
  const { page, context } = await visit(browser, studio.address);
  await go(page, '#/run/measured');
  await page.locator('.plot canvas').first().waitFor();
  await page.waitForTimeout(1500);
  const session = await context.newCDPSession(page);
  await session.send('Performance.enable', { timeDomain: 'threadTicks' });
  const worked = async () => {
    const { metrics } = await session.send('Performance.getMetrics');
    return 1000 * metrics.find(({ name }) => name === 'TaskDuration')!.value;
  };
  let step = 10_000;
  const growing = setInterval(() => {
    appendRows(runs, 'measured', longRows(rows, step + 1, step + 20));
    step += 20;
  }, 500);
  const results: { what: string; frames: number; work: number[]; between: number[] }[] = [];

  /** Does something a frame at a time. */
  const measure = async (what: string, frames: number, each: (i: number) => Promise<unknown>) => {
    const [work, between]: [number[], number[]] = [[], []];
    for (let i = 0; i < frames; i++) {
      const before = await worked();
      await each(i);
      const passed = await page.evaluate(
        () =>
          new Promise<number>((done) => {
            const asked = performance.now();
            requestAnimationFrame(() => setTimeout(() => done(performance.now() - asked)));
          }),
      );
      work.push((await worked()) - before);
      between.push(passed);
    }
    results.push({ what, frames, work, between });
  };

  const box = (await page.getByRole('application', { name: /^Reward by step/ }).boundingBox())!;
  await measure('rows arrive', 60, () => page.waitForTimeout(30));
  await measure('the cursor moves over the curves', 60, (i) =>
    page.mouse.move(box.x + 60 + (i * (box.width - 80)) / 60, box.y + 100),
  );
  await measure('zoomed in and out by keys', 24, async (i) => {
    if (i === 0) await page.getByRole('application', { name: /^Reward by step/ }).focus();
    await page.keyboard.press(i % 12 < 6 ? '+' : '-');
  });
  await page.keyboard.press('Escape');
  await measure('smoothing is dragged', 30, async (i) => {
    if (i === 0) await page.getByRole('slider', { name: /Smoothing/ }).focus();
    await page.keyboard.press('ArrowRight');
  });
  await measure('scrolled through all charts', 60, () => page.mouse.wheel(0, 60));
  clearInterval(growing);

  const worst = (list: number[]) => Math.max(...list);
  const middle = (list: number[]) => [...list].sort((a, b) => a - b)[list.length >> 1]!;
  const cell = (value: number) => value.toFixed(1).padStart(7);
  process.stdout.write(
    `A run of 10,000 steps and ${Object.keys(rows.at(-1)).length} metrics, growing; milliseconds a frame\n\n`,
  );
  process.stdout.write('  work: median    worst   until the next frame is done: median    worst\n');
  for (const { what, work, between } of results)
    process.stdout.write(
      `       ${cell(middle(work))}  ${cell(worst(work))}                                ${cell(middle(between))}  ${cell(worst(between))}   ${what}\n`,
    );
  const slow = results.filter(({ work }) => worst(work) > LIMIT);
  process.stdout.write(
    `\n${slow.length === 0 ? `Every frame's work stayed under ${LIMIT} ms.` : `Above ${LIMIT} ms: ${slow.map(({ what }) => what).join('; ')}.`}\n`,
  );
  process.exitCode = slow.length === 0 ? 0 : 1;
} finally {
  await browser.close();
  await studio.kill();
  rmSync(folder, { recursive: true, force: true });
}
