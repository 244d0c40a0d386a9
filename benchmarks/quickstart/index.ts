// The quickstart, or another recipe, with ten fresh seeds: does the interval of its report lie above 0, and does the hack watch speak?
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { loadRecipe, train } from 'rldf';
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
};

export async function run({
  seeds: [first, last] = [1, 10],
  recipe: name = 'quickstart',
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
