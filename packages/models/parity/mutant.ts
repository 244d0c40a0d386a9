/** One fault: an edit of one place in the sources, and the parity cases that must notice it. */
export interface Mutant {
  name: string;
  /** Below packages/. */
  file: string;
  /** Must occur exactly once. */
  find: string;
  replace: string;
  /** Beginnings of the names of parity cases. */
  cases: readonly string[];
}
