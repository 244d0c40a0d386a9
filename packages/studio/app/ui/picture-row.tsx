/** The pictures of one step in a row, fetched when it comes near the window. */

import { useState } from 'preact/hooks';
import type { PictureKind, PicturesAnswer } from '../../src/api.js';
import { plural, reward } from '../lib/format.js';
import { useAnswer, useSeen } from '../lib/hooks.js';
import { extent } from '../lib/series.js';
import { Problem } from './parts.js';
import { PictureGrid, Thumb } from './picture.js';
import { PictureDialog } from './picture-dialog.js';

export type PictureOrder = 'drawn' | 'best';

export function PictureRow(props: {
  run: string;
  kind: PictureKind;
  step: number;
  title: string;
  order: PictureOrder;
  version?: unknown;
}) {
  const { run, kind, step, title, order, version } = props;
  const [reference, seen] = useSeen<HTMLElement>();
  const [open, setOpen] = useState<string | null>(null);
  const [all, setAll] = useState(false);
  const path = `/api/runs/${encodeURIComponent(run)}/pictures?kind=${kind}&step=${step}&limit=256`;
  const { data, error, again } = useAnswer<PicturesAnswer>(
    seen ? path : null,
    version,
    `${run} ${kind} ${step}`,
  );
  const drawn = data?.pictures ?? [];
  const kept = drawn.filter(({ file }) => file !== null);
  const pictures =
    order === 'drawn'
      ? kept
      : [...kept].sort(
          (a, b) => (b.reward ?? Number.NEGATIVE_INFINITY) - (a.reward ?? Number.NEGATIVE_INFINITY),
        );
  const rewards = drawn.map((picture) => picture.reward);
  const finite = rewards.filter((value) => value !== null);
  const mean = finite.length === 0 ? null : finite.reduce((sum, value) => sum + value, 0) / finite.length;
  const at = pictures.findIndex(({ id }) => id === open);
  const picture = pictures[at];
  return (
    <section
      class="picture-row"
      ref={reference}
      aria-label={`${title}, ${plural(data?.total ?? 0, 'picture')}`}
    >
      <header>
        <h3>{title}</h3>
        {mean !== null && <span class="small muted">mean {reward(mean)}</span>}
        {data !== undefined && kept.length > 0 && kept.length < data.total && (
          <span class="small muted">
            {kept.length} of {data.total} pictures
          </span>
        )}
        {kept.length > 12 && (
          <button type="button" class="quiet small" aria-expanded={all} onClick={() => setAll(!all)}>
            {all ? 'one line' : 'all'}
          </button>
        )}
      </header>
      {error !== undefined && data === undefined && (
        <Problem error={error} again={again} what="These pictures could not be read." />
      )}
      {data === undefined && error === undefined && <div class="picture-wait" />}
      {data !== undefined && drawn.length === 0 && (
        <p class="small muted">No pictures were kept of this step.</p>
      )}
      <PictureGrid label={title} count={pictures.length} class={all ? '' : 'one-line'}>
        {(i, focusable) => (
          <Thumb
            key={pictures[i]!.id}
            picture={pictures[i]!}
            focusable={focusable}
            range={extent(rewards)}
            onOpen={() => setOpen(pictures[i]!.id)}
          />
        )}
      </PictureGrid>
      {picture !== undefined && (
        <PictureDialog
          picture={picture}
          position={`${at + 1} of ${pictures.length}`}
          onClose={() => setOpen(null)}
          onMove={(by) => setOpen(pictures[(at + by + pictures.length) % pictures.length]!.id)}
        />
      )}
    </section>
  );
}
