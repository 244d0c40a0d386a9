// The quickstart with ten fresh seeds: does the interval of its report exclude 0?
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { loadRecipe, train } from 'rldf';
import { type OptionsOf, range } from '../shared/options.js';
import type { Result } from '../shared/rows.js';

export interface QuickstartRow {
  seed: number;
  before: number;
  after: number;
  difference: number;
  ci95: [number, number];
  excludesZero: boolean;
  seconds: number;
}

export const options = { seeds: range('default: 1-10') };

export async function run({
  seeds: [first, last] = [1, 10],
  say,
}: OptionsOf<typeof options>): Promise<Result> {
  const recipe = fileURLToPath(new URL('../../recipes/quickstart.yaml', import.meta.url));
  const rows: QuickstartRow[] = [];
  for (let seed = first; seed <= last; seed++) {
    const root = mkdtempSync(join(tmpdir(), 'rldf-quickstart-'));
    const started = performance.now();
    for await (const event of train(loadRecipe(recipe, [`seed=${seed}`]), { name: 'run', root })) {
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
        seconds: (performance.now() - started) / 1000,
      });
      say(line(rows.at(-1) as QuickstartRow));
    }
    rmSync(root, { recursive: true, force: true });
  }
  const above = rows.filter(({ ci95: [low] }) => low > 0).length;
  return {
    data: rows,
    text: `${rows.map(line).join('\n')}\nthe interval lies above 0 in ${above} of ${rows.length} runs\n`,
  };
}

function line({ seed, before, after, difference, ci95: [low, high], seconds }: QuickstartRow): string {
  const number = (value: number) => value.toFixed(3);
  return `seed ${seed}: ${number(before)} -> ${number(after)}, difference ${number(difference)} [${number(low)}, ${number(high)}], ${seconds.toFixed(0)} s`;
}
