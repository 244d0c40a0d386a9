// The quickstart, or another recipe, with ten fresh seeds: does the interval of its report lie above 0, and does the hack watch speak?
// --output docs/images draws README's picture and curve from the first of the seeds.
import { copyFileSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { contactSheet, loadRecipe, readPicture, train } from 'rldf';
import { type OptionsOf, range, text } from '../shared/options.js';
import type { Result } from '../shared/rows.js';

export interface QuickstartRow {
  seed: number;
  before: number;
  after: number;
  difference: number;
  ci95: [number, number];
  excludesZero: boolean;
  /** How often the hack watch spoke. */
  alarms: number;
  seconds: number;
}

export const options = {
  seeds: range('default: 1-10'),
  recipe: text('NAME', 'shipped recipe; default: quickstart'),
  output: text('FOLDER', 'before-after.png and curve.png of the first seed go there'),
};

/** How many test prompts README shows. */
const SHOWN = 15;

export async function run({
  seeds: [first, last] = [1, 10],
  recipe: name = 'quickstart',
  output,
  say,
}: OptionsOf<typeof options>): Promise<Result> {
  const recipe = fileURLToPath(new URL(`../../recipes/${name}.yaml`, import.meta.url));
  const rows: QuickstartRow[] = [];
  for (let seed = first; seed <= last; seed++) {
    const root = mkdtempSync(join(tmpdir(), 'rldf-quickstart-'));
    const started = performance.now();
    let alarms = 0;
    for await (const event of train(loadRecipe(recipe, [`seed=${seed}`]), { name: 'run', root })) {
      if (event.kind === 'alarm') alarms++;
      if (event.kind !== 'finished') continue;
      const { before, after, difference, ci95 } = event.report.reward;
      const [low, high] = ci95;
      const excludesZero = low > 0 || high < 0;
      rows.push({
        seed,
        before,
        after,
        difference,
        ci95: [low, high],
        excludesZero,
        alarms,
        seconds: (performance.now() - started) / 1000,
      });
      say(line(rows.at(-1) as QuickstartRow));
    }
    if (output !== undefined && seed === first) await keepPictures(join(root, 'run', 'report'), output);
    rmSync(root, { recursive: true, force: true });
  }
  const silent = rows.filter(({ alarms }) => alarms === 0).length;
  const above = rows.filter(({ ci95: [low] }) => low > 0).length;
  return {
    data: rows,
    text: `${rows.map(line).join('\n')}\nthe interval lies above 0 in ${above} of ${rows.length} runs; the hack watch is silent in ${silent}\n`,
  };
}

function line({
  seed,
  before,
  after,
  difference,
  ci95: [low, high],
  alarms,
  seconds,
}: QuickstartRow): string {
  const number = (value: number) => value.toFixed(3);
  return `seed ${seed}: ${number(before)} -> ${number(after)}, difference ${number(difference)} [${number(low)}, ${number(high)}], ${alarms} alarms, ${seconds.toFixed(0)} s`;
}

/** The first test prompts before and after, judged right (1) or wrong, and the report's curve. */
async function keepPictures(report: string, folder: string): Promise<void> {
  mkdirSync(folder, { recursive: true });
  const { pairs } = JSON.parse(readFileSync(join(report, 'evaluation.json'), 'utf8')) as {
    pairs: { prompt: string; before: string; after: string; rewardBefore: number; rewardAfter: number }[];
  };
  const verdict = (reward: number) => (reward === 1 ? 'right' : 'wrong');
  const cells = await Promise.all(
    pairs.slice(0, SHOWN).map(async ({ prompt, before, after, rewardBefore, rewardAfter }) => ({
      pictures: await Promise.all([before, after].map((file) => readPicture(join(report, file), file))),
      label: prompt,
      detail: `${verdict(rewardBefore)} → ${verdict(rewardAfter)}`,
    })),
  );
  const title = `Before and after, same noise: the first ${SHOWN} test prompts`;
  writeFileSync(join(folder, 'before-after.png'), await contactSheet(cells, { title, columns: 5 }));
  copyFileSync(join(report, 'curve.png'), join(folder, 'curve.png'));
}
