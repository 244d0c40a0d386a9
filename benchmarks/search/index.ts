// What `rldf search` finds in held-out pictures of the built-in world, how soon, and what its pictures are worth: controls beside
// plain re-seeding, balance, sliders, concept ablation, semantic locality. --nouns N takes the first N of 24 inputs; --smoke draws in
// one step. Goes on below runs/search where it was stopped; --page writes docs/results/search.{md,json}.
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { backgrounds } from '@rldf/emoji-world';
import { openRecogniser, openSource } from '@rldf/search';
import { threads, UserError } from '@rldf/torch';
import { readGrammar } from 'rldf';
import { grammarPath } from 'rldf/cli';
import { replaceFile } from 'rldf/run';
import { flag, type OptionsOf, range, whole } from '../shared/options.js';
import type { Result } from '../shared/rows.js';
import { heldOutInputs, kindOf, manyInputs } from './inputs.js';
import { neighbourDistances, type PicturesToGoal, picturesToGoal } from './orders.js';
import { type InputSearches, pageOf, resultsOf } from './page.js';
import { openReader } from './reader.js';
import { recognition } from './recognition.js';
import { type Searched, searched, type Tools } from './searched.js';

const runs = fileURLToPath(new URL('../../runs', import.meta.url));
const page = fileURLToPath(new URL('../../docs/results/search', import.meta.url));

/** Pictures of each art set and style. */
const RECOGNISED = 60;

export const options = {
  nouns: whole('how many inputs; default: 12'),
  seeds: range('of the searches; default: 0-1'),
  smoke: flag('as little as shows that it runs'),
  page: flag('writes docs/results/search'),
};

export async function run(given: OptionsOf<typeof options>): Promise<Result> {
  const { nouns: count = 12, seeds: [first, last] = [0, 1], page: writes, smoke, say } = given;
  const root = join(runs, smoke ? 'search-smoke' : 'search');
  const all = await heldOutInputs();
  if (!(count >= 1 && count <= all.length))
    throw new UserError(`bench search: --nouns ${count} — 1 to ${all.length} inputs`);
  const grammar = readGrammar(grammarPath('world'));
  const { recogniser, embedder } = openRecogniser(grammar);
  const objects = readGrammar(grammarPath('objects'));
  const tools: Tools = {
    grammar,
    objects,
    source: openSource('emoji', smoke ? { steps: 1, guidanceScale: 1 } : {}),
    drawing: smoke ? ['--denoising-steps', '1', '--guidance', '1'] : [],
    recogniser,
    read: await openReader(),
  };

  const recognised = await recognition(await manyInputs(RECOGNISED), recogniser, kindOf);
  say('pictures of every noun, verb and scene, for semantic locality');
  const locality = await neighbourDistances(tools, embedder, root);
  const inputs: InputSearches[] = [];
  for (const input of all.slice(0, count)) {
    const searches: Searched[] = [];
    for (let seed = first; seed <= last; seed++) {
      const folder = join(root, `${input.name}-seed${seed}`);
      const wholeNoun = seed === first && input.style === 'plain';
      const one = await searched(input, seed, folder, tools, wholeNoun);
      searches.push(one);
      const told =
        'refused' in one ? one.refused : `"${one.report.found.sentence}", ${one.seconds.toFixed(0)} s`;
      say(`${input.name}, ${input.caption}, ${input.art}, seed ${seed}: ${told}`);
    }
    let orders: PicturesToGoal | undefined;
    if (input.style === 'plain' && !('refused' in searches[0]!)) {
      orders = await picturesToGoal(input, first, join(root, `${input.name}-seed${first}`), tools, embedder);
      say(`${input.name}: pictures to the goal ${JSON.stringify(orders)}`);
    }
    inputs.push({ input, searches, ...(orders === undefined ? {} : { orders }) });
  }
  const looks = [...objects.productions.get('Look')!].flatMap((one) =>
    one.kind === 'words' ? [one.means] : [],
  );
  const data = resultsOf(inputs, recognised, locality, { grammar, scenes: backgrounds, looks });
  const text = pageOf(data, { flags: `--nouns ${count} --seeds ${first}-${last}`, threads: threads() });
  if (writes && !smoke) {
    replaceFile(`${page}.json`, `${JSON.stringify(data, null, 2)}\n`);
    replaceFile(`${page}.md`, text);
  }
  return { data, text };
}
