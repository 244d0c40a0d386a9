// What is in a picture, read by judges that share nothing with the search's recogniser: the judge detector for objects and
// their numbers, the style network for scene, style and art.
import { backgrounds } from '@rldf/emoji-world';
import { noGrad, scope } from '@rldf/torch';
import { type Grammar, instrumentFile, type Picture } from 'rldf';
import { knownArt, loadJudges, SceneClassifier, styleLabels } from 'rldf/eval';
import { tensorOfPictures } from 'rldf/run';

export interface Reading {
  /** How often each label is seen. */
  objects: Record<string, number>;
  scene: string;
  style: string;
  art: string;
}

const BATCH = 32;

export async function openReader(): Promise<(pictures: readonly Picture[]) => Promise<Reading[]>> {
  const { judges } = await loadJudges(['detector']);
  const network = SceneClassifier.load(instrumentFile('style'));
  const some = async (pictures: readonly Picture[]): Promise<Reading[]> => {
    const images = tensorOfPictures(pictures); // [B, 64, 64, 3]
    try {
      const detected = await judges.detect(images);
      const [scenes, looks, arts] = noGrad(() =>
        scope(() => {
          const input = images.permute([0, 3, 1, 2]).to('float32').div(127.5).sub(1).contiguous(); // [B, 3, 64, 64]
          const { background, style, art } = network.forward(input);
          return [background, style, art].map((logits) => logits.argmax(1).toNumbers());
        }),
      ) as [number[], number[], number[]];
      return pictures.map((_, i) => ({
        objects: counted(detected[i]!.map(({ label }) => label)),
        scene: backgrounds[scenes[i]!]!,
        style: styleLabels[looks[i]!]!,
        art: knownArt[arts[i]!]!,
      }));
    } finally {
      images.free();
    }
  };
  return async (pictures) => {
    const readings: Reading[] = [];
    for (let start = 0; start < pictures.length; start += BATCH)
      readings.push(...(await some(pictures.slice(start, start + BATCH))));
    return readings;
  };
}

export function counted(labels: readonly string[]): Record<string, number> {
  const counts: Record<string, number> = {};
  for (const label of labels) counts[label] = (counts[label] ?? 0) + 1;
  return counts;
}

/**
 * Whether a picture shows what one axis of the default grammar says.
 * @param meanings the whole state: numbers and verbs are about its noun
 */
export function shows(
  { objects, scene, style }: Reading,
  axis: string,
  meanings: Readonly<Record<string, string>>,
  grammar: Grammar,
): boolean {
  const asked = meanings[axis]!;
  const noun = meanings.Noun!;
  const props = [...grammar.shows.values()].filter((prop) => prop !== noun);
  switch (axis) {
    case 'Noun':
      return objects[noun] !== undefined;
    case 'Frequency':
      return asked === '1' ? objects[noun] === 1 : (objects[noun] ?? 0) > 1;
    case 'Density': {
      const people = objects.person ?? 0;
      return asked === '3' ? people > 1 : people === Number(asked);
    }
    case 'Verb':
      return asked === 'none'
        ? props.every((prop) => objects[prop] === undefined)
        : objects[grammar.shows.get(asked)!] !== undefined;
    case 'Scene':
      return scene === asked;
    default:
      return style === asked;
  }
}
