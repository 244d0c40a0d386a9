/** A search of `rldf search`: its world as a grid with pictures, Q or visits; the way through it; sliders along its axes. */

import { useMemo, useState } from 'preact/hooks';
import type { SearchDetail } from '../../src/api.js';
import { grouped, plural, reward, short } from '../lib/format.js';
import { listVersion, useAnswer, useStore, useThrottled } from '../lib/hooks.js';
import { address } from '../lib/route.js';
import { emptyCurve } from '../lib/series.js';
import { Chart } from '../ui/chart.js';
import { Loading, Problem, Slider, StateMark } from '../ui/parts.js';
import { fileAddress, Image } from '../ui/picture.js';
import { lineOf } from './run/curves.js';
import { World } from './search-world.js';

export function SearchView({ id }: { id: string }) {
  const version = useThrottled(useStore(listVersion), 500);
  const { data, error, again } = useAnswer<SearchDetail>(`/api/searches/${encodeURIComponent(id)}`, version);
  const curve = useMemo(() => {
    const made = emptyCurve();
    const trace = data?.trace ?? [];
    const every = Math.max(1, Math.ceil(trace.length / 2000));
    for (let i = 0; i < trace.length; i += every) {
      const bucket = trace.slice(i, i + every).map((look) => look.reward);
      made.steps.push(i + 1);
      made.values.push(bucket.reduce((a, b) => a + b, 0) / bucket.length);
      made.low.push(Math.min(...bucket));
      made.high.push(Math.max(...bucket));
      made.counts.push(bucket.length);
    }
    return made;
  }, [data]);
  if (data === undefined)
    return error === undefined ? (
      <Loading what="the search" />
    ) : (
      <Problem error={error} again={again} what={`“${id}” cannot be shown.`} />
    );
  const line = lineOf('reward', '--c1', curve, 0);
  return (
    <>
      <header class="view-head">
        <h1>{data.name}</h1>
        <StateMark state={data.state} />
        <span class="muted">
          {data.agent}, {plural(data.steps, 'step')}, {plural(data.states, 'state')}, paid by “
          {data.rewardName}”
        </span>
        <span class="grow" />
        <a href={address({ view: 'searches' })} class="small">
          All searches
        </a>
      </header>
      <section class="search-head" aria-label="Found">
        <figure>
          <Image file={data.input} alt="The input" />
          <figcaption class="small muted">input{data.goal !== '' && `: ${data.goal}`}</figcaption>
        </figure>
        <p class="found">
          <span class="small muted">
            {data.isGoal ? 'Found, and it is the goal' : 'Best so far; not the goal'}
          </span>
          <b>{data.found === '' ? 'nothing yet' : `“${data.found}”`}</b>
        </p>
      </section>
      <World detail={data} />
      {data.path.length > 0 && (
        <section class="chart-group" aria-labelledby="path-title">
          <h2 id="path-title">The way from the start</h2>
          {/* biome-ignore lint/a11y/noNoninteractiveTabindex: a region that scrolls must be reachable by keyboard */}
          <ol class="path" tabIndex={0} aria-label="The way from the start, scrolls">
            {data.path.map(({ sentence, reward: paid, file }, i) => (
              <li key={i}>
                <Image file={file} alt={sentence} />
                <span class="small">{sentence}</span>
                <span class="small muted">{reward(paid)}</span>
              </li>
            ))}
          </ol>
        </section>
      )}
      {data.slides.length > 0 && (
        <section class="chart-group" aria-labelledby="slides-title">
          <h2 id="slides-title">Along one meaning, the others held</h2>
          <div class="slides">
            {data.slides.map((slide) => (
              <Slide key={slide.axis} slide={slide} />
            ))}
          </div>
        </section>
      )}
      {line !== undefined && (
        <section class="chart-group" aria-label="Rewards">
          <Chart
            title="Reward of each look"
            lines={[line]}
            version={curve}
            say={reward}
            cursor={`search ${id}`}
            range={null}
            onRange={() => undefined}
            height={150}
            axis="look"
          />
        </section>
      )}
      {data.finals.length > 0 && (
        <section class="chart-group" aria-labelledby="finals-title">
          <h2 id="finals-title">Final pictures</h2>
          <ul class="pictures">
            {data.finals.map(({ file, sentence }) => (
              <li key={file} class="final">
                <Image file={file} alt={sentence} />
                <span class="small muted cut">{sentence}</span>
              </li>
            ))}
          </ul>
        </section>
      )}
      {data.sheets.length > 0 && (
        <section class="chart-group" aria-labelledby="sheets-title">
          <h2 id="sheets-title">Drawings</h2>
          <ul class="row">
            {data.sheets.map(({ name, file }) => (
              <li key={file}>
                <a class="button" href={fileAddress(file)} target="_blank" rel="noreferrer">
                  {name}
                </a>
              </li>
            ))}
          </ul>
        </section>
      )}
      {data.measures !== null && (
        <details>
          <summary>All measures</summary>
          <dl class="environment small">
            {Object.entries(data.measures).map(([name, value]) => [
              <dt key={`${name} name`} class="muted">
                {name}
              </dt>,
              <dd key={name}>
                {typeof value === 'number'
                  ? Number.isInteger(value)
                    ? grouped(value)
                    : short(value)
                  : typeof value === 'object'
                    ? JSON.stringify(value)
                    : String(value)}
              </dd>,
            ])}
          </dl>
        </details>
      )}
    </>
  );
}

function Slide({ slide }: { slide: SearchDetail['slides'][number] }) {
  const [at, setAt] = useState(0);
  if (slide.files.length === 0) {
    return (
      <figure class="slide sheet">
        <Image file={slide.sheet} alt={`${slide.axis}: ${slide.values.join(', ')}`} />
        <figcaption class="small muted">{slide.axis}</figcaption>
      </figure>
    );
  }
  return (
    <figure class="slide">
      <Image file={slide.files[at]} alt={`${slide.axis}: ${slide.values[at]}`} />
      <Slider
        label={slide.axis}
        say={slide.values[at] || '(nothing)'}
        value={at}
        min={0}
        max={Math.max(0, slide.values.length - 1)}
        step={1}
        onInput={setAt}
      />
    </figure>
  );
}
