/** Strength dial: how much of what was learned, drawn while it is turned; a pad where text encoder and U-Net, or two runs, are mixed. */

import { useMemo, useState } from 'preact/hooks';
import type {
  AdaptersAnswer,
  DrawRequest,
  PictureInfo,
  PicturesAnswer,
  RunDetail,
} from '../../../src/api.js';
import { adaptersAt, dialAxes, marksOf, type Source } from '../../lib/dial.js';
import { useDrawing } from '../../lib/drawing.js';
import { useAnswer, useKept, useSettled } from '../../lib/hooks.js';
import { parseScenes, type Scene, writeScenes } from '../../lib/scenes.js';
import { Empty, Loading, Problem, Scroll, Share } from '../../ui/parts.js';
import { Image } from '../../ui/picture.js';
import { ExportForm } from './export.js';
import { Pad } from './pad.js';

const FEW = 4;

export function StrengthTab({ detail, canDraw }: { detail: RunDetail; canDraw: boolean }) {
  const { data, error, again } = useAnswer<AdaptersAnswer>('/api/adapters', detail.state);
  const samples = useAnswer<PicturesAnswer>(
    detail.pictureSteps.validation.length === 0
      ? null
      : `/api/runs/${encodeURIComponent(detail.id)}/pictures?kind=validation&step=${detail.pictureSteps.validation[0]}&limit=${FEW}`,
  );
  if (!canDraw)
    return (
      <Empty title="Nothing can be drawn here">
        libtorch or the model was not found. <code>npx rldf doctor</code> says what is missing.
      </Empty>
    );
  if (data === undefined)
    return error === undefined ? (
      <Loading what="the adapters" />
    ) : (
      <Problem error={error} again={again} what="The adapters could not be listed." />
    );
  const own = data.adapters.filter(({ run }) => run === detail.id);
  if (own.length === 0) {
    return (
      <Empty title="Nothing to turn yet">
        {detail.state === 'running' || detail.state === 'stopped'
          ? 'Adapters are written when the run has finished.'
          : 'This run wrote no adapter: it trained all weights.'}
      </Empty>
    );
  }
  if (samples.loading && samples.data === undefined) return <Loading what="the prompts" />;
  return (
    <Dial
      detail={detail}
      adapters={data.adapters}
      initial={scenesOf(samples.data?.pictures ?? [])}
      first={own[0]!.label}
    />
  );
}

function scenesOf(pictures: PictureInfo[]): Scene[] {
  const scenes = pictures.flatMap(({ prompt, seed }) =>
    typeof seed === 'number' ? [{ prompt, seed }] : [{ prompt, seed: 0 }],
  );
  return scenes.length === 0 ? [{ prompt: 'a cat', seed: 0 }] : scenes.slice(0, FEW);
}

