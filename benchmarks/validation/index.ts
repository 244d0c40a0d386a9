// What a base model can draw, and what its text encoder tells, on validation prompts by the detector that gives feedback:
// the measure that chooses among trainings. The judges and the test prompts of `rldf eval` choose nothing.
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { planOf, promptScenes, type SceneKind, type SetPrompt } from '@rldf/emoji-world';
import { type Detection, generate, loadPipeline, type Pipeline } from '@rldf/models';
import { free } from '@rldf/torch';
import { findModel, loadDetector, type Picture, picturesOf } from 'rldf';
import { colourOf, spatialVerdict } from 'rldf/eval';
import { writeSheet } from 'rldf/pretrain';
import { type OptionsOf, output, text, whole } from '../shared/options.js';
import type { Result } from '../shared/rows.js';
import { wilson } from '../shared/statistics.js';
import { probeText } from './text-probe.js';

export const options = {
  output,
  model: text('MODEL', 'shipped model or folder; default: emoji'),
  prompts: whole('at most so many of each kind; default: 256'),
};

const GUIDANCE = 3;
const STEPS = 14;
/** Apart from the seeds of every test. */
const FIRST_SEED = 5000;
const BATCH = 64;

interface Drawn {
  prompt: SetPrompt;
  picture: Picture;
  found: readonly Detection[];
}

export async function run({
  model = 'emoji',
  output,
  prompts = 256,
  say,
}: OptionsOf<typeof options>): Promise<Result> {
  const pipeline = loadPipeline(findModel(model).path);
  const detector = loadDetector('detector');
  const rows: Row[] = [];
  const tell = (name: string, right: number, total: number) => {
    const row = { name, share: right / total, ci95: wilson(right, total), pictures: total };
    rows.push(row);
    say(line(row));
  };
  const add = (name: string, holds: readonly boolean[]) =>
    tell(name, holds.filter(Boolean).length, holds.length);
  const draw = async (kind: SceneKind) => {
    const drawn = await drawKind(pipeline, detector.detect, kind, prompts);
    if (output !== undefined) {
      mkdirSync(output, { recursive: true });
      const shown = drawn.slice(0, 48).map(({ picture }) => picture.data);
      await writeSheet(join(output, `${kind}.png`), shown, 12);
    }
    return drawn;
  };

  const pairs = (await draw('relation')).map(({ prompt, found }) => spatialVerdict(prompt, found));
  const both = pairs.filter(({ bothPresent }) => bothPresent);
  add(
    'both present',
    pairs.map(({ bothPresent }) => bothPresent),
  );
  add(
    'exactly one of each',
    pairs.map(({ oneEach }) => oneEach),
  );
  add(
    'relation right given both',
    both.map(({ relation }) => relation === true),
  );
  add(
    'IP-RLDF accuracy',
    pairs.map(({ oneEach, relation }) => oneEach && relation === true),
  );
  const nounOf = ({ prompt }: Drawn) => prompt.scene.objects[0]?.noun;
  const best = (drawn: Drawn) => drawn.found.find(({ label }) => label === nounOf(drawn));
  add(
    'single',
    (await draw('single')).map((drawn) => drawn.found[0]?.label === nounOf(drawn)),
  );
  const coloured = await draw('colour');
  add(
    'noun of a coloured one',
    coloured.map((drawn) => best(drawn) !== undefined),
  );
  add(
    'colour right',
    coloured.map((drawn) => {
      const object = best(drawn);
      return (
        object !== undefined && colourOf(drawn.picture, object.box) === drawn.prompt.scene.objects[0]?.colour
      );
    }),
  );
  const counted = await draw('count');
  const asked = ({ prompt }: Drawn) => planOf(prompt.scene).count;
  const told = (drawn: Drawn) =>
    drawn.found.filter(({ label }) => label === nounOf(drawn)).length === asked(drawn);
  add('count exact', counted.map(told));
  for (const number of [2, 3, 4]) {
    add(`count exact, ${number}`, counted.filter((drawn) => asked(drawn) === number).map(told));
  }
  const activities = await draw('activity');
  const there = ({ prompt, found }: Drawn) =>
    prompt.scene.objects.every(({ noun }) => found.some(({ label }) => label === noun));
  add('animal and the prop of its activity', activities.map(there));
  add(
    'noun on a background',
    (await draw('background')).map((drawn) => best(drawn) !== undefined),
  );
  for (const { name, right, total } of probeText(pipeline)) tell(name, right, total);
  return { data: { model, rows }, text: `${rows.map(line).join('\n')}\n` };
}

interface Row {
  name: string;
  share: number;
  /** Wilson, over pictures. */
  ci95: [number, number];
  pictures: number;
}

const line = ({ name, share, ci95: [low, high], pictures }: Row) =>
  `${name}: ${share.toFixed(3)} [${low.toFixed(3)}, ${high.toFixed(3)}] of ${pictures}`;

async function drawKind(
  pipeline: Pipeline,
  detect: ReturnType<typeof loadDetector>['detect'],
  kind: SceneKind,
  most: number,
): Promise<Drawn[]> {
  const prompts = promptScenes('validation', kind).slice(0, most);
  const drawn: Drawn[] = [];
  for (let start = 0; start < prompts.length; start += BATCH) {
    const batch = prompts.slice(start, start + BATCH);
    const made = await generate(pipeline, {
      prompts: batch.map(({ prompt }) => prompt),
      seeds: batch.map((_, i) => FIRST_SEED + start + i),
      steps: STEPS,
      guidanceScale: GUIDANCE,
      eta: 0,
    });
    const found = detect(made.images);
    const pictures = picturesOf(made.images);
    drawn.push(
      ...batch.map((prompt, i) => ({
        prompt: { ...prompt, group: kind },
        picture: pictures[i] as Picture,
        found: found[i] as readonly Detection[],
      })),
    );
    free(made);
  }
  return drawn;
}
