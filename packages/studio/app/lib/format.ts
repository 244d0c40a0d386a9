/** Numbers, times and sizes in words; what is not known is a dash. */

export const NONE = '–';
const MINUS = '−';
const THIN = '\u2009';

type Maybe = number | null | undefined;

const known = (value: Maybe): value is number => typeof value === 'number' && Number.isFinite(value);
const withMinus = (text: string) => text.replace(/^-/, MINUS).replace(/e-/, `e${MINUS}`);

/** Three significant digits; very small and very large ones with an exponent. */
export function short(value: Maybe, digits = 3): string {
  if (value === Number.POSITIVE_INFINITY) return '∞';
  if (value === Number.NEGATIVE_INFINITY) return `${MINUS}∞`;
  if (!known(value)) return NONE;
  if (value === 0) return '0';
  const size = Math.abs(value);
  if (size < 1e-3 || size >= 1e6) {
    const [mantissa, exponent] = value.toExponential(digits - 1).split('e') as [string, string];
    return withMinus(`${Number(mantissa)}e${Number(exponent)}`);
  }
  if (size >= 1000) return grouped(value);
  return withMinus(String(Number(value.toPrecision(digits))));
}

/** A reward: two decimals, more where two would hide it. */
export function reward(value: Maybe): string {
  if (!known(value)) return NONE;
  const size = Math.abs(value);
  if (size < 1e-9) return '0.00'; // what sums of rounded numbers leave
  if (size < 0.1 || size >= 1000) return short(value);
  return withMinus(value.toFixed(size >= 100 ? 0 : size >= 10 ? 1 : 2));
}

/** With its sign, also a plus. */
export function signed(value: Maybe): string {
  if (!known(value)) return NONE;
  const text = reward(value);
  return value > 0 && text !== '0.00' ? `+${text}` : text;
}

/** Whole numbers in groups of three: 12 345. */
export function grouped(value: Maybe): string {
  if (!known(value)) return NONE;
  const digits = String(Math.round(Math.abs(value)));
  const text = digits.replace(/\B(?=(\d{3})+$)/g, THIN);
  return Math.round(value) < 0 ? MINUS + text : text;
}

export const percent = (share: Maybe): string => (known(share) ? `${Math.round(100 * share)}${THIN}%` : NONE);

/** Two units at most: 3 h 20 min. */
export function duration(seconds: Maybe): string {
  if (!known(seconds) || seconds < 0) return NONE;
  if (seconds < 9.95) return `${short(seconds, 2)} s`;
  const whole = Math.round(seconds);
  if (whole < 60) return `${whole} s`;
  const minutes = Math.round(seconds / 60);
  if (seconds < 600)
    return whole % 60 === 0 ? `${whole / 60} min` : `${Math.floor(whole / 60)} min ${whole % 60} s`;
  if (minutes < 60) return `${minutes} min`;
  if (minutes < 48 * 60)
    return minutes % 60 === 0 ? `${minutes / 60} h` : `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
  const hours = Math.round(seconds / 3600);
  return hours % 24 === 0 ? `${hours / 24} d` : `${Math.floor(hours / 24)} d ${hours % 24} h`;
}

/** How long ago, in one unit. */
export function ago(then: Maybe, now: number): string {
  if (!known(then)) return NONE;
  const seconds = Math.max(0, (now - then) / 1000);
  if (seconds < 5) return 'just now';
  if (seconds < 60) return `${Math.floor(seconds)} s ago`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min ago`;
  if (seconds < 48 * 3600) return `${Math.floor(seconds / 3600)} h ago`;
  return `${Math.floor(seconds / 86400)} d ago`;
}

export function bytes(value: Maybe): string {
  if (!known(value)) return NONE;
  const units = ['B', 'kB', 'MB', 'GB', 'TB'];
  let [rest, unit] = [Math.abs(value), 0];
  while (rest >= 999.5 && unit < units.length - 1) [rest, unit] = [rest / 1000, unit + 1];
  const text = String(unit === 0 ? Math.round(rest) : Number(rest.toPrecision(3)));
  return `${value < 0 ? MINUS : ''}${text} ${units[unit]}`;
}

/** A metric's value in its unit. */
export function measured(value: Maybe, unit: string): string {
  if (unit === 'B' || unit === 'bytes') return bytes(value);
  if (unit === 's') return duration(value);
  const text = short(value);
  return unit === '' || text === NONE ? text : `${text} ${unit}`;
}

/** Any value of a recipe, as one would write it in YAML, on one line. */
export function field(value: unknown): string {
  if (value === undefined || value === null) return NONE;
  if (Array.isArray(value)) return value.map(field).join(', ');
  if (typeof value === 'number' && value !== 0 && Math.abs(value) < 1e-3)
    return value.toExponential().replace('e', 'e');
  return typeof value === 'object' ? JSON.stringify(value) : String(value);
}

/** One thing or several: `plural(3, 'run')` is "3 runs". */
export const plural = (count: number, noun: string, many = `${noun}s`): string =>
  `${grouped(count)} ${count === 1 ? noun : many}`;
