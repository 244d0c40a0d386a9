// Numbers over inputs and seeds with their intervals, and the page that tells them.

import { type AxisOrder, axisOrders } from '@rldf/search';
import { noiseKey, Random } from '@rldf/torch';
import { bootstrapMean, bootstrapSeedsAndPrompts, type Grammar, mean, quantile } from 'rldf';
import { markdownTable, provenance } from '../shared/page.js';
import { type Input, kindOf } from './inputs.js';
import {
  ablationMeasures,
  balanceMeasures,
  finalMeasures,
  searchMeasures,
  slideMeasures,
} from './measures.js';
import { comparedOrders, type NeighbourDistances, type PicturesToGoal } from './orders.js';
import type { Recognised } from './recognition.js';
import type { Found, Searched } from './searched.js';

export interface InputSearches {
  input: Input;
  /** One a seed. */
  searches: Searched[];
  orders?: PicturesToGoal;
}

/** A mean over inputs, of each its mean over seeds; bootstrap over inputs and over the seeds within each drawn input. */
export interface Value {
  mean: number;
  ci95: [low: number, high: number];
  inputs: number;
}

/** Two ways on the same inputs and seeds. */
interface Pair {
  first: Value;
  second: Value;
  /** First minus second. */
  difference: Value;
}

const random = () => new Random(noiseKey(0, 'bench-search'));

/** @param rows one an input, one entry a seed; what is null does not count. Null where nothing does. */
export function intervalOf(rows: readonly (readonly (number | null)[])[]): Value | null {
  const counting = rows
    .map((row) => row.filter((value): value is number => value !== null))
    .filter((row) => row.length > 0);
  if (counting.length === 0) return null;
  const { mean, interval } = bootstrapSeedsAndPrompts(counting, { random: random() });
  return { mean, ci95: interval, inputs: counting.length };
}

/** @param rows one an input, one pair a seed */
function pairOf(rows: readonly (readonly (readonly [number | null, number | null])[])[]): Pair | null {
  const counting = rows.map((row) =>
    row.filter((pair): pair is [number, number] => pair[0] !== null && pair[1] !== null),
  );
  const [first, second, difference] = [
    intervalOf(counting.map((row) => row.map(([a]) => a))),
    intervalOf(counting.map((row) => row.map(([, b]) => b))),
    intervalOf(counting.map((row) => row.map(([a, b]) => a - b))),
  ];
  return first === null || second === null || difference === null ? null : { first, second, difference };
}

export type Results = ReturnType<typeof resultsOf>;

