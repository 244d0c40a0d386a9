/** The factor on the learning rate at update `step`, counted from 0. */
export type Schedule = (step: number) => number;

export const constant: Schedule = () => 1;

/** Rises linearly over `warmup` updates, then stays. */
export function linearWarmup(warmup: number): Schedule {
  return (step) => (warmup <= 0 ? 1 : Math.min(1, (step + 1) / warmup));
}

/** Linear warm-up, then half a cosine down to `floor` at update `total`. */
export function cosine(total: number, { warmup = 0, floor = 0 } = {}): Schedule {
  const rise = linearWarmup(warmup);
  return (step) => {
    if (step < warmup) return rise(step);
    const progress = Math.min(1, (step - warmup) / Math.max(1, total - warmup));
    return floor + (1 - floor) * 0.5 * (1 + Math.cos(Math.PI * progress));
  };
}

/** Linear warm-up, then linearly down to `floor` at update `total`. */
export function linearDecay(total: number, { warmup = 0, floor = 0 } = {}): Schedule {
  const rise = linearWarmup(warmup);
  return (step) => {
    if (step < warmup) return rise(step);
    return floor + (1 - floor) * Math.max(0, 1 - (step - warmup) / Math.max(1, total - warmup));
  };
}

/**
 * Linear warm-up, a plateau, then half a cosine down to `floor` over the last `decay` share of `total` updates
 * (warm-up, stable, decay: Hu et al. 2024, section 4). Until the decay begins, `total` may still be changed.
 */
export function plateau(total: number, { warmup = 0, decay = 0.3, floor = 0 } = {}): Schedule {
  const rise = linearWarmup(warmup);
  const start = total * (1 - decay);
  return (step) => {
    if (step < start) return rise(step);
    const progress = Math.min(1, (step - start) / Math.max(1, total - start));
    return rise(step) * (floor + (1 - floor) * 0.5 * (1 + Math.cos(Math.PI * progress)));
  };
}
