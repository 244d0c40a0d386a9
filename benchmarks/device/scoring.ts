// Rewards and detectors on the device beside the CPU, on the same pictures.
import { generate } from '@rldf/models';
import { free } from '@rldf/torch';
import { loadDetector, loadReward } from 'rldf';
import { cards } from 'rldf/rewards';
import { loadEmoji, unload } from './drawing.js';
import { type CheckOptions, differences, type Found } from './row.js';

const prompts = [
  'a cat to the left of a dog',
  'a dog above a cat',
  'a cow below a horse',
  'a fish to the right of a bird',
];

export async function* scores({ device, smoke }: CheckOptions): Found {
  const pipeline = loadEmoji('cpu');
  const asked = smoke ? prompts.slice(0, 1) : [...prompts, ...prompts, ...prompts, ...prompts];
  const seeds = asked.map((_, i) => i);
  const drawn = await generate(pipeline, { prompts: asked, seeds, steps: smoke ? 2 : 10, guidanceScale: 3 });
  unload(pipeline);
  const there = drawn.images.to(device);
  for (const name of Object.keys(cards)) {
    try {
      const both: number[][] = [];
      for (const [place, images] of [['cpu', drawn.images] as const, [device, there] as const]) {
        const reward = await loadReward(name, place);
        both.push(await reward.score({ images, prompts: asked, meta: asked.map(() => null) }));
      }
      const [reference, scored] = both as [number[], number[]];
      const { largest, equal } = differences(scored, reference);
      const spread = Math.max(...reference) - Math.min(...reference);
      yield {
        what: name,
        values: { 'largest difference': largest, 'spread of the scores': spread, 'equal scores': equal },
      };
    } catch (error) {
      yield { what: name, values: {}, problem: (error as Error).stack ?? String(error) };
    }
  }
  for (const name of ['detector', 'judge-detector']) {
    try {
      const [reference, found] = (['cpu', device] as const).map((place) =>
        loadDetector(name, undefined, place).detect(place === 'cpu' ? drawn.images : there),
      );
      const boxes = (all: typeof reference) =>
        (all ?? []).flatMap((list) => list.map(({ label, box, score }) => ({ label, box, score })));
      const [a, b] = [boxes(found), boxes(reference)];
      const same = a.length === b.length && a.every(({ label }, i) => label === b[i]?.label);
      const confidence = same
        ? differences(
            a.map(({ score }) => score),
            b.map(({ score }) => score),
          ).largest
        : Number.NaN;
      yield {
        what: name,
        values: {
          'largest difference': same ? confidence : `${a.length} boxes instead of ${b.length}`,
          'spread of the scores': '',
          'equal scores': `${b.length} boxes, ${same ? 'all' : 'not all'} found with the same labels`,
        },
      };
    } catch (error) {
      yield { what: name, values: {}, problem: (error as Error).stack ?? String(error) };
    }
  }
  free([drawn, there]);
}
