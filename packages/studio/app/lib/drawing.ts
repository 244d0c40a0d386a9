/** Pictures drawn now by the server's worker: asked for, awaited, and given up when another request takes their place. */

import { useEffect, useState } from 'preact/hooks';
import type { DrawAnswer, DrawRequest, FileId, JobEvents } from '../../src/api.js';
import { post, remove, Stream, server } from './client.js';
import { useStore } from './hooks.js';

export interface Drawing {
  /** One row a point, one entry a picture; of the last request while nothing of the new one is there. */
  files: (FileId | null)[][];
  /** Request the files belong to, as JSON. */
  of: string;
  progress: { share: number; phase: string } | null;
  error: Error | null;
}

/** @param request null: draw nothing */
export function useDrawing(request: DrawRequest | null): Drawing {
  const asked = request === null ? '' : JSON.stringify(request);
  const { generation } = useStore(server);
  const [drawing, setDrawing] = useState<Drawing>({ files: [], of: '', progress: null, error: null });
  useEffect(() => {
    if (asked === '') return;
    let ended = false;
    let stream: Stream<JobEvents> | undefined;
    let job: string | null = null;
    const fail = (error: Error) => !ended && setDrawing((last) => ({ ...last, progress: null, error }));
    setDrawing((last) => ({ ...last, progress: { share: 0, phase: 'waiting' }, error: null }));
    post<DrawAnswer>('/api/draw', JSON.parse(asked)).then((answer) => {
      job = answer.job;
      if (ended) return void (job !== null && remove(`/api/jobs/${job}`).catch(() => undefined));
      setDrawing({
        files: answer.files,
        of: asked,
        progress: job === null ? null : { share: 0, phase: 'waiting' },
        error: null,
      });
      if (job === null) return;
      stream = new Stream<JobEvents>(() => `/api/jobs/${job}/events`, {
        progress: (progress) => setDrawing((last) => ({ ...last, progress })),
        picture: ({ point, picture, file }) =>
          setDrawing((last) => ({
            ...last,
            files: last.files.map((row, i) =>
              i === point ? row.map((old, k) => (k === picture ? file : old)) : row,
            ),
          })),
        done: () => {
          stream?.close();
          job = null;
          setDrawing((last) => ({ ...last, progress: null }));
        },
        failed: ({ message }) => {
          stream?.close();
          job = null;
          fail(new Error(message));
        },
      });
    }, fail);
    return () => {
      ended = true;
      stream?.close();
      if (job !== null) remove(`/api/jobs/${job}`).catch(() => undefined);
    };
  }, [asked, generation]);
  return drawing;
}
