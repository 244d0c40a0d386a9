/** Wilson's 95 % interval of a share. */
export function wilson(right: number, total: number): [number, number] {
  const z = 1.959963984540054;
  const share = right / total;
  const centre = share + z ** 2 / (2 * total);
  const spread = z * Math.sqrt((share * (1 - share)) / total + z ** 2 / (4 * total ** 2));
  return [(centre - spread) / (1 + z ** 2 / total), (centre + spread) / (1 + z ** 2 / total)];
}

/** Spearman's rank correlation, ties at their mean rank; 0 where either list is constant. */
export function spearman(a: readonly number[], b: readonly number[]): number {
  const [x, y] = [ranksOf(a), ranksOf(b)];
  const middle = (a.length - 1) / 2;
  const dot = (p: readonly number[], q: readonly number[]) =>
    p.reduce((sum, rank, i) => sum + (rank - middle) * ((q[i] as number) - middle), 0);
  const scale = Math.sqrt(dot(x, x) * dot(y, y));
  return scale === 0 ? 0 : dot(x, y) / scale;
}

function ranksOf(values: readonly number[]): number[] {
  return values.map((value) => {
    const below = values.filter((other) => other < value).length;
    const equal = values.filter((other) => other === value).length;
    return below + (equal - 1) / 2;
  });
}
