/** What keys mean: where the focus goes in lists and grids, and how far a knob turns. */

/** The place that a key leads to, in a list or, with several columns, in a grid; undefined for keys that mean nothing here. */
export function moved(key: string, from: number, count: number, columns = 1): number | undefined {
  if (count === 0) return undefined;
  const last = count - 1;
  const row = Math.floor(from / columns);
  switch (key) {
    case 'ArrowRight':
      return columns === 1 ? undefined : Math.min(last, from + 1);
    case 'ArrowLeft':
      return columns === 1 ? undefined : Math.max(0, from - 1);
    case 'ArrowDown':
      return from + columns <= last ? from + columns : row < Math.floor(last / columns) ? last : from;
    case 'ArrowUp':
      return from - columns >= 0 ? from - columns : from;
    case 'Home':
      return 0;
    case 'End':
      return last;
    case 'PageDown':
      return Math.min(last, from + 10 * columns);
    case 'PageUp':
      return Math.max(0, from - 10 * columns);
    default:
      return undefined;
  }
}

/** A tab list: arrows go round. */
export function movedRound(key: string, from: number, count: number): number | undefined {
  if (count === 0) return undefined;
  if (key === 'ArrowRight') return (from + 1) % count;
  if (key === 'ArrowLeft') return (from + count - 1) % count;
  if (key === 'Home') return 0;
  if (key === 'End') return count - 1;
  return undefined;
}

/** The value of a knob after a key: arrows by a step, with Shift by five; Page keys by ten; Home and End are its ends. */
export function turned(
  key: string,
  value: number,
  { least, greatest, step }: { least: number; greatest: number; step: number },
  shift = false,
): number | undefined {
  const by = { ArrowRight: 1, ArrowUp: 1, ArrowLeft: -1, ArrowDown: -1, PageUp: 10, PageDown: -10 }[key];
  if (key === 'Home') return least;
  if (key === 'End') return greatest;
  if (by === undefined) return undefined;
  const next = value + by * step * (shift && Math.abs(by) === 1 ? 5 : 1);
  return Math.min(greatest, Math.max(least, onStep(next, step)));
}

/** The nearest whole multiple of a step, without the dust of binary fractions. */
export const onStep = (value: number, step: number): number =>
  Number((Math.round(value / step) * step).toFixed(6));

/** What a key means while rating. */
export type RatingKey = { score: number } | { better: 'a' | 'b' | 'tie' } | 'undo' | undefined;

export function ratingKey(key: string, mode: 'pair' | 'score'): RatingKey {
  if (key === 'u' || key === 'U' || key === 'Backspace') return 'undo';
  if (mode === 'score') return /^[1-5]$/.test(key) ? { score: Number(key) } : undefined;
  if (key === 'ArrowLeft' || key === '1') return { better: 'a' };
  if (key === 'ArrowRight' || key === '2') return { better: 'b' };
  if (key === 'ArrowDown' || key === '0' || key === '=') return { better: 'tie' };
  return undefined;
}

/** Whether keys belong to the element that has the focus: fields in which one writes, lists that one opens, sliders. */
export function keysAreTaken(
  target: { tagName?: string; type?: string; isContentEditable?: boolean } | null,
): boolean {
  if (target === null) return false;
  const tag = target.tagName?.toLowerCase();
  if (tag === 'input') return !['checkbox', 'radio', 'button', 'submit'].includes(target.type ?? 'text');
  return tag === 'textarea' || tag === 'select' || target.isContentEditable === true;
}
