/** Pictures drawn now by the server's worker: asked for, awaited, and given up when another request has waited long enough. */

import { useEffect, useRef, useState } from 'preact/hooks';
import type { DrawAnswer, DrawRequest, FileId, JobEvents } from '../../src/api.js';
import { post, remove, Stream, server } from './client.js';
import { useStore } from './hooks.js';

export interface Drawing {
  /** One row a point, one entry a picture; of the last request while nothing of the new one is there. */
  files: (FileId | null)[][];
  progress: { share: number; phase: string } | null;
  error: Error | null;
}

/** What is drawn may finish for so long before the next request ends it: ending costs the worker its loaded model. */
const PATIENCE_MS = 3000;

/** One request at a time; of those that come meanwhile the newest is next. */
class Drawer {
  #running: { job: string | null; stream?: Stream<JobEvents> } | undefined;
  #next: string | null = null;
  #timer: ReturnType<typeof setTimeout> | undefined;

  constructor(readonly tell: (change: (last: Drawing) => Drawing) => void) {}

  want(asked: string): void {
    if (this.#running === undefined) {
      this.#start(asked);
      return;
    }
    this.#next = asked;
    this.#timer ??= setTimeout(() => {
      this.end();
      this.#goOn();
    }, PATIENCE_MS);
  }

  /** Ends what is drawn. */
  end(): void {
    const running = this.#running;
    this.#running = undefined;
    clearTimeout(this.#timer);
    this.#timer = undefined;
    running?.stream?.close();
    if (running !== undefined && running.job !== null)
      remove(`/api/jobs/${running.job}`).catch(() => undefined);
  }

  #goOn(): void {
    const next = this.#next;
    this.#next = null;
    if (next !== null) this.#start(next);
  }

  #start(asked: string): void {
    const running: { job: string | null; stream?: Stream<JobEvents> } = { job: null };
    this.#running = running;
    const over = (change: (last: Drawing) => Drawing) => {
      if (this.#running !== running) return;
      running.job = null;
      this.tell(change);
      this.end();
      this.#goOn();
    };
    this.tell((last) => ({ ...last, progress: { share: 0, phase: 'waiting' }, error: null }));
    post<DrawAnswer>('/api/draw', JSON.parse(asked)).then(
      ({ job, files }) => {
        if (this.#running !== running) {
          if (job !== null) remove(`/api/jobs/${job}`).catch(() => undefined);
          return;
        }
        this.tell((last) => ({ ...last, files }));
        if (job === null) return over((last) => ({ ...last, progress: null }));
        running.job = job;
        running.stream = new Stream<JobEvents>(() => `/api/jobs/${job}/events`, {
          progress: (progress) => this.tell((last) => ({ ...last, progress })),
          picture: ({ point, picture, file }) =>
            this.tell((last) => ({ ...last, files: withFile(last.files, point, picture, file) })),
          done: () => over((last) => ({ ...last, progress: null })),
          failed: ({ message }) => over((last) => ({ ...last, progress: null, error: new Error(message) })),
        });
      },
      (error: Error) => over((last) => ({ ...last, progress: null, error })),
    );
  }
}

const withFile = (files: Drawing['files'], point: number, picture: number, file: FileId) =>
  files.map((row, i) => (i === point ? row.map((old, k) => (k === picture ? file : old)) : row));

/** @param request null: draw nothing */
export function useDrawing(request: DrawRequest | null): Drawing {
  const asked = request === null ? '' : JSON.stringify(request);
  const { generation } = useStore(server);
  const [drawing, setDrawing] = useState<Drawing>({ files: [], progress: null, error: null });
  const drawer = useRef<Drawer>(null);
  useEffect(() => {
    const made = new Drawer(setDrawing);
    drawer.current = made;
    return () => made.end();
  }, [generation]); // jobs and files of before are void when the server was away
  useEffect(() => {
    if (asked !== '') drawer.current?.want(asked);
  }, [asked, generation]);
  return drawing;
}
