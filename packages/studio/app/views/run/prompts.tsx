/** Mean reward of each prompt: which rise, which do not. */

import { useState } from 'preact/hooks';
import type { PromptsAnswer } from '../../../src/api.js';
import { grouped, plural, reward } from '../../lib/format.js';
import { Choice, Delta } from '../../ui/parts.js';
import { Sparkline } from '../../ui/sparkline.js';

type Order = 'change' | 'last' | 'name';
const FEW = 12;

export function Prompts({ answer }: { answer: PromptsAnswer }) {
  const [order, setOrder] = useState<Order>('change');
  const [all, setAll] = useState(false);
  const prompts = [...answer.prompts].sort((a, b) =>
    order === 'name'
      ? a.prompt.localeCompare(b.prompt)
      : order === 'last'
        ? b.last - a.last
        : b.last - b.first - (a.last - a.first),
  );
  const shown = all ? prompts : prompts.slice(0, FEW);
  return (
    <section class="chart-group" aria-labelledby="prompts-title">
      <div class="row">
        <h2 id="prompts-title">Rewards by prompt</h2>
        <span class="muted small">{plural(answer.prompts.length + answer.more, 'prompt')}</span>
        <span class="grow" />
        <Choice
          label="Order of prompts"
          value={order}
          onChange={setOrder}
          options={[
            { value: 'change', label: 'by change' },
            { value: 'last', label: 'by reward' },
            { value: 'name', label: 'by name' },
          ]}
        />
      </div>
      <ul class="prompts">
        {shown.map(({ prompt, points, first, last, pictures }) => (
          <li key={prompt} title={`${prompt}: ${plural(pictures, 'picture')}`}>
            <span class="cut">{prompt === '' ? '(empty prompt)' : prompt}</span>
            <Sparkline points={points.map(({ step, mean }) => ({ step, value: mean }))} width={90} />
            <span class="number small">
              <span class="muted">{reward(first)} → </span>
              {reward(last)}
            </span>
            <span class="number small">
              <Delta value={last - first} />
            </span>
          </li>
        ))}
      </ul>
      {prompts.length > FEW && (
        <button type="button" class="quiet" aria-expanded={all} onClick={() => setAll(!all)}>
          {all ? 'Show fewer' : `Show all ${grouped(prompts.length)}`}
        </button>
      )}
    </section>
  );
}
