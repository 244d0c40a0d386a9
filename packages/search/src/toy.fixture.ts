/** A world of 24 states in which everything is known, for tests: pictures that carry their state, and an eye that reads it. */

import type { Picture } from '@rldf/common/base/picture';
import type { ImageSource, PictureRequest } from './pictures/image-source.js';
import type { Recogniser } from './pictures/recogniser.js';
import { Encoding } from './world/encoding.js';
import { parseGrammar } from './world/grammar.js';

export const toyGrammar = parseGrammar(
  `
counts: [Frequency]
objects: [Noun]
scenes: [Scene]
productions:
  S: Frequency Noun Scene
  Frequency: { 1: a, 3: three }
  Noun: [ant, cat, goose]
  Scene: { white: '', grass: on the grass, snow: in the snow, sea: at sea }
`,
  'toy.yaml',
);
const plain = new Encoding(toyGrammar);

/** 8 x 8 pixels: the state in the first one, its seed's noise in the others. */
export function toyPicture({ sentence, seed }: PictureRequest): Picture {
  const parsed = plain.parse(sentence);
  const data = new Uint8Array(8 * 8 * 3).fill(seed % 251);
  data.set(parsed === undefined ? [255, 255, 255] : parsed.state.map((value) => 60 * value));
  return { width: 8, height: 8, channels: 3, data };
}

/** Counts what it draws; `failAt` breaks off at that picture. */
export function toySource(batchSize = 4): ImageSource & { drawn: string[]; failAt: number } {
  return {
    name: 'toy',
    batchSize,
    drawn: [],
    failAt: -1,
    async draw(requests, deliver, signal) {
      for (const [index, request] of requests.entries()) {
        signal?.throwIfAborted();
        if (this.drawn.length === this.failAt) throw new Error('the source broke');
        this.drawn.push(request.sentence);
        await deliver(index, toyPicture(request));
      }
    },
  };
}

/** Sees the state; `confidence` of everything is given. */
export function toyRecogniser(confidence = 0.9): Recogniser & { looks: number } {
  return {
    name: 'toy eye',
    looks: 0,
    async recognise(pictures) {
      this.looks += pictures.length;
      return pictures.map(({ data }) => {
        const state = [...data.slice(0, 3)].map((byte) => Math.min(1, byte / 60));
        const values = [...data.slice(0, 3)].map((byte, axis) =>
          Math.min(Math.round(byte / 60), plain.axes[axis]!.order.length - 1),
        );
        const meanings = plain.meaningsOf(values);
        return {
          objects: { [meanings.Noun!]: { count: Number(meanings.Frequency), score: confidence } },
          meanings,
          confidence: { Frequency: 1, Noun: confidence, Scene: confidence },
          embedding: [1, ...state, data[10]! / 251],
        };
      });
    },
  };
}

/** Sentences as counts of letters: any vectors do. */
export const toyEmbedder = {
  texts: (sentences: readonly string[]) =>
    sentences.map((sentence) =>
      Array.from(
        { length: 26 },
        (_, letter) => 0.1 + sentence.split(String.fromCharCode(97 + letter)).length,
      ),
    ),
};
