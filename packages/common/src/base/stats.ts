/** Statistics of paired comparisons. Pure functions; randomness is handed in, so every interval is reproducible. */

import { InternalError } from '@rldf/torch/errors';

/** The only randomness a bootstrap needs; `Random` of @rldf/torch is one. */
export interface IntegerSource {
  /** A uniform integer in [0, n). */
  integer(n: number): number;
}

/** A mean with its confidence interval. */
export interface Interval {
  /** The mean of the values. */
  mean: number;
  /** Lower and upper end, in the unit of the values. */
  interval: [lo: number, hi: number];
  /** Probability that intervals made this way cover the true mean, in (0, 1). */
  confidence: number;
  /** How many independent replicates the interval rests on. */
  count: number;
  method: 'percentile bootstrap' | 'Student t';
}

/** How a mean moved between two paired measurements of the same things. */
export interface MeanDifference {
  before: number;
  after: number;
  /** after - before. */
  difference: number;
  /** 95 % interval of the difference; both ends equal the difference when there is one pair only. */
  ci95: [lo: number, hi: number];
}

export interface BootstrapOptions {
  random: IntegerSource;
  /** In (0, 1). */
  confidence?: number;
  /** Number of resamples. */
  resamples?: number;
}

/** Arithmetic mean of a non-empty list. */
export function mean(values: readonly number[]): number {
  requireValues('mean', values, 1);
  let sum = 0;
  for (const value of values) sum += value;
  return sum / values.length;
}

export interface Moments {
  mean: number;
  /** Population standard deviation, as numpy's default. */
  std: number;
}

/** Mean and population standard deviation. */
export function momentsOf(values: readonly number[]): Moments {
  const average = values.reduce((sum, value) => sum + value, 0) / values.length;
  const variance = values.reduce((sum, value) => sum + (value - average) ** 2, 0) / values.length;
  return { mean: average, std: Math.sqrt(variance) };
}

/** Standard deviation with n - 1 in the denominator; needs two values. */
export function standardDeviation(values: readonly number[]): number {
  requireValues('standardDeviation', values, 2);
  const centre = mean(values);
  let squares = 0;
  for (const value of values) squares += (value - centre) ** 2;
  return Math.sqrt(squares / (values.length - 1));
}

/**
 * Linear-interpolation quantile of a sorted list (type 7 of Hyndman & Fan 1996, NumPy's default).
 * @param probability in [0, 1]
 */
export function quantile(sorted: readonly number[], probability: number): number {
  requireValues('quantile', sorted, 1);
  const position = probability * (sorted.length - 1);
  const below = Math.floor(position);
  const above = Math.min(below + 1, sorted.length - 1);
  const low = sorted[below]!;
  return low + (position - below) * (sorted[above]! - low);
}

/**
 * Percentile bootstrap of a mean (Efron & Tibshirani 1993, section 13.3): the values are drawn again with replacement,
 * and the interval is read off the quantiles of the means. For paired data pass the differences.
 */
export function bootstrapMean(values: readonly number[], options: BootstrapOptions): Interval {
  requireValues('bootstrapMean', values, 1);
  const count = values.length;
  return fromResamples(mean(values), count, options, (random) => {
    let sum = 0;
    for (let draw = 0; draw < count; draw++) sum += values[random.integer(count)]!;
    return sum / count;
  });
}

/**
 * Paired bootstrap over training seeds and prompts: seeds are drawn with replacement, then prompts within each drawn
 * seed, so that both sources of spread count.
 * @param differences one row a seed, one entry a prompt (after - before); rows may differ in length
 */
export function bootstrapSeedsAndPrompts(
  differences: readonly (readonly number[])[],
  options: BootstrapOptions,
): Interval {
  if (differences.length === 0) throw new InternalError('bootstrapSeedsAndPrompts: no seeds given');
  const estimate = mean(differences.map((row) => mean(row)));
  const seeds = differences.length;
  return fromResamples(estimate, seeds, options, (random) => {
    let total = 0;
    for (let seed = 0; seed < seeds; seed++) {
      const row = differences[random.integer(seeds)]!;
      let sum = 0;
      for (let draw = 0; draw < row.length; draw++) sum += row[random.integer(row.length)]!;
      total += sum / row.length;
    }
    return total / seeds;
  });
}

/** Student's t-interval of a mean of at least two independent values. */
export function tInterval(values: readonly number[], confidence = 0.95): Interval {
  requireValues('tInterval', values, 2);
  requireConfidence(confidence);
  const centre = mean(values);
  const standardError = standardDeviation(values) / Math.sqrt(values.length);
  const halfWidth = studentTQuantile(0.5 + confidence / 2, values.length - 1) * standardError;
  return {
    mean: centre,
    interval: [centre - halfWidth, centre + halfWidth],
    confidence,
    count: values.length,
    method: 'Student t',
  };
}

/** The interval over replicates (training seeds): Student's t below five of them, where a bootstrap is too narrow. */
export function seedInterval(values: readonly number[], options: BootstrapOptions): Interval {
  return values.length < 5 ? tInterval(values, options.confidence) : bootstrapMean(values, options);
}

/**
 * Mean difference of two paired lists with its 95 % interval: entry i of both must be the same prompt and seed.
 * Below five pairs Student's t is used, above a paired percentile bootstrap.
 */
export function meanDifference(
  before: readonly number[],
  after: readonly number[],
  random: IntegerSource,
  resamples = 10_000,
): MeanDifference {
  if (before.length !== after.length) {
    throw new InternalError(
      `meanDifference: ${before.length} values before, ${after.length} after — the lists are paired`,
    );
  }
  const differences = after.map((value, index) => value - before[index]!);
  const difference = mean(differences);
  const ci95: [number, number] =
    differences.length === 1
      ? [difference, difference]
      : seedInterval(differences, { random, resamples }).interval;
  return { before: mean(before), after: mean(after), difference, ci95 };
}

