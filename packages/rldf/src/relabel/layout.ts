/** Boxes for a grounded model (GLIGEN, Li et al. 2023): where a prompt says that its objects are, and where a detector found them. */

import { nounOf } from '@rldf/emoji-world';
import { type Detection, type GroundedObject, MOST_OBJECTS } from '@rldf/models';
import type { Random } from '@rldf/torch';
import type { RelabelGrammar } from './grammar.js';
import { type Asked, phraseOf } from './relabel.js';

/** Width and height of an object's box, as a share of the place it has. */
const FILLS = 0.88;
/** Of two objects that differ in size. */
const SMALL = 0.5;
/** How far a drawn layout may be from the plain one: a centre by so much, a size by so much of itself. */
const SHIFT = 0.06;
const SHRINK = 0.2;

type Place = [x: number, y: number, width: number, height: number]; // centre, shares of the picture

/**
 * A layout in which a picture shows what its prompt asks for: of a relation, the two objects in opposite halves, or of two sizes;
 * of counts, a grid.
 *
 * @param random varies the layout; without, it is the plain one
 */
export function boxesAsked(
  grammar: RelabelGrammar,
  { counts, relation }: Asked,
  random?: Random,
): GroundedObject[] {
  const names = [...counts].flatMap(([noun, count]) => Array.from({ length: count }, () => noun));
  const rule = relation === undefined ? undefined : grammar.relations[relation];
  const places = rule === undefined ? gridOf(names.length) : pairOf(rule.measure, rule.order);
  return names.slice(0, MOST_OBJECTS).map((noun, i) => ({
    phrase: phraseOf(grammar, noun, 1),
    box: boxOf(moved(places[i] as Place, random)),
  }));
}

function pairOf(measure: RelabelGrammar['relations'][string]['measure'], order: 'less' | 'greater'): Place[] {
  const half = FILLS / 2;
  const [less, more] = ((): [Place, Place] => {
    switch (measure) {
      case 'x':
        return [
          [0.25, 0.5, half, half],
          [0.75, 0.5, half, half],
        ];
      case 'y':
        return [
          [0.5, 0.25, half, half],
          [0.5, 0.75, half, half],
        ];
      case 'width':
        return [
          [0.25, 0.5, SMALL * half, half],
          [0.75, 0.5, half, half],
        ];
      case 'height':
        return [
          [0.25, 0.5, half, SMALL * half],
          [0.75, 0.5, half, half],
        ];
      case 'area':
        return [
          [0.25, 0.5, SMALL * half, SMALL * half],
          [0.75, 0.5, half, half],
        ];
    }
  })();
  return order === 'less' ? [less, more] : [more, less];
}

/** Row by row, in cells of the same size. */
function gridOf(count: number): Place[] {
  const columns = Math.ceil(Math.sqrt(count));
  const rows = Math.ceil(count / columns);
  return Array.from({ length: count }, (_, i) => [
    ((i % columns) + 0.5) / columns,
    (Math.floor(i / columns) + 0.5) / rows,
    FILLS / columns,
    FILLS / rows,
  ]);
}

function moved([x, y, width, height]: Place, random: Random | undefined): Place {
  if (random === undefined) return [x, y, width, height];
  const [dx, dy, smaller] = [random.uniform(), random.uniform(), random.uniform()];
  const size = 1 - SHRINK * smaller;
  return [x + SHIFT * (2 * dx - 1), y + SHIFT * (2 * dy - 1), size * width, size * height];
}

const share = (edge: number) => Math.min(1, Math.max(0, edge));

function boxOf([x, y, width, height]: Place): GroundedObject['box'] {
  return [share(x - width / 2), share(y - height / 2), share(x + width / 2), share(y + height / 2)];
}

/** What was found, best first, where it was found: pixels -> shares. */
export function boxesFound(
  grammar: RelabelGrammar,
  detections: readonly Detection[],
  [height, width]: readonly [height: number, width: number],
): GroundedObject[] {
  return detections
    .map(
      ({ label, box: [left, top, right, bottom] }): GroundedObject => ({
        phrase: phraseOf(grammar, nounOf(label).name, 1),
        box: [share(left / width), share(top / height), share(right / width), share(bottom / height)],
      }),
    )
    .filter(({ box: [left, top, right, bottom] }) => left < right && top < bottom)
    .slice(0, MOST_OBJECTS);
}
