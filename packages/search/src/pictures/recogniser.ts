/** What is in a picture, in a grammar's terms: a detector counts and names objects, CLIP chooses among the grammar's sentences. */

import { createHash } from 'node:crypto';
import { type Picture, tensorOfPictures } from '@rldf/common/base/picture';
import { type FrozenClip, idsOf, pixelsOf } from '@rldf/common/instruments/frozen-clip';
import type { Detection, Detector } from '@rldf/models';
import { noGrad, scope } from '@rldf/torch';
import { type Axis, Encoding } from '../world/encoding.js';
import type { Grammar } from '../world/grammar.js';
import type { Observation } from '../world/rewards.js';
import { resizePicture } from './image-source.js';

/** Looks at pictures. Write your own for another world: everything else of a search takes it as it is. */
export interface Recogniser {
  /** Names what it saw in the memory: change it when it would see something else. */
  readonly name: string;
  recognise(pictures: readonly Picture[]): Promise<Observation[]>;
}

/** Unit vectors of sentences and pictures in one space, and the scale that makes their cosines logits. */
export interface Embedder {
  readonly scale: number;
  texts(sentences: readonly string[]): number[][];
  pictures(pictures: readonly Picture[]): number[][];
}

/** A frozen CLIP as an embedder; sentences are encoded once. */
export function clipEmbedder(frozen: FrozenClip): Embedder {
  const known = new Map<string, number[]>();
  const rows = (flat: number[], count: number) => {
    const length = flat.length / count;
    return Array.from({ length: count }, (_, i) => flat.slice(i * length, (i + 1) * length));
  };
  return {
    scale: Math.exp(noGrad(() => frozen.clip.logitScale.toNumbers()[0]!)),
    texts(sentences) {
      const missing = [...new Set(sentences)].filter((sentence) => !known.has(sentence));
      for (let start = 0; start < missing.length; start += 64) {
        const some = missing.slice(start, start + 64);
        const flat = noGrad(() => scope(() => frozen.clip.encodeText(idsOf(frozen, some)).toNumbers()));
        for (const [i, row] of rows(flat, some.length).entries()) known.set(some[i]!, row);
      }
      return sentences.map((sentence) => known.get(sentence)!);
    },
    pictures(pictures) {
      if (pictures.length === 0) return [];
      const images = tensorOfPictures(pictures);
      try {
        const flat = noGrad(() =>
          scope(() =>
            frozen.clip
              .encodeImage(pixelsOf(frozen, images.permute([0, 3, 1, 2]).to('float32').div(255)))
              .toNumbers(),
          ),
        );
        return rows(flat, pictures.length);
      } finally {
        images.free();
      }
    },
  };
}

/** At most so many detected labels are tried as what the sentence is about. */
const mostCandidates = 4;
const sweeps = 2;

export interface ZeroShotOptions {
  embedder: Embedder;
  /** Without one CLIP names and counts the objects too. */
  detector?: Detector;
  /** Edge of the pictures that the detector sees, pixels. */
  detectorSize?: number;
  /** Part of the recogniser's name. */
  name: string;
}

/**
 * Zero-shot recognition of every axis of a grammar. The detector's labels that an object axis knows are tried as its values,
 * with their numbers; for each try CLIP walks the other axes, one after the other, to the sentence nearest the picture.
 * The try whose sentence and scores fit best is taken. Confidences: an object's score times its share among the tries; a
 * CLIP axis' share (softmax with CLIP's own scale) among its values, the rest of the sentence held.
 */