function Dial(props: {
  detail: RunDetail;
  adapters: AdaptersAnswer['adapters'];
  initial: Scene[];
  first: string;
}) {
  const { detail, adapters, initial, first } = props;
  const [chosen, setChosen] = useState<string[]>([first]);
  const [place, setPlace] = useState([1, 1]);
  const [text, setText] = useKept(`scenes.${detail.id}`, writeScenes(initial));
  const written = useSettled(text, 700);
  const { scenes, problem } = useMemo(() => parseScenes(written), [written]);
  const sources = useMemo(
    () =>
      chosen.flatMap((label): Source[] => adapters.filter((adapter) => adapter.label === label).slice(0, 1)),
    [chosen, adapters],
  );
  const axes = dialAxes(sources);
  const here = place.slice(0, axes.length);
  const settled = useSettled(JSON.stringify(here), 180);
  const live = useDrawing(requestOf(detail.id, scenes, sources, [JSON.parse(settled) as number[], [0, 0]]));
  const marks = marksOf(axes.length);
  const overview = useDrawing(
    requestOf(detail.id, scenes.slice(0, axes.length === 1 ? 3 : 1), sources, marks),
  );
  const others = adapters.filter(
    ({ label, model }) => !chosen.includes(label) && (model === null || model === detail.model),
  );
  return (
    <div class="strength">
      <section class="stack" aria-label="Strength">
        <ul class="sources">
          {sources.map((source, i) => (
            <li key={source.label} class="row">
              <span class="cut grow">{source.label}</span>
              <span class="small muted">
                {source.parts.map((part) => (part === 'unet' ? 'U-Net' : 'text encoder')).join(' + ')}
              </span>
              {i > 0 && (
                <button
                  type="button"
                  class="quiet small"
                  onClick={() => setChosen(chosen.filter((label) => label !== source.label))}
                >
                  Remove
                </button>
              )}
            </li>
          ))}
        </ul>
        {sources.length < 2 && others.length > 0 && (
          <label class="row small">
            Mix with
            <select
              onChange={({ currentTarget: select }) => {
                const label = others[select.selectedIndex - 1]?.label;
                select.selectedIndex = 0;
                if (label !== undefined) setChosen((last) => [...last, label]);
              }}
            >
              <option>another adapter …</option>
              {others.map(({ label }) => (
                <option key={label}>{label}</option>
              ))}
            </select>
          </label>
        )}
        <Pad
          axes={axes}
          place={here}
          onMove={(next) => setPlace([next[0] ?? 1, next[1] ?? 1])}
          corners={axes.length === 2 ? overview.files.map((row) => row[0] ?? null) : []}
        />
        <label class="stack">
          <span class="small">Prompts, a line each; “#7” at the end is a seed</span>
          <textarea
            rows={5}
            value={text}
            onInput={(event) => setText(event.currentTarget.value)}
            spellcheck={false}
          />
        </label>
        {problem !== null && <p class="small bad">{problem}</p>}
        <ExportForm
          key={settled}
          run={detail.id}
          name={detail.name}
          adapters={adaptersAt(sources, here)}
          place={here}
        />
      </section>
      <section class="stack" aria-label="Drawn at this strength">
        <p class="row small muted" role="status">
          {live.progress === null ? (
            'Left without, right at this strength; same seeds.'
          ) : (
            <>
              <Share value={live.progress.share} label="Drawing" /> {live.progress.phase}
            </>
          )}
        </p>
        {live.error !== null && <Problem error={live.error} what="Nothing was drawn." />}
        <ul class={`pairs ${live.progress === null ? '' : 'waiting'}`}>
          {scenes.map(({ prompt, seed }, i) => (
            <li key={`${prompt} ${seed}`}>
              <span class="two">
                <Image file={live.files[1]?.[i]} alt={`${prompt}, without`} />
                <Image file={live.files[0]?.[i]} alt={`${prompt}, at ${here.join(' and ')}`} />
              </span>
              <span class="cut small">{prompt}</span> <span class="muted small">#{seed}</span>
            </li>
          ))}
        </ul>
        {axes.length === 1 && (
          <Scroll label="The whole range of strengths">
            <table class="through">
              <caption class="small muted">The whole range: pick the knee</caption>
              <thead>
                <tr>
                  {marks.map(([x]) => (
                    <th scope="col" key={x}>
                      <button
                        type="button"
                        class="quiet"
                        aria-pressed={here[0] === x}
                        onClick={() => setPlace([x!, 1])}
                      >
                        {x}
                      </button>
                    </th>
                  ))}
                </tr>
              </thead>
              <tbody>
                {scenes.slice(0, 3).map(({ prompt, seed }, picture) => (
                  <tr key={`${prompt} ${seed}`}>
                    {marks.map(([x], point) => (
                      <td key={x}>
                        <Image file={overview.files[point]?.[picture]} alt={`${prompt} at ${x}`} />
                      </td>
                    ))}
                  </tr>
                ))}
              </tbody>
            </table>
          </Scroll>
        )}
      </section>
    </div>
  );
}

function requestOf(run: string, scenes: Scene[], sources: Source[], places: number[][]): DrawRequest | null {
  if (scenes.length === 0 || sources.length === 0) return null;
  return {
    run,
    pictures: scenes,
    points: places.map((place) => ({ kind: 'adapters', adapters: adaptersAt(sources, place) })),
  };
}
