/** Rating by people, blind: pairs of the same prompt or single pictures, by keys. What is given is the file that `reward: { ratings }` reads. */

import { useEffect, useState } from 'preact/hooks';
import type { RatingAnswer, RatingRequest, RatingSession, RunRow } from '../../src/api.js';
import { post } from '../lib/client.js';
import { plural } from '../lib/format.js';
import { useAnswer } from '../lib/hooks.js';
import { keysAreTaken, ratingKey } from '../lib/keyboard.js';
import { address } from '../lib/route.js';
import { Choice, Command, Empty, Loading, Problem } from '../ui/parts.js';
import { fileAddress, Image } from '../ui/picture.js';

const kinds = [
  { value: 'rollout', label: 'Training' },
  { value: 'validation', label: 'Evaluation' },
  { value: 'test', label: 'Before and after' },
] as const;

type Mode = 'pair' | 'score';

export function RateView({ run, kind, rows }: { run: string | null; kind: string; rows: RunRow[] }) {
  const [mode, setMode] = useState<Mode>('pair');
  const id = run ?? rows.find(({ pictures }) => pictures > 0)?.id ?? null;
  const go = (nextRun: string | null, nextKind: string) => {
    location.hash = address({ view: 'rate', run: nextRun, kind: nextKind });
  };
  return (
    <div class="rate">
      <header class="view-head">
        <h1>Rate</h1>
        <select
          aria-label="Whose pictures"
          value={id ?? ''}
          onChange={(event) => go(event.currentTarget.value, kind)}
        >
          {rows.map(({ id: each, name }) => (
            <option key={each} value={each}>
              {name}
            </option>
          ))}
        </select>
        <Choice
          label="Which pictures"
          value={kind as (typeof kinds)[number]['value']}
          onChange={(value) => go(id, value)}
          options={[...kinds]}
        />
        <span class="grow" />
        <Choice
          label="How"
          value={mode}
          onChange={setMode}
          options={[
            { value: 'pair', label: 'Pairs' },
            { value: 'score', label: '1 to 5' },
          ]}
        />
      </header>
      {id === null ? (
        <Empty title="Nothing to rate">There are no runs with pictures yet.</Empty>
      ) : (
        <Session key={`${id} ${kind}`} run={id} kind={kind} mode={mode} />
      )}
    </div>
  );
}