export function zeroShotRecogniser(grammar: Grammar, options: ZeroShotOptions): Recogniser {
  const encoding = new Encoding(grammar);
  const { embedder, detector, detectorSize = 64 } = options;
  const detect = async (pictures: readonly Picture[]): Promise<Detection[][]> => {
    if (detector === undefined) return pictures.map(() => []);
    const fitting = await Promise.all(pictures.map((one) => resizePicture(one, detectorSize, detectorSize)));
    const images = tensorOfPictures(fitting);
    try {
      return await detector.detect(images);
    } finally {
      images.free();
    }
  };
  return {
    name: `${options.name}, grammar ${fingerprint(grammar)}`,
    async recognise(pictures) {
      const detections = await detect(pictures);
      const sizes = new Set(pictures.map(({ width, height }) => `${width}x${height}`));
      const embeddings =
        sizes.size <= 1 ? embedder.pictures(pictures) : pictures.map((one) => embedder.pictures([one])[0]!);
      return pictures.map((_, i) =>
        understand(encoding, embedder, detections[i]!, embeddings[i]!, detector !== undefined),
      );
    },
  };
}

/** What was seen depends on the words there were to see: on everything but windows. */
function fingerprint({ start, productions, counts, objects, controls, shows }: Grammar): string {
  const listened = [
    start,
    ...[productions, shows].map((map) => [...map]),
    ...[counts, objects, controls].map((set) => [...set]),
  ];
  return createHash('sha256').update(JSON.stringify(listened)).digest('hex').slice(0, 8);
}

function understand(
  encoding: Encoding,
  embedder: Embedder,
  detections: readonly Detection[],
  embedding: readonly number[],
  detecting: boolean,
): Observation {
  const objects: Record<string, { count: number; score: number }> = {};
  for (const { label, score } of detections) {
    const known = objects[label];
    objects[label] = { count: (known?.count ?? 0) + 1, score: Math.max(score, known?.score ?? 0) };
  }
  const { shows } = encoding.grammar;
  const possible = (meaning: string) => {
    const shown = shows.get(meaning);
    return !detecting || shown === undefined || objects[shown] !== undefined;
  };
  const tries = attempts(encoding, objects, detecting).map((attempt) => {
    const free = encoding.axes.filter(({ name }) => attempt.meanings[name] === undefined);
    const read = readSentence(encoding, embedder, embedding, attempt.meanings, free, possible);
    const scores = Object.values(attempt.confidence).reduce((sum, score) => sum + Math.log(score), 0);
    return { ...attempt, ...read, fit: embedder.scale * read.cosine + scores };
  });
  const shares = softmax(tries.map(({ fit }) => fit));
  const best = shares.indexOf(Math.max(...shares));
  const { meanings, confidence, shares: shareOf } = tries[best]!;
  const found = Object.keys(objects).length > 0 ? objects : named(encoding, meanings, shareOf);
  const object = Object.fromEntries(
    Object.entries(confidence).map(([name, score]) => [name, score * shares[best]!]),
  );
  return {
    objects: found,
    meanings,
    confidence: { ...shareOf, ...object },
    embedding: embedding.map(rounded),
  };
}

/** What the detector settles, in every way that it may be meant; without a detection one try that settles nothing. */
function attempts(
  encoding: Encoding,
  objects: Observation['objects'],
  detecting: boolean,
): { meanings: Record<string, string>; confidence: Record<string, number> }[] {
  let open: { meanings: Record<string, string>; confidence: Record<string, number>; used: string[] }[] = [
    { meanings: {}, confidence: {}, used: [] },
  ];
  const settle = (meanings: Record<string, string>, axis: Axis | number, number: number) => {
    if (typeof axis !== 'number') meanings[axis.name] = nearestCount(axis, number);
  };
  const fixed = encoding.counted().flatMap(({ object }) => (typeof object === 'string' ? [object] : []));
  for (const { count, object } of detecting ? encoding.counted() : []) {
    if (typeof object === 'string') {
      for (const { meanings } of open) settle(meanings, count, objects[object]?.count ?? 0);
      continue;
    }
    open = open.flatMap((attempt) => {
      const candidates = Object.keys(objects)
        .filter(
          (label) =>
            object.meanings.includes(label) && !fixed.includes(label) && !attempt.used.includes(label),
        )
        .sort((a, b) => objects[b]!.score - objects[a]!.score)
        .slice(0, mostCandidates);
      if (candidates.length === 0) return [attempt];
      return candidates.map((label) => {
        const meanings = { ...attempt.meanings, [object.name]: label };
        settle(meanings, count, objects[label]!.count);
        const confidence = { ...attempt.confidence, [object.name]: objects[label]!.score };
        return { meanings, confidence, used: [...attempt.used, label] };
      });
    });
  }
  return open;
}

