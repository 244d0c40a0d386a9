/** Where seeds begin, one range a purpose, so that no picture of one is a picture of another. A range holds a million. */
export const firstSeed = {
  /** Training pictures have no range: they are keyed by epoch, prompt and picture. */
  validation: 1_000_000,
  test: 2_000_000,
  /** What the model drew before training: ReFL's pre-training loss. */
  pretraining: 3_000_000,
  /** What a reward with `floor: base` is told of the model before training. */
  base: 4_000_000,
} as const;
