/** Wilson's 95 % interval of a share. */
export function wilson(right: number, total: number): [number, number] {
  const z = 1.959963984540054;
  const share = right / total;
  const centre = share + z ** 2 / (2 * total);
  const spread = z * Math.sqrt((share * (1 - share)) / total + z ** 2 / (4 * total ** 2));
  return [(centre - spread) / (1 + z ** 2 / total), (centre + spread) / (1 + z ** 2 / total)];
}
