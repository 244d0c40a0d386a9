// The quickstart with ten fresh seeds: does the interval of its report exclude 0?
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { loadRecipe, train } from 'rldf';

export interface QuickstartRow {
  seed: number;
  before: number;
  after: number;
  difference: number;
  ci95: [number, number];
  excludesZero: boolean;
  seconds: number;
}

export async function quickstart(
  recipe: string,
  firstSeed: number,
  count: number,
  log: (line: string) => void,
): Promise<QuickstartRow[]> {
  const rows: QuickstartRow[] = [];
  for (let seed = firstSeed; seed < firstSeed + count; seed++) {
    const root = mkdtempSync(join(tmpdir(), 'rldf-quickstart-'));
    const started = performance.now();
    for await (const event of train(loadRecipe(recipe, [`seed=${seed}`]), { name: 'run', root })) {
      if (event.kind !== 'finished') continue;
      const { before, after, difference, ci95 } = event.report.reward;
      const [low, high] = ci95;
      rows.push({
        seed,
        before,
        after,
        difference,
        ci95: [low, high],
        excludesZero: low > 0 || high < 0,
        seconds: (performance.now() - started) / 1000,
      });
      log(JSON.stringify(rows.at(-1)));
    }
    rmSync(root, { recursive: true, force: true });
  }
  return rows;
}
