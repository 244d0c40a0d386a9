// Whether the goal of a search is the picture's: recognised among many inputs, without a search.
import type { Recogniser } from 'rldf';
import { wilson } from '../shared/statistics.js';
import type { Input } from './inputs.js';

const BATCH = 32;
const MIN_CONFIDENCE = 0.3;

interface Share {
  share: number;
  ci95: [low: number, high: number];
}

/** Of all inputs of a kind. `both`: noun and scene right, and not refused. */
export interface Recognised {
  pictures: number;
  noun: Share;
  scene: Share;
  refused: Share;
  both: Share;
}

/** @param kindOf art set or style */
export async function recognition(
  inputs: readonly Input[],
  recogniser: Recogniser,
  kindOf: (input: Input) => string,
): Promise<Record<string, Recognised>> {
  const rows: { kind: string; noun: boolean; scene: boolean; refused: boolean }[] = [];
  for (let start = 0; start < inputs.length; start += BATCH) {
    const some = inputs.slice(start, start + BATCH);
    const seen = await recogniser.recognise(some.map(({ picture }) => picture));
    for (const [i, { meanings, confidence }] of seen.entries()) {
      const input = some[i]!;
      rows.push({
        kind: kindOf(input),
        noun: meanings.Noun === input.noun,
        scene: meanings.Scene === input.background,
        refused: ['Noun', 'Scene'].some((axis) => (confidence[axis] ?? 0) < MIN_CONFIDENCE),
      });
    }
  }
  const kinds = [...new Set(rows.map(({ kind }) => kind))];
  return Object.fromEntries(
    kinds.map((kind) => {
      const own = rows.filter((row) => row.kind === kind);
      const share = (of: (row: (typeof own)[number]) => boolean): Share => {
        const count = own.filter(of).length;
        return { share: count / own.length, ci95: wilson(count, own.length) };
      };
      return [
        kind,
        {
          pictures: own.length,
          noun: share(({ noun }) => noun),
          scene: share(({ scene }) => scene),
          refused: share(({ refused }) => refused),
          both: share(({ noun, scene, refused }) => noun && scene && !refused),
        },
      ];
    }),
  );
}