/**
 * Quantile of Student's t distribution, by bisection on its distribution function.
 * @param probability in (0, 1)
 * @param degreesOfFreedom > 0
 */
export function studentTQuantile(probability: number, degreesOfFreedom: number): number {
  if (!(probability > 0 && probability < 1) || !(degreesOfFreedom > 0)) {
    throw new InternalError(
      `studentTQuantile: probability ${probability}, degrees of freedom ${degreesOfFreedom} — need 0 < p < 1 and df > 0`,
    );
  }
  if (probability === 0.5) return 0;
  if (probability < 0.5) return -studentTQuantile(1 - probability, degreesOfFreedom);
  let low = 0;
  let high = 1;
  while (studentTDistribution(high, degreesOfFreedom) < probability && high < 1e12) high *= 2;
  for (let step = 0; step < 200 && high - low > 1e-14 * high; step++) {
    const middle = (low + high) / 2;
    if (studentTDistribution(middle, degreesOfFreedom) < probability) low = middle;
    else high = middle;
  }
  return (low + high) / 2;
}

/** P(T <= t) of Student's t distribution (Abramowitz & Stegun 26.7.1, by the incomplete beta function). */
export function studentTDistribution(t: number, degreesOfFreedom: number): number {
  const tail = 0.5 * incompleteBeta(degreesOfFreedom / (degreesOfFreedom + t * t), degreesOfFreedom / 2, 0.5);
  return t >= 0 ? 1 - tail : tail;
}

/** Regularised incomplete beta function I_x(a, b) by Lentz's continued fraction (Numerical Recipes, section 6.4). */
function incompleteBeta(x: number, a: number, b: number): number {
  if (x <= 0) return 0;
  if (x >= 1) return 1;
  const front = Math.exp(logGamma(a + b) - logGamma(a) - logGamma(b) + a * Math.log(x) + b * Math.log1p(-x));
  return x < (a + 1) / (a + b + 2)
    ? (front * betaFraction(x, a, b)) / a
    : 1 - (front * betaFraction(1 - x, b, a)) / b;
}

function betaFraction(x: number, a: number, b: number): number {
  const tiny = 1e-300;
  const guarded = (value: number) => (Math.abs(value) < tiny ? tiny : value);
  let c = 1;
  let d = 1 / guarded(1 - ((a + b) * x) / (a + 1));
  let fraction = d;
  for (let m = 1; m <= 500; m++) {
    const even = (m * (b - m) * x) / ((a + 2 * m - 1) * (a + 2 * m));
    d = 1 / guarded(1 + even * d);
    c = guarded(1 + even / c);
    fraction *= d * c;
    const odd = (-(a + m) * (a + b + m) * x) / ((a + 2 * m) * (a + 2 * m + 1));
    d = 1 / guarded(1 + odd * d);
    c = guarded(1 + odd / c);
    const change = d * c;
    fraction *= change;
    if (Math.abs(change - 1) < 1e-15) return fraction;
  }
  return fraction;
}

/** ln Γ(x) for x > 0 (Lanczos 1964, g = 7, nine terms; about 1e-15 relative). */
function logGamma(x: number): number {
  const coefficients = [
    0.99999999999980993, 676.5203681218851, -1259.1392167224028, 771.32342877765313, -176.61502916214059,
    12.507343278686905, -0.13857109526572012, 9.9843695780195716e-6, 1.5056327351493116e-7,
  ];
  if (x < 0.5) return Math.log(Math.PI / Math.sin(Math.PI * x)) - logGamma(1 - x);
  let series = coefficients[0]!;
  for (let index = 1; index < coefficients.length; index++) series += coefficients[index]! / (x - 1 + index);
  const t = x + 6.5;
  return 0.5 * Math.log(2 * Math.PI) + (x - 0.5) * Math.log(t) - t + Math.log(series);
}

function fromResamples(
  estimate: number,
  count: number,
  { random, confidence = 0.95, resamples = 10_000 }: BootstrapOptions,
  resample: (random: IntegerSource) => number,
): Interval {
  requireConfidence(confidence);
  const means = Float64Array.from({ length: resamples }, () => resample(random)).sort();
  const sorted = Array.from(means);
  const interval: [number, number] = [
    quantile(sorted, (1 - confidence) / 2),
    quantile(sorted, (1 + confidence) / 2),
  ];
  return { mean: estimate, interval, confidence, count, method: 'percentile bootstrap' };
}

function requireValues(where: string, values: readonly number[], least: number): void {
  if (values.length < least) {
    throw new InternalError(`${where}: got ${values.length} values — at least ${least} needed`);
  }
}

function requireConfidence(confidence: number): void {
  if (!(confidence > 0 && confidence < 1)) {
    throw new InternalError(`confidence ${confidence} — must lie between 0 and 1`);
  }
}

/** Pearson's; of ranks Spearman's. 0 where one side does not vary. */
export function correlation(a: readonly number[], b: readonly number[]): number {
  const [meanA, meanB] = [mean(a), mean(b)];
  let [product, squareA, squareB] = [0, 0, 0];
  for (let i = 0; i < a.length; i++) {
    const [da, db] = [(a[i] as number) - meanA, (b[i] as number) - meanB];
    product += da * db;
    squareA += da * da;
    squareB += db * db;
  }
  return squareA * squareB === 0 ? 0 : product / Math.sqrt(squareA * squareB);
}
