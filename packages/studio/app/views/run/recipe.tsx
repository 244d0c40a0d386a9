/** What was asked: every field with what it means; on what it ran; the commands. */

import { useState } from 'preact/hooks';
import type { RecipeField, RunDetail } from '../../../src/api.js';
import { bytes, field, reward } from '../../lib/format.js';
import { Icon } from '../../ui/icons.js';
import { Command, CopyButton, Words } from '../../ui/parts.js';
import { fileAddress } from '../../ui/picture.js';

export function RecipeTab({ detail }: { detail: RunDetail }) {
  const [query, setQuery] = useState('');
  const [changedOnly, setChangedOnly] = useState(false);
  const words = query.toLowerCase().split(/\s+/).filter(Boolean);
  const shown = detail.recipe.filter(
    (entry) =>
      (!changedOnly || isChanged(entry)) &&
      words.every((word) =>
        `${entry.path} ${field(entry.value)} ${entry.explanation}`.toLowerCase().includes(word),
      ),
  );
  return (
    <div class="recipe-view">
      <section aria-label="Recipe">
        <div class="row">
          <h2 class="grow">Recipe</h2>
          <input
            type="search"
            placeholder="Find a field"
            aria-label="Find a field"
            value={query}
            onInput={(event) => setQuery(event.currentTarget.value)}
          />
          <label class="row small">
            <input type="checkbox" checked={changedOnly} onChange={() => setChangedOnly(!changedOnly)} />
            other than the default
          </label>
          <CopyButton text={detail.recipeText} what="the recipe as YAML" label="YAML" />
        </div>
        <dl class="fields">
          {shown.map((entry) => (
            <div key={entry.path}>
              <dt>
                <code>{entry.path}</code>
              </dt>
              <dd class={isChanged(entry) ? 'value changed' : 'value'}>
                {field(entry.value)}
                {isChanged(entry) && entry.default !== undefined && (
                  <span class="muted small"> default {field(entry.default)}</span>
                )}
              </dd>
              <dd class="muted small explanation">
                <Words text={entry.explanation} />
              </dd>
            </div>
          ))}
        </dl>
        {shown.length === 0 && <p class="muted">No field fits.</p>}
      </section>
      <aside class="stack">
        <section class="stack" aria-label="Commands">
          <h2>Commands</h2>
          {detail.commands.map(({ title, command }) => (
            <Command key={title} title={title} command={command} />
          ))}
        </section>
        {detail.adapters.length > 0 && (
          <section class="stack" aria-label="Adapters">
            <h2>What was learned</h2>
            {detail.adapters.map((adapter) => (
              <a key={adapter.file} class="button" href={fileAddress(adapter.file)} download={adapter.name}>
                <Icon name="download" />
                <span class="cut">{adapter.name}</span>
                <span class="muted">{bytes(adapter.bytes)}</span>
              </a>
            ))}
          </section>
        )}
        {detail.checkpoints.length > 0 && (
          <section class="stack" aria-label="Checkpoints">
            <h2>Checkpoints</h2>
            <ul class="checkpoints">
              {detail.checkpoints.map(({ step, score, best, bytes: size }) => (
                <li key={step}>
                  <span>step {step}</span>
                  <span>{score === null ? '' : reward(score)}</span>
                  <span class="good">{best ? 'best' : ''}</span>
                  <span class="muted small">{bytes(size)}</span>
                </li>
              ))}
            </ul>
          </section>
        )}
        {detail.environment !== null && (
          <details>
            <summary>Where it ran</summary>
            <dl class="environment small">
              {Object.entries(detail.environment).map(([name, value]) => [
                <dt key={`${name} name`} class="muted">
                  {name}
                </dt>,
                <dd key={name}>{typeof value === 'object' ? JSON.stringify(value) : String(value)}</dd>,
              ])}
            </dl>
          </details>
        )}
      </aside>
    </div>
  );
}

const isChanged = ({ value, default: initial }: RecipeField): boolean =>
  initial === undefined || JSON.stringify(initial) !== JSON.stringify(value);
