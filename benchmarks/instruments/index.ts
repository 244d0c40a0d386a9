// How far the shipped instruments can be trusted: on held-out real scenes with seeds that trained nothing, as they are
// and roughened like generated pictures; then how far the two detectors agree on generated ones.
import { HashRandom, loadArt, promptScenes } from '@rldf/emoji-world';
import {
  type Detection,
  generate,
  type LocalDetector,
  loadPipeline,
  meanAveragePrecision,
} from '@rldf/models';
import { free, scope, setThreads, tensor } from '@rldf/torch';
import { findModel, instrumentCard, instrumentFile, listInstruments, loadDetector } from 'rldf';
import { featureStatistics, frechetDistance, kernelDistance, SceneClassifier, styleLabels } from 'rldf/eval';
import {
  bootstrapAveragePrecision,
  detectionBatch,
  FLATTEN,
  findAll,
  fitPatchBasis,
  imagesOf,
  matchesOf,
  measureClassifier,
  NounClassifier,
  objectsRight,
  quantise,
  relationRight,
  relationWorld,
  roughen,
} from 'rldf/pretrain';
import { feedbackRows } from '../feedback/index.js';
import { type OptionsOf, whole } from '../shared/options.js';
import { median, type Result } from '../shared/rows.js';
import { wilson } from '../shared/statistics.js';

export interface InstrumentRow {
  instrument: string;
  measure: string;
  value: number;
  ci95?: [low: number, high: number];
  /** `share`, `ms`, ... */
  unit: string;
  /** Pictures, pairs, ... behind the value. */
  count: number;
}

/** Scenes of these seeds trained nothing. */
const HELD_OUT = 7001;

/** Each adds its rows; an instrument that is not here is left out. */
const sections: { needs: string[]; rows(pictures: number): Promise<InstrumentRow[]> }[] = [
  { needs: ['detector'], rows: (pictures) => detectorRows('detector', pictures) },
  { needs: ['judge-detector'], rows: (pictures) => detectorRows('judge-detector', pictures) },
  { needs: ['detector', 'judge-detector'], rows: agreementRows },
  { needs: ['judge'], rows: classifierRows },
  { needs: ['style'], rows: styleRows },
  { needs: [], rows: (pictures) => feedbackRows(Math.ceil(pictures / 2)) },
];

export const options = { pictures: whole('per measure; default: 1536') };

export async function run({ say, pictures = 1536 }: OptionsOf<typeof options>): Promise<Result> {
  setThreads(1);
  const here = listInstruments();
  const rows: InstrumentRow[] = [];
  for (const { needs, rows: measure } of sections) {
    const missing = needs.filter((name) => !here.includes(name));
    if (missing.length > 0) say(`skipped: no ${missing.join(', ')}`);
    else rows.push(...(await measure(pictures)));
  }
  return { data: rows, text: rows.map(line).join('') };
}

function line({ instrument, measure, value, ci95, unit, count }: InstrumentRow): string {
  const shown = (x: number) => (unit === 'share' ? `${(100 * x).toFixed(1)} %` : x.toPrecision(3));
  const interval = ci95 === undefined ? '' : ` [${shown(ci95[0])}, ${shown(ci95[1])}]`;
  return `${instrument.padEnd(28)} ${measure.padEnd(34)} ${shown(value)}${unit === 'share' ? '' : ` ${unit}`}${interval}, n = ${count}\n`;
}

const shareRow = (instrument: string, measure: string, right: number, count: number): InstrumentRow => ({
  instrument,
  measure,
  value: right / count,
  ci95: wilson(right, count),
  unit: 'share',
  count,
});

async function detectorRows(name: 'detector' | 'judge-detector', pictures: number): Promise<InstrumentRow[]> {
  const detector = loadDetector(name);
  const { threshold = 0.5 } = instrumentCard(name);
  const art = await loadArt('noto');
  const basis = fitPatchBasis(art, HELD_OUT, 32, FLATTEN, 1600);
  const split = 'test';
  const found = await findAll(detector, { split, seed: HELD_OUT, pictures });
  const rough = await findAll(detector, {
    split,
    seed: HELD_OUT,
    pictures,
    redraw: (drawn) => scope(() => quantise(roughen(imagesOf(drawn), basis, HELD_OUT, 0))),
  });
  const pairs = await findAll(detector, {
    split,
    seed: HELD_OUT,
    pictures: pictures / 2,
    world: relationWorld,
  });
  const precision = (measure: string, list: typeof found): InstrumentRow => ({
    instrument: name,
    measure,
    value: meanAveragePrecision(matchesOf(list)),
    ci95: bootstrapAveragePrecision(matchesOf(list), 1),
    unit: 'share',
    count: list.length,
  });
  const share = (measure: string, list: typeof found, right: typeof objectsRight) =>
    shareRow(name, measure, list.filter((one) => right(one, threshold)).length, list.length);
  return [
    precision('mAP50', found),
    precision('mAP50, roughened', rough),
    share('objects exact', found, objectsRight),
    share('objects exact, roughened', rough, objectsRight),
    share('relation', pairs, relationRight),
    ...[1, 32].map((batch) => speedRow(name, detector, batch)),
  ];
}

