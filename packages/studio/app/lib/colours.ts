/** Colours of curves and heat maps, as names of the style sheet's variables or as numbers. */

/** Curves that are told apart: one variable each, light and dark. */
export const curveColours = ['--c1', '--c2', '--c3', '--c4', '--c5', '--c6', '--c7', '--c8'] as const;

export const curveColour = (index: number): string => curveColours[index % curveColours.length]!;

type Rgb = readonly [number, number, number];

/** From little to much, by mixing in linear steps; both ends are the style sheet's. */
export function shade(share: number, from: Rgb, to: Rgb): Rgb {
  const t = Math.min(1, Math.max(0, share));
  return from.map((value, i) => Math.round(value + (to[i]! - value) * t)) as unknown as Rgb;
}

/** `#rgb`, `#rrggbb` or `rgb(r, g, b)`; black for anything else. */
export function rgb(text: string): Rgb {
  const hex = /^#([0-9a-f]{3}|[0-9a-f]{6})$/i.exec(text.trim())?.[1];
  if (hex !== undefined) {
    const wide = hex.length === 3 ? [...hex].map((digit) => digit + digit).join('') : hex;
    return [0, 2, 4].map((at) => Number.parseInt(wide.slice(at, at + 2), 16)) as unknown as Rgb;
  }
  const numbers = /^rgba?\(([^)]*)\)/
    .exec(text.trim())?.[1]
    ?.split(/[\s,/]+/)
    .map(Number);
  return numbers !== undefined && numbers.length >= 3 ? [numbers[0]!, numbers[1]!, numbers[2]!] : [0, 0, 0];
}

/** Contrast of two colours as WCAG 2 defines it, in [1, 21]. */
export function contrast(a: Rgb, b: Rgb): number {
  const [lighter, darker] = [luminance(a), luminance(b)].sort((x, y) => y - x) as [number, number];
  return (lighter + 0.05) / (darker + 0.05);
}

function luminance(colour: Rgb): number {
  const [r, g, b] = colour.map((value) => {
    const share = value / 255;
    return share <= 0.04045 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
  }) as [number, number, number];
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
}