/**
 * Walks the free axes to the sentence with the largest cosine, among all ways of saying it; also each axis' share at the end.
 * @param possible whether a value of an axis can be at all
 */
function readSentence(
  encoding: Encoding,
  embedder: Embedder,
  embedding: readonly number[],
  settled: Readonly<Record<string, string>>,
  free: readonly Axis[],
  possible: (meaning: string) => boolean,
): { meanings: Record<string, string>; cosine: number; shares: Record<string, number> } {
  const meanings = { ...encoding.meaningsOf(encoding.axes.map(() => 0)), ...settled };
  const shares: Record<string, number> = {};
  const openings = encoding.controls.map(
    (control) => [control, control.alternatives[control.order[0]!]!] as const,
  );
  /** Cosine of the nearest of all synonyms of the axis' value and of the controls' first words. */
  const cosineWith = (axis: Axis, alternative: number) => {
    const one = [axis, axis.alternatives[alternative]!] as const;
    const said = [one, ...openings].reduce<Record<string, number>[]>(
      (ways, [{ name }, words]) =>
        words.kind !== 'words' || words.words.length === 1
          ? ways
          : ways.flatMap((way) => words.words.map((_, variant) => ({ ...way, [name]: variant }))),
      [{}],
    );
    const sentence = { ...meanings, [axis.name]: axis.meanings[alternative]! };
    const texts = embedder.texts(said.map((variants) => encoding.sentenceOf(sentence, variants)));
    return Math.max(...texts.map((text) => dot(text, embedding)));
  };
  let cosine = dot(embedder.texts([encoding.sentenceOf(meanings)])[0]!, embedding);
  for (let sweep = 0; sweep < sweeps; sweep++) {
    for (const axis of free) {
      const cosines = axis.meanings.map((meaning, i) =>
        possible(meaning) ? cosineWith(axis, i) : Number.NEGATIVE_INFINITY,
      );
      const best = cosines.indexOf(Math.max(...cosines));
      meanings[axis.name] = axis.meanings[best]!;
      cosine = cosines[best]!;
      shares[axis.name] = softmax(cosines.map((value) => value * embedder.scale))[best]!;
    }
  }
  return { meanings, cosine, shares };
}

/** Objects that only the sentence names. */
function named(
  encoding: Encoding,
  meanings: Readonly<Record<string, string>>,
  shares: Readonly<Record<string, number>>,
): Record<string, { count: number; score: number }> {
  return Object.fromEntries(
    encoding.counted().flatMap(({ count, object }) => {
      const number = typeof count === 'number' ? count : Number(meanings[count.name]);
      if (number === 0) return [];
      const [label, score] =
        typeof object === 'string' ? [object, 1] : [meanings[object.name]!, shares[object.name] ?? 1];
      return [[label, { count: number, score }]];
    }),
  );
}

/** The number of a counting axis that is nearest; of two the larger. */
function nearestCount({ meanings }: Axis, number: number): string {
  return meanings.reduce((best, one) => {
    const [difference, least] = [Math.abs(Number(one) - number), Math.abs(Number(best) - number)];
    return difference < least || (difference === least && Number(one) > Number(best)) ? one : best;
  });
}

function softmax(logits: readonly number[]): number[] {
  const most = Math.max(...logits);
  const powers = logits.map((logit) => Math.exp(logit - most));
  const sum = powers.reduce((total, power) => total + power, 0);
  return powers.map((power) => power / sum);
}

function dot(a: readonly number[], b: readonly number[]): number {
  let sum = 0;
  for (let i = 0; i < a.length; i++) sum += a[i]! * b[i]!;
  return sum;
}

const rounded = (value: number) => Math.round(value * 1e5) / 1e5;
