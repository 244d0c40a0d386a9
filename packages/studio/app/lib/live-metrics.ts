/** The curves of one run while it grows: fetched once, then followed by byte offset. */

import type { MetricsAnswer, PictureKind, RunEvents, RunRow } from '../../src/api.js';
import { get, Stream, type StudioError, wasAborted } from './client.js';
import { append, type Curve, curveOf, emptyCurve, numbersOf } from './series.js';
import { Store } from './store.js';

export interface LiveState {
  curves: Map<string, Curve>;
  /** Grows with every change of the curves. */
  version: number;
  /** Whether the first answer is there. */
  loaded: boolean;
  badLines: number;
  gone: boolean;
  error: string | null;
}

/** Points a curve is fetched with: more than a screen has columns. */
const POINTS = 2000;

export class LiveMetrics {
  readonly state = new Store<LiveState>({
    curves: new Map(),
    version: 0,
    loaded: false,
    badLines: 0,
    gone: false,
    error: null,
  });
  readonly row = new Store<RunRow | null>(null);
  /** Grows when new pictures of a kind were written. */
  readonly pictures = new Store<Partial<Record<PictureKind, number>>>({});
  #stream: Stream<RunEvents> | undefined;
  #offset = 0;
  #frame: number | undefined;
  readonly #closing = new AbortController();

  constructor(readonly id: string) {
    void this.#load();
  }

  close(): void {
    this.#closing.abort();
    this.#stream?.close();
    if (this.#frame !== undefined) cancelAnimationFrame(this.#frame);
  }

  get #path(): string {
    return `/api/runs/${encodeURIComponent(this.id)}`;
  }

  async #load(): Promise<void> {
    try {
      const answer = await get<MetricsAnswer>(`${this.#path}/metrics?points=${POINTS}`, this.#closing.signal);
      const curves = new Map(
        Object.entries(answer.series).map(([name, series]) => [name, curveOf(series)] as const),
      );
      this.#offset = answer.offset;
      this.#change({ curves, loaded: true, badLines: answer.badLines, error: null, gone: false });
      this.#stream ??= this.#follow();
    } catch (error) {
      if (wasAborted(error) || this.#closing.signal.aborted) return;
      this.#change({ error: (error as Error).message });
      const { code } = error as StudioError;
      if (code === 'not-found' || code === 'bad-request') return;
      setTimeout(() => this.#closing.signal.aborted || void this.#load(), 2000);
    }
  }

  #follow(): Stream<RunEvents> {
    return new Stream<RunEvents>(() => `${this.#path}/events?offset=${this.#offset}`, {
      rows: ({ rows, offset }) => {
        this.#offset = offset;
        const { curves } = this.state.value;
        for (const [name, values] of numbersOf(rows)) {
          let curve = curves.get(name);
          if (curve === undefined) {
            curve = emptyCurve();
            curves.set(name, curve);
          }
          for (const { step, value } of values) append(curve, step, value);
        }
        // Rows come faster than they can be seen: told once a frame.
        this.#frame ??= requestAnimationFrame(() => {
          this.#frame = undefined;
          this.#change({ gone: false });
        });
      },
      reset: () => void this.#load(),
      run: (row) => {
        this.row.set(row);
        if (this.state.value.gone) this.#change({ gone: false });
      },
      pictures: ({ kind }) =>
        this.pictures.set({ ...this.pictures.value, [kind]: (this.pictures.value[kind] ?? 0) + 1 }),
      gone: () => this.#change({ gone: true }),
    });
  }

  #change(part: Partial<LiveState>): void {
    this.state.set({ ...this.state.value, ...part, version: this.state.value.version + 1 });
  }
}
