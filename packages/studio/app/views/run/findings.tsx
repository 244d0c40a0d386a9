/** Why the reward rose, stalled or fell: what `rldf explain` says. */

import type { Explanation } from '../../../src/api.js';
import { useAnswer } from '../../lib/hooks.js';
import { Empty, Loading, Problem, Words } from '../../ui/parts.js';

const outcomes: Record<Explanation['outcome'], { text: string; class: string }> = {
  rose: { text: 'rose', class: 'good' },
  stalled: { text: 'stalled', class: 'muted' },
  fell: { text: 'fell', class: 'bad' },
  'rose, then fell': { text: 'rose, then fell', class: 'bad' },
  'too short to tell': { text: 'is too short to tell', class: 'muted' },
};

export function FindingsTab({ id, version }: { id: string; version: unknown }) {
  const { data, error, again } = useAnswer<Explanation>(
    `/api/runs/${encodeURIComponent(id)}/explain`,
    version,
  );
  if (data === undefined) {
    return error === undefined ? (
      <Loading what="what the numbers say" />
    ) : (
      <Problem error={error} again={again} what="The run could not be explained." />
    );
  }
  const outcome = outcomes[data.outcome];
  return (
    <section class="findings" aria-label="What the numbers say">
      <h2>
        The {data.curve} {data.outcome === 'too short to tell' ? 'curve ' : ''}
        <span class={outcome.class}>{outcome.text}</span>
      </h2>
      <p class="muted">{data.evidence}</p>
      {data.findings.length === 0 && (
        <Empty title="Nothing stands out">Compare with another seed: tick both in the list of runs.</Empty>
      )}
      <ol>
        {data.findings.map(({ what, evidence, change }) => (
          <li key={what}>
            <h3>{what}</h3>
            <dl>
              <dt>Seen by</dt>
              <dd>{evidence}</dd>
              <dt>Try</dt>
              <dd>
                <Words text={change} />
              </dd>
            </dl>
          </li>
        ))}
      </ol>
    </section>
  );
}
