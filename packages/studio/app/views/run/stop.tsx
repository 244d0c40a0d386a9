/** Asks the process that trains to save and end. */

import { useEffect, useState } from 'preact/hooks';
import type { RunDetail, RunState, StopAnswer } from '../../../src/api.js';
import { post } from '../../lib/client.js';
import { Dialog } from '../../ui/dialog.js';
import { Icon } from '../../ui/icons.js';
import { Problem } from '../../ui/parts.js';

export function StopButton({ detail, state }: { detail: RunDetail; state: RunState }) {
  const [asking, setAsking] = useState(false);
  const [told, setTold] = useState<'no' | 'yes' | Error>('no');
  useEffect(() => {
    if (state !== 'running') setTold('no');
  }, [state]);
  if (state !== 'running') return null;
  const stop = () => {
    setAsking(false);
    setTold('yes');
    post<StopAnswer>(`/api/runs/${encodeURIComponent(detail.id)}/stop`).catch(setTold);
  };
  return (
    <>
      <button
        type="button"
        onClick={() => setAsking(true)}
        disabled={!detail.stop.possible || told === 'yes'}
        title={detail.stop.reason ?? ''}
      >
        <Icon name="stop" />
        {told === 'yes' ? 'Saving …' : 'Stop and save'}
      </button>
      {!detail.stop.possible && detail.stop.reason !== null && (
        <span class="small muted">{detail.stop.reason}</span>
      )}
      {told instanceof Error && <Problem error={told} what="It could not be stopped." />}
      {asking && (
        <Dialog title={`Stop ${detail.name}?`} onClose={() => setAsking(false)} class="small-dialog">
          <p>
            It saves at the next place where that is possible, and ends. Nothing is lost; this goes on from
            there:
          </p>
          <pre class="quote">npx rldf resume {detail.name}</pre>
          <div class="row end">
            <button type="button" onClick={() => setAsking(false)}>
              Let it train
            </button>
            <button type="button" class="primary" onClick={stop}>
              Stop and save
            </button>
          </div>
        </Dialog>
      )}
    </>
  );
}