export function resultsOf(
  inputs: readonly InputSearches[],
  recognition: Record<string, Recognised>,
  locality: NeighbourDistances,
  { grammar, scenes, looks }: { grammar: Grammar; scenes: readonly string[]; looks: readonly string[] },
) {
  const found = inputs.flatMap(({ input, searches }) => {
    const some = searches.filter((one): one is Found & { seed: number } => !('refused' in one));
    return some.length === 0 ? [] : [{ input, some }];
  });
  /** One value a search, by the measure's name. */
  const values = (of: (one: Found, input: Input) => Record<string, number | null>, kind?: string) => {
    const rows = found
      .filter(({ input }) => kind === undefined || kindOf(input) === kind)
      .map(({ input, some }) => some.map((one) => of(one, input)));
    const names = Object.keys(rows[0]?.[0] ?? {});
    return Object.fromEntries(
      names.map((name) => [name, intervalOf(rows.map((row) => row.map((one) => one[name]!)))]),
    );
  };
  const pairs = <Way extends string>(
    of: (one: Found) => Record<string, Record<Way, number | null>>,
    [a, b]: readonly [Way, Way],
  ) => {
    const rows = found.map(({ some }) => some.map((one) => of(one)));
    return Object.fromEntries(
      Object.keys(rows[0]?.[0] ?? {}).map((name) => [
        name,
        pairOf(rows.map((row) => row.map((one) => [one[name]![a], one[name]![b]] as const))),
      ]),
    );
  };
  const kinds = [...new Set(inputs.map(({ input }) => kindOf(input)))];
  const slides = found.map(({ some }) => some.map((one) => slideMeasures(one, grammar)));
  const axes = [...new Set(slides.flat().flatMap((one) => Object.keys(one)))];
  const seconds = found.flatMap(({ some }) => some.map((one) => one.seconds)).sort((a, b) => a - b);
  const orders = inputs.flatMap((one) => (one.orders === undefined ? [] : [one.orders]));

  return {
    inputs: inputs.map(({ input: { name, caption, art, style }, searches }) => ({
      ...{ name, caption, art, style },
      searches: searches.map((one) =>
        'refused' in one
          ? one
          : {
              seed: one.seed,
              found: one.report.found.sentence,
              seconds: one.seconds,
              untilGoal: one.report.cost.untilGoal,
            },
      ),
    })),
    seeds: inputs[0]!.searches.length,
    refused: inputs.flatMap(({ searches }) => searches).filter((one) => 'refused' in one).length,
    searches: inputs.flatMap(({ searches }) => searches).length,
    secondsOfCommand:
      seconds.length === 0
        ? null
        : { median: quantile(seconds, 0.5), ninetieth: quantile(seconds, 0.9), most: seconds.at(-1)! },
    recognition,
    search: values(searchMeasures),
    searchByKind: Object.fromEntries(kinds.map((kind) => [kind, values(searchMeasures, kind)])),
    finals: pairs((one) => finalMeasures(one, grammar), ['controlled', 'reseeded']),
    balance: pairs((one) => balanceMeasures(one, scenes, looks), ['controlled', 'silent']),
    slides: Object.fromEntries(
      axes.map((axis) => {
        const rows = slides.map((row) => row.flatMap((one) => one[axis] ?? []));
        return [
          axis,
          {
            values: rows.flat()[0]!.values,
            moved: intervalOf(rows.map((row) => row.map(({ moved }) => moved))),
            held: pairOf(rows.map((row) => row.map(({ held, unmoved }) => [held, unmoved] as const))),
          },
        ];
      }),
    ),
    ablation: Object.fromEntries(
      kinds
        .filter((kind) => kind !== 'openmoji') // the style network does not know it
        .map((kind) => [kind, values(ablationMeasures, kind)]),
    ),
    locality: Object.fromEntries(
      Object.entries(locality).map(([axis, judges]) => [
        axis,
        Object.fromEntries(Object.entries(judges).map(([judge, distances]) => [judge, relative(distances)])),
      ]),
    ),
    orders: {
      pictures: Object.fromEntries(
        comparedOrders.map((order) => [order, intervalOf(orders.map((one) => one[order]))]),
      ),
      clipMinus: Object.fromEntries(
        (['file', 'shuffled'] as const).map((order) => [
          order,
          intervalOf(orders.map((one) => one.clip.map((pictures, i) => pictures - one[order][i]!))),
        ]),
      ),
    },
  };
}

/** Mean distance of neighbours, divided by that of any two values; interval over the pairs of neighbours. */
function relative(distances: Record<AxisOrder, number[]>): Record<AxisOrder, Value> {
  const any = mean(distances.shuffled);
  return Object.fromEntries(
    axisOrders.map((order) => {
      const shares = distances[order].map((distance) => distance / any);
      if (order === 'shuffled') return [order, { mean: 1, ci95: [1, 1], inputs: shares.length }];
      const { mean: value, interval } = bootstrapMean(shares, { random: random() });
      return [order, { mean: value, ci95: interval, inputs: shares.length }];
    }),
  ) as Record<AxisOrder, Value>;
}

const number = (value: number) => (Math.abs(value) >= 10 ? value.toFixed(0) : value.toFixed(2));
const cell = (value: Value | null | undefined) =>
  value === null || value === undefined
    ? '-'
    : `${number(value.mean)} [${value.ci95.map(number).join(', ')}]`;

function pairTable(head: readonly string[], rows: Readonly<Record<string, Pair | null>>): string {
  const lines = Object.entries(rows).map(([name, pair]) => [
    name,
    cell(pair?.first),
    cell(pair?.second),
    cell(pair?.difference),
  ]);
  return markdownTable(['', ...head, 'difference'], lines);
}