function speedRow(instrument: string, detector: LocalDetector, batch: number): InstrumentRow {
  const random = new HashRandom(1);
  const images = tensor(
    Uint8Array.from({ length: batch * 64 * 64 * 3 }, () => random.integer(256)),
    { shape: [batch, 64, 64, 3] },
  );
  const times = Array.from({ length: 12 }, () => {
    const start = performance.now();
    scope(() => detector.detect(images));
    return (performance.now() - start) / batch;
  }).slice(2);
  free(images);
  return {
    instrument,
    measure: `time a picture, ${batch} at once`,
    value: median(times),
    unit: 'ms',
    count: 10,
  };
}

/** Drawn with the shipped model: do the two detectors, which share nothing, see the same? */
async function agreementRows(pictures: number): Promise<InstrumentRow[]> {
  const pipeline = loadPipeline(findModel('emoji').path);
  const detectors = [loadDetector('detector'), loadDetector('judge-detector')];
  const rows: InstrumentRow[] = [];
  for (const kind of ['single', 'relation'] as const) {
    const prompts = promptScenes('test', kind).slice(0, Math.min(128, Math.ceil(pictures / 8)));
    const drawn = await generate(pipeline, {
      prompts: prompts.map(({ prompt }) => prompt),
      seeds: prompts.map((_, i) => i),
    });
    const [first = [], second = []] = detectors.map((detector) => detector.detect(drawn.images));
    free(drawn);
    const names = (list: Detection[] = []) =>
      list
        .map(({ label }) => label)
        .toSorted()
        .join();
    const same = first.filter((list, i) => names(list) === names(second[i])).length;
    rows.push(shareRow('detector, judge-detector', `same objects, generated ${kind}`, same, first.length));
  }
  return rows;
}

async function classifierRows(pictures: number): Promise<InstrumentRow[]> {
  const { single, all } = await measureClassifier(
    NounClassifier.load(instrumentFile('judge')),
    HELD_OUT,
    pictures,
  );
  return [
    shareRow('judge', 'noun, plain', Math.round(single * pictures), pictures),
    shareRow('judge', 'noun, all', Math.round(all * pictures), pictures),
  ];
}

async function styleRows(pictures: number): Promise<InstrumentRow[]> {
  const network = SceneClassifier.load(instrumentFile('style'));
  const art = await loadArt('noto');
  const basis = fitPatchBasis(art, HELD_OUT, 32, FLATTEN, 1600);
  const features: Record<'test' | 'validation' | 'rough', number[][]> = {
    test: [],
    validation: [],
    rough: [],
  };
  let right = 0;
  const asTensor = (list: readonly Uint8Array[]) =>
    tensor(Uint8Array.from(list.flatMap((picture) => [...picture])), { shape: [list.length, 64, 64, 3] });
  for (let start = 0; start < pictures; start += 64) {
    scope(() => {
      const test = detectionBatch(art, 'test', HELD_OUT, start, 64);
      const other = detectionBatch(art, 'validation', HELD_OUT + 1, start, 64);
      const styles = network.styles(asTensor(test.pictures));
      right += test.scenes.filter(({ style }, i) => (style ?? styleLabels[0]) === styles[i]).length;
      features.test.push(...network.featuresOf(asTensor(test.pictures)));
      features.validation.push(...network.featuresOf(asTensor(other.pictures)));
      const rough = quantise(roughen(imagesOf(other.pictures), basis, HELD_OUT, start));
      features.rough.push(...network.featuresOf(asTensor(rough)));
    });
  }
  const count = features.test.length;
  const distances = (to: 'validation' | 'rough', what: string): InstrumentRow[] =>
    scope(() => {
      const [a, b] = [tensor(features.test), tensor(features[to])];
      const { value, standardError } = kernelDistance(a, b);
      const fid = frechetDistance(featureStatistics(a), featureStatistics(b));
      const ci95: [number, number] = [
        1000 * (value - 1.96 * standardError),
        1000 * (value + 1.96 * standardError),
      ];
      return [
        { instrument: 'style', measure: `FID, ${what}`, value: fid, unit: '', count },
        { instrument: 'style', measure: `KID, ${what}`, value: 1000 * value, ci95, unit: '/ 1000', count },
      ];
    });
  return [
    shareRow('style', 'style of noto scenes', right, count),
    ...distances('validation', 'two sets of real scenes'),
    ...distances('rough', 'real and roughened scenes'),
  ];
}
