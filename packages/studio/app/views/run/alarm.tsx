/** Hack watch: what parted from the reward, and the way back. */

import { useState } from 'preact/hooks';
import type { Alarm, BackAnswer } from '../../../src/api.js';
import { post } from '../../lib/client.js';
import { address } from '../../lib/route.js';
import { Icon } from '../../ui/icons.js';
import { Command, Problem } from '../../ui/parts.js';

export function AlarmBanner({ id, alarm }: { id: string; alarm: Alarm }) {
  return (
    <section class="banner warn-banner alarm" aria-labelledby="alarm-title">
      <Icon name="alarm" />
      <div class="grow stack">
        <p>
          <strong id="alarm-title">Reward hacking may have begun at step {alarm.step}.</strong> The reward
          rose while the pictures changed in a way that it does not ask for:{' '}
          {alarm.symptoms.map(({ name, meaning }, i) => (
            <span key={name} title={name}>
              {i > 0 && '; '}
              {meaning}
            </span>
          ))}
          .
        </p>
        {alarm.cleanCheckpoint === null ? (
          <p class="muted">
            No checkpoint of before is kept (last clean step: {alarm.lastCleanStep}). checkpoint.keep keeps
            more of them.
          </p>
        ) : (
          <GoBack id={id} step={alarm.cleanCheckpoint} />
        )}
      </div>
    </section>
  );
}

/** Makes a new run out of a checkpoint. */
export function GoBack({ id, step, label }: { id: string; step: number; label?: string }) {
  const [state, setState] = useState<'idle' | 'asking' | { made: BackAnswer } | { error: Error }>('idle');
  const go = () => {
    setState('asking');
    post<BackAnswer>(`/api/runs/${encodeURIComponent(id)}/back`, { step }).then(
      (made) => setState({ made }),
      (error: Error) => setState({ error }),
    );
  };
  if (typeof state === 'object' && 'made' in state) {
    const { made } = state;
    return (
      <div class="stack" role="status">
        <p>
          <a href={address({ view: 'run', id: made.run, tab: 'curves' })}>{made.name}</a> begins at step{' '}
          {step}; this run is as it was.
        </p>
        <Command command={made.command} title="Goes on from there" />
      </div>
    );
  }
  return (
    <div class="row">
      <button type="button" onClick={go} disabled={state === 'asking'}>
        <Icon name="back" />
        {state === 'asking' ? 'Writing the new run …' : (label ?? `Go back to step ${step}`)}
      </button>
      <span class="small muted">writes a new run from that checkpoint; this one stays</span>
      {typeof state === 'object' && 'error' in state && (
        <Problem error={state.error} again={go} what="Going back did not work." />
      )}
    </div>
  );
}
