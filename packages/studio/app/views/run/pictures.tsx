/** What was drawn: a row a step, the newest first. */

import { useState } from 'preact/hooks';
import type { PictureKind, RunDetail } from '../../../src/api.js';
import { plural } from '../../lib/format.js';
import { address } from '../../lib/route.js';
import { Choice, Empty } from '../../ui/parts.js';
import { type PictureOrder, PictureRow } from '../../ui/picture-row.js';

const kinds: { value: PictureKind; label: string; title: string }[] = [
  { value: 'rollout', label: 'Training', title: 'Drawn for training' },
  { value: 'validation', label: 'Evaluation', title: 'The same prompts and seeds each time' },
  { value: 'test', label: 'Before and after', title: 'Drawn for the report' },
];
const ROWS = 12;

export function PicturesTab({
  detail,
  version,
}: {
  detail: RunDetail;
  version: Partial<Record<PictureKind, number>>;
}) {
  const there = kinds.filter(({ value }) => detail.pictureSteps[value].length > 0);
  const [chosen, setKind] = useState<PictureKind | null>(null);
  const [order, setOrder] = useState<PictureOrder>('drawn');
  const [rows, setRows] = useState(ROWS);
  const kind = chosen ?? there[0]?.value;
  if (kind === undefined) {
    return (
      <Empty title="No pictures yet">
        {detail.state === 'running'
          ? 'The first ones appear when the first step is done.'
          : 'None were kept in this run’s folder.'}
      </Empty>
    );
  }
  const steps = [...detail.pictureSteps[kind]].reverse();
  const newest = steps[0];
  return (
    <section aria-label="Pictures">
      <div class="row tools">
        <Choice
          label="Which pictures"
          value={kind}
          onChange={(value) => {
            setKind(value);
            setRows(ROWS);
          }}
          options={kinds.map(({ value, label }) => ({
            value,
            label,
            disabled: detail.pictureSteps[value].length === 0,
          }))}
        />
        <Choice
          label="Order"
          value={order}
          onChange={setOrder}
          options={[
            { value: 'drawn', label: 'as drawn' },
            { value: 'best', label: 'best first' },
          ]}
        />
        <span class="small muted">
          {kinds.find(({ value }) => value === kind)!.title}, {plural(steps.length, 'step')}
        </span>
        <span class="grow" />
        <a class="button" href={address({ view: 'rate', run: detail.id, kind })}>
          Rate them
        </a>
      </div>
      {steps.slice(0, rows).map((step) => (
        <PictureRow
          key={`${kind} ${step}`}
          run={detail.id}
          kind={kind}
          step={step}
          title={step === 0 ? 'Before the training' : `Step ${step}`}
          order={order}
          version={step === newest ? version[kind] : 0}
        />
      ))}
      {steps.length > rows && (
        <button type="button" onClick={() => setRows(rows + ROWS)}>
          Show earlier steps ({steps.length - rows} more)
        </button>
      )}
    </section>
  );
}
