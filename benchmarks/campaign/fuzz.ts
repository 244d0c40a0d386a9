// Damaged files of every kind that rldf reads from outside, in processes under a watchdog: none may crash, hang, take
// memory beyond reason, leave anything behind, or be refused with anything but a clear UserError.
import { UserError } from '@rldf/torch';
import { type Finding, fuzz, fuzzKinds } from '../../test/fuzz/runner.js';
import type { CampaignOptions } from './main.js';

/** Cases of one seed. */
const casesPerRound = 1000;

export async function run({ count = 10_000, seed, kind, say }: CampaignOptions): Promise<boolean> {
  if (kind !== undefined && !fuzzKinds.includes(kind)) {
    throw new UserError(`campaign: there is no kind "${kind}" — one of ${fuzzKinds.join(', ')}.`);
  }
  let found = 0;
  for (const name of kind === undefined ? fuzzKinds : [kind]) {
    const findings: Finding[] = [];
    let [accepted, refused] = [0, 0];
    for (let round = 0; round * casesPerRound < count; round++) {
      const cases = Math.min(casesPerRound, count - round * casesPerRound);
      const tally = await fuzz([name], seed + round, cases);
      findings.push(...tally.findings);
      accepted += tally.accepted;
      refused += tally.refused;
    }
    say(
      `${name.padEnd(12)} seeds ${seed} to ${seed + Math.ceil(count / casesPerRound) - 1}: ${count} files, ${accepted} read, ${refused} refused, ${findings.length} findings`,
    );
    const shown = new Map<string, { times: number; text: string }>();
    for (const { finding, seed: own, case: number, file, detail } of findings) {
      const id = `${finding} ${detail.replace(/[\d.]+/g, '#').slice(-150)}`;
      const known = shown.get(id) ?? {
        times: 0,
        text: `${finding} (seed ${own}, case ${number}, ${file ?? '?'}): ${detail}`,
      };
      shown.set(id, { ...known, times: known.times + 1 });
    }
    for (const { times, text } of shown.values()) say(`  ${times} x ${text}`);
    found += findings.length;
  }
  say(
    found === 0
      ? 'nothing found'
      : `${found} findings; a case again: test/fuzz/child.ts KIND SEED CASE+1 CASE`,
  );
  return found === 0;
}