function Session({ run, kind, mode }: { run: string; kind: string; mode: Mode }) {
  const { data, error, again } = useAnswer<RatingSession>(
    `/api/ratings?run=${encodeURIComponent(run)}&kind=${kind}`,
  );
  const [at, setAt] = useState({ pair: 0, score: 0 });
  const [answer, setAnswer] = useState<RatingAnswer | null>(null);
  const [failed, setFailed] = useState<Error | null>(null);
  const [said, setSaid] = useState('');
  const unrated = data?.items.findIndex(({ rating }) => rating === null) ?? 0;
  useEffect(() => setAt({ pair: 0, score: unrated < 0 ? (data?.items.length ?? 0) : unrated }), [data?.set]);

  const items = data?.items ?? [];
  const pair = data?.pairs[at.pair];
  const single = items[at.score];
  const give = (request: RatingRequest, by: -1 | 1, words: string) => {
    setFailed(null);
    post<RatingAnswer>('/api/ratings', request).then(
      (told) => {
        setAnswer(told);
        setSaid(words);
        setAt((last) => ({ ...last, [mode]: Math.max(0, last[mode] + by) }));
      },
      (told: Error) => setFailed(told),
    );
  };
  const better = (which: 'a' | 'b' | 'tie') => {
    if (data === undefined || pair === undefined) return;
    give(
      { set: data.set, kind: 'pair', a: items[pair.a]!.picture, b: items[pair.b]!.picture, better: which },
      1,
      which === 'tie' ? 'equal' : which === 'a' ? 'left' : 'right',
    );
  };
  const score = (rating: number) => {
    if (data !== undefined && single !== undefined)
      give({ set: data.set, kind: 'score', picture: single.picture, rating }, 1, `${rating} of 5`);
  };
  const undo = () => {
    if (data !== undefined && at[mode] > 0) give({ set: data.set, kind: 'undo' }, -1, 'taken back');
  };
  useEffect(() => {
    const listen = (event: KeyboardEvent) => {
      if (event.ctrlKey || event.metaKey || event.altKey || keysAreTaken(event.target as HTMLElement)) return;
      if ((event.target as HTMLInputElement | null)?.type === 'radio') return;
      const meaning = ratingKey(event.key, mode);
      if (meaning === undefined) return;
      event.preventDefault();
      if (meaning === 'undo') undo();
      else if ('score' in meaning) score(meaning.score);
      else better(meaning.better);
    };
    addEventListener('keydown', listen);
    return () => removeEventListener('keydown', listen);
  });
  // The next pictures are there before they are asked for.
  useEffect(() => {
    const next = mode === 'pair' ? data?.pairs[at.pair + 1] : undefined;
    const files = next === undefined ? [items[at.score + 1]] : [items[next.a], items[next.b]];
    for (const item of files) if (item !== undefined) new globalThis.Image().src = fileAddress(item.file);
  });
  if (data === undefined)
    return error === undefined ? (
      <Loading what="the pictures" />
    ) : (
      <Problem error={error} again={again} what="There is nothing to rate." />
    );
  const total = mode === 'pair' ? data.pairs.length : items.length;
  const ended = at[mode] >= total;
  const done = answer?.done ?? data.done;
  return (
    <>
      <p class="row small muted" role="status">
        {Math.min(at[mode] + 1, total)} of {total} · given so far: {plural(done.pairs, 'pair')},{' '}
        {plural(done.scores, 'score')}
        <span class="hidden">{said}</span>
      </p>
      {failed !== null && <Problem error={failed} what="That answer was not kept." />}
      {total === 0 && (
        <Empty title={mode === 'pair' ? 'No pairs' : 'No pictures'}>
          {mode === 'pair'
            ? 'A pair needs two pictures of the same prompt.'
            : 'No pictures of this kind were kept.'}
        </Empty>
      )}
      {total > 0 && ended && <Empty title="All rated">Thank you. “u” takes the last one back.</Empty>}
      {mode === 'pair' && pair !== undefined && (
        <>
          <h2 class="rate-prompt">{items[pair.a]!.prompt}</h2>
          <div class="duel">
            {(['a', 'b'] as const).map((side) => (
              <button
                type="button"
                class="duelist"
                key={`${side} ${at.pair}`}
                onClick={() => better(side)}
                aria-label={side === 'a' ? 'The left one is better' : 'The right one is better'}
              >
                <Image file={items[pair[side]]!.file} alt={side === 'a' ? 'left' : 'right'} />
                <kbd>{side === 'a' ? '←' : '→'}</kbd>
              </button>
            ))}
          </div>
          <div class="row centre">
            <button type="button" onClick={() => better('tie')}>
              Equal <kbd>↓</kbd>
            </button>
            <button type="button" class="quiet" onClick={undo} disabled={at.pair === 0}>
              Take back <kbd>u</kbd>
            </button>
          </div>
        </>
      )}
      {mode === 'score' && single !== undefined && (
        <>
          <h2 class="rate-prompt">{single.prompt}</h2>
          <div class="single">
            <Image file={single.file} alt={single.prompt} key={single.picture} />
          </div>
          <div class="row centre">
            {[1, 2, 3, 4, 5].map((rating) => (
              <button type="button" key={rating} onClick={() => score(rating)} aria-label={`${rating} of 5`}>
                {rating}
              </button>
            ))}
            <button type="button" class="quiet" onClick={undo} disabled={at.score === 0}>
              Take back <kbd>u</kbd>
            </button>
          </div>
          <p class="small muted centre">1 is worst, 5 is best</p>
        </>
      )}
      {answer !== null && (
        <details>
          <summary>Use these ratings</summary>
          <div class="stack">
            <p class="small">
              Written to <code>{answer.path}</code>
            </p>
            <Command title="In a recipe" command={answer.yaml} />
          </div>
        </details>
      )}
    </>
  );
}
