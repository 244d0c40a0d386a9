/** A search in words, for the terminal. */

import type { SetMeasures } from '../pictures/final-pictures.js';
import type { SearchReport } from './search-report.js';

const longestPath = 24;

export function describeSearch(result: SearchReport): string {
  const { recognised, world, found, measures, cost, path, finals, zeroSearch } = result;
  const seen = Object.entries(recognised).map(
    ([axis, { meaning, confidence }]) => `${axis} ${meaning} (${confidence.toFixed(2)})`,
  );
  const axes = Object.entries(world.axes).map(([axis, values]) => `${values.length} ${axis}`);
  const shown = path.length <= longestPath ? path : [...path.slice(0, 12), undefined, ...path.slice(-8)];
  const until =
    cost.untilGoal === null ? '' : `, ${cost.untilGoal.drawn} drawn, ${cost.untilGoal.seconds.toFixed(1)} s`;
  const hit =
    measures.firstHit === null
      ? `the goal was not reached in ${measures.steps} steps`
      : `goal reached after ${measures.firstHit} steps, ${measures.distinctPictures} distinct pictures looked at${until}`;
  const lines = [
    `recognised   ${seen.join(', ')}`,
    `world        ${world.states} states: ${axes.join(' x ')}`,
    `start        ${result.start.sentence}`,
    `${found.isGoal ? 'found       ' : 'best so far '} ${found.sentence}`,
    `search       ${result.agent}, ${measures.steps} steps: ${hit}`,
    `             enumeration needs ${result.enumerationPictures} pictures on average; drawing the recognised sentence at once, 1`,
    ...(result.learned === false
      ? ['             the learned policy does not lead to the goal yet: give more --steps with --resume']
      : []),
    ...(result.plateaus > 0 ? [`             ${result.plateaus} steps on a plateau led nowhere`] : []),
    `cost         ${cost.drawn} pictures drawn, ${cost.remembered} remembered; ${seconds(cost.drawingSeconds)} drawing, ${seconds(cost.recognisingSeconds)} recognising, ${seconds(cost.seconds)} in all`,
    'path',
    ...shown.map((step) =>
      step === undefined ? '  ...' : `  ${step.reward.toFixed(2).padStart(6)}  ${step.sentence}`,
    ),
    ...zeroSearch.map(
      ({ arm, sentence, reward, matches }) =>
        `zero search  ${arm}: "${sentence}", reward ${reward.toFixed(2)}, ${matches ? 'objects and scene as in the input' : 'not as the input'}`,
    ),
    `pictures     with controls: ${measured(finals.diverse)}`,
    `             plain re-seeding: ${measured(finals.reseeded)}`,
    ...styleLines(result),
    ...result.slides.map(
      ({ axis, moved, held }) =>
        `slide        ${axis}: recognised as asked in ${percent(moved)}, the other axes held in ${percent(held)}`,
    ),
    `files        ${result.files.join(', ')}`,
  ];
  return `${lines.join('\n')}\n`;
}

/** Concept ablation: the found sentence names no style, so the input's is not kept. */
function styleLines({ finals: { inputStyle, reseeded } }: SearchReport): string[] {
  if (inputStyle === null || reseeded.judged === undefined) return [];
  const styles = Object.entries(reseeded.judged.styles).map(([style, count]) => `${style} ${count}`);
  return [`style        of the input: ${inputStyle}; of re-seeded pictures: ${styles.join(', ')}`];
}

function measured({ consistency, diversity, judged }: SetMeasures): string {
  const own = `class ${percent(consistency)}, diversity ${number(diversity)}`;
  if (judged === undefined) return own;
  return `${own}; by the judge: class ${percent(judged.consistency)}, diversity ${number(judged.diversity)}`;
}

const percent = (share: number | null) => (share === null ? '-' : `${Math.round(100 * share)} %`);
const number = (value: number | null) => (value === null ? '-' : value.toFixed(3));
const seconds = (value: number) => `${value.toFixed(1)} s`;