export function pageOf(data: Results, { flags, threads }: { flags: string; threads: number }): string {
  const { secondsOfCommand: seconds, searchByKind, ablation, locality, orders } = data;
  const kinds = Object.keys(searchByKind);
  const names = Object.keys(data.search);
  const searches = markdownTable(
    ['', 'all', ...kinds],
    names.map((name) => [
      name,
      cell(data.search[name]),
      ...kinds.map((kind) => {
        const value = searchByKind[kind]![name];
        return value === null || value === undefined ? '-' : number(value.mean);
      }),
    ]),
  );
  const shares = ['noun', 'scene', 'both', 'refused'] as const;
  const recognised = markdownTable(
    ['input', 'pictures', 'noun right', 'scene right', 'both, and searched for', 'refused'],
    Object.entries(data.recognition).map(([kind, of]) => [
      kind,
      `${of.pictures}`,
      ...shares.map((name) => cell({ mean: of[name].share, ci95: of[name].ci95, inputs: of.pictures })),
    ]),
  );
  const slides = markdownTable(
    [
      'axis',
      'values',
      'shown as asked',
      'chance',
      'others as asked, moved',
      'others as asked, unmoved',
      'difference',
    ],
    Object.entries(data.slides).map(([axis, { values, moved, held }]) => [
      axis,
      `${values}`,
      cell(moved),
      number(1 / values),
      cell(held?.first),
      cell(held?.second),
      cell(held?.difference),
    ]),
  );
  const ablations = markdownTable(
    ['input', 'class of the input in the pictures', 'style or art of the input: in it', 'in the pictures'],
    Object.entries(ablation).map(([kind, of]) => [kind, cell(of.class), cell(of.before), cell(of.after)]),
  );
  const localities = markdownTable(
    ['axis', 'looked at by', ...axisOrders],
    Object.entries(locality).flatMap(([axis, judges]) =>
      Object.entries(judges).map(([judge, of]) => [
        axis,
        judge,
        ...axisOrders.map((order) => cell(of[order])),
      ]),
    ),
  );
  const toGoal = markdownTable(
    ['order', 'distinct pictures until the goal', 'clip minus it'],
    comparedOrders.map((order) => [
      order,
      cell(orders.pictures[order]),
      order === 'clip' ? '-' : cell(orders.clipMinus[order]),
    ]),
  );
  return `# What a search finds, and what its pictures are worth

\`npm run bench -- search ${flags} --page\` (numbers: [search.json](search.json)). ${provenance(threads)} How a search works:
[docs/methods/rldf.md](../methods/rldf.md); its agents beside others: [rldf.md](rldf.md).

Inputs: held-out scenes of the test split, in turns scenes (one object, people, activities) in one of the four art sets and scenes in the base
model's art with one of the three styles. Each is searched for by \`rldf search --image FILE --seed N --json\` with defaults, from nothing
drawn. What is in pictures is read by judges that share nothing with the search: the judge detector (objects, numbers) and the style network
(scene, style, art). Intervals: 95 % bootstrap over inputs, and over seeds within each drawn input.

## The search

${data.refused} of ${data.searches} searches were refused because the input was recognised below the confidence of 0.3; they are in no table below.
${
  seconds === null
    ? ''
    : `The whole command, from start to written files, took ${number(seconds.median)} s (median), ${number(seconds.ninetieth)} s (90 % of them), ${number(seconds.most)} s at most.`
}

${searches}

"Right": as the scene was made. The search finds what was *recognised*: where noun or scene is wrong, the recogniser was. The last row is what
one picture gives, drawn from the recognised sentence at once.

More inputs, recognised only: the goal of a search is what is recognised, so these are the shares of pictures whose noun and scene a search
can find. Wilson's 95 % intervals.

${recognised}

## Final pictures: controls drawn, or other seeds only

Eight of each per search. Diversity: mean 1 - cosine between pictures.

${pairTable(['controls drawn', 'other seeds only'], data.finals)}

## Balance

The found noun alone (grammar \`objects\`), 16 pictures each: with scene and look drawn uniformly, and without a word about them. Imbalance: half
the summed difference from equal shares; 0 when every value is seen equally often.

${pairTable(['controls drawn', 'not said'], data.balance)}

## Sliders

One axis moved over all its values, seed and the rest held. "Others": share of the other axes that a picture shows as asked, where the slid axis
left the found value, beside pictures of the found sentence. Noun (${data.slides.Noun?.values ?? 123} values): one seed, plain inputs.

${slides}

## Concept ablation

No sentence of the grammar's axes says a style, so a found sentence cannot keep the input's. Eight pictures of it, other seeds only; the style
network names three styles and three art sets (OpenMoji it does not know; the model draws noto, so that row is what is to be kept).

${ablations}

## Semantic locality

Mean distance of neighbours on an axis, in pictures of all its values (four each, none of which made an order), divided by that of any two values:
what a shuffled order has on average. \`clip\`: ordered by CLIP's embeddings of the words; \`clip-pictures\`: of words and one picture;
\`file\`: written by hand. Intervals over pairs of neighbours.

${localities}

What it is worth to Q-learning with its defaults: three agents an input, all in the same pictures, up to their first look at the goal.

${toGoal}
`;
}
