/** Levenshtein distance: least number of insertions, deletions and replacements of characters. */
export function editDistance(a: string, b: string): number {
  let previous = Array.from({ length: b.length + 1 }, (_, index) => index);
  for (let i = 1; i <= a.length; i++) {
    const row = [i];
    for (let j = 1; j <= b.length; j++) {
      const replace = previous[j - 1]! + (a[i - 1] === b[j - 1] ? 0 : 1);
      row.push(Math.min(replace, previous[j]! + 1, row[j - 1]! + 1));
    }
    previous = row;
  }
  return previous[b.length]!;
}

/** The candidate that a typing mistake most likely meant, if any is near (a third of its letters, at least two). */
export function nearest(word: string, candidates: readonly string[]): string | undefined {
  if (word.length > 100) return undefined; // nothing that was mistyped
  let best: string | undefined;
  let least = Number.POSITIVE_INFINITY;
  for (const candidate of candidates) {
    const distance = editDistance(word.toLowerCase(), candidate.toLowerCase());
    if (distance < least) [best, least] = [candidate, distance];
  }
  return best !== undefined && least <= Math.max(2, Math.floor(best.length / 3)) ? best : undefined;
}

/** " Did you mean x?" or nothing, to be put at the end of a message. */
export function didYouMean(word: string, candidates: readonly string[], prefix = ''): string {
  const match = nearest(word, candidates);
  return match === undefined ? '' : `. Did you mean ${prefix}${match}?`;
}
