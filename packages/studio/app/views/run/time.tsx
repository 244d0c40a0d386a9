/** Time scrubber: the same prompts and seeds at every evaluation, or at every kept checkpoint. */

import { useEffect, useMemo, useRef, useState } from 'preact/hooks';
import type { PictureInfo, PicturesAnswer, RunDetail } from '../../../src/api.js';
import { get, server } from '../../lib/client.js';
import { reward } from '../../lib/format.js';
import { useReducedMotion, useStore } from '../../lib/hooks.js';
import { keysAreTaken } from '../../lib/keyboard.js';
import type { LiveMetrics } from '../../lib/live-metrics.js';
import { Chart } from '../../ui/chart.js';
import { Icon } from '../../ui/icons.js';
import { Choice, Delta, Empty, Loading, Problem, Slider } from '../../ui/parts.js';
import { Image, PictureGrid } from '../../ui/picture.js';
import { PictureDialog } from '../../ui/picture-dialog.js';
import { GoBack } from './alarm.js';
import { lineOf } from './curves.js';
import { OwnThroughTime } from './own-time.js';

export function TimeTab({
  detail,
  live,
  canDraw,
}: {
  detail: RunDetail;
  live: LiveMetrics;
  canDraw: boolean;
}) {
  const [source, setSource] = useState<'evaluations' | 'own'>('evaluations');
  return (
    <section class="time" aria-label="Through time">
      <div class="row tools">
        <Choice
          label="Pictures of"
          value={source}
          onChange={setSource}
          options={[
            { value: 'evaluations', label: 'Evaluations' },
            { value: 'own', label: 'Your own prompt', disabled: !canDraw || detail.checkpoints.length === 0 },
          ]}
        />
        <span class="small muted">
          {source === 'evaluations'
            ? 'The same prompts and seeds, drawn at each evaluation.'
            : 'Drawn now, by the weights of each kept checkpoint.'}
        </span>
      </div>
      {source === 'evaluations' ? (
        <Evaluations detail={detail} live={live} />
      ) : (
        <OwnThroughTime detail={detail} />
      )}
    </section>
  );
}

function Evaluations({ detail, live }: { detail: RunDetail; live: LiveMetrics }) {
  const steps = detail.pictureSteps.validation;
  const { generation } = useStore(server);
  const { curves, version } = useStore(live.state);
  const [chosen, setChosen] = useState<number | null>(null);
  const [base, setBase] = useState(false);
  const [playing, setPlaying] = useState(false);
  const [open, setOpen] = useState<number | null>(null);
  const still = useReducedMotion();
  const { at, pictures, error } = usePictures(detail.id, steps, generation);
  const index = Math.min(steps.length - 1, chosen ?? steps.length - 1);

  useEffect(() => {
    if (!playing) return;
    const timer = setInterval(
      () => setChosen((last) => ((last ?? steps.length - 1) + 1) % steps.length),
      still ? 1500 : 450,
    );
    return () => clearInterval(timer);
  }, [playing, still, steps.length]);
  useEffect(() => {
    const down = (event: KeyboardEvent) => {
      if (event.key === 'b' && !keysAreTaken(event.target as HTMLElement) && !event.ctrlKey && !event.metaKey)
        setBase(true);
    };
    const up = (event: KeyboardEvent) => event.key === 'b' && setBase(false);
    addEventListener('keydown', down);
    addEventListener('keyup', up);
    return () => {
      removeEventListener('keydown', down);
      removeEventListener('keyup', up);
    };
  }, []);
  const validation = lineOf('validation', '--c2', curves.get('validation/reward'), 0);
  const step = steps[index];
  const marks = useMemo(
    () => (step === undefined ? [] : [{ step, label: '', kind: 'here' as const }]),
    [step],
  );

  if (step === undefined)
    return <Empty title="No evaluation yet">The first one is drawn before the training begins.</Empty>;
  if (error !== undefined && pictures.size === 0)
    return <Problem error={error} what="The pictures could not be read." />;
  const first = pictures.get(steps[0]!);
  const shown = at(base ? steps[0]! : step);
  if (shown === undefined || first === undefined) return <Loading what="the pictures" />;
  const checkpoint = detail.checkpoints.some((kept) => kept.step === step);
  const opened = open === null ? undefined : shown[open];
  return (
    <>
      <div class="scrubber">
        <button
          type="button"
          onClick={() => setPlaying(!playing)}
          aria-pressed={playing}
          disabled={steps.length < 2}
          aria-label={playing ? 'Pause' : 'Play'}
        >
          <Icon name={playing ? 'pause' : 'play'} />
        </button>
        <Slider
          label="Step"
          say={`${step} of ${steps.at(-1)}`}
          value={index}
          min={0}
          max={Math.max(0, steps.length - 1)}
          step={1}
          onInput={(value) => {
            setPlaying(false);
            setChosen(value);
          }}
        />
        <button
          type="button"
          aria-pressed={base}
          onPointerDown={() => setBase(true)}
          onPointerUp={() => setBase(false)}
          onPointerLeave={() => setBase(false)}
          onKeyDown={(event) => event.key === ' ' && setBase(true)}
          onKeyUp={() => setBase(false)}
          title="Hold it, or the key b"
        >
          Hold for step {steps[0]}
        </button>
      </div>
      {validation !== undefined && (
        <Chart
          title="Validation reward"
          lines={[validation]}
          version={version}
          say={reward}
          marks={marks}
          height={110}
          cursor={`time ${detail.id}`}
          range={null}
          onRange={() => undefined}
        />
      )}
      <PictureGrid label={`Pictures at step ${base ? steps[0] : step}`} count={shown.length} class="large">
        {(i, focusable) => {
          const picture = shown[i]!;
          const before = first[i]?.reward ?? null;
          return (
            <li key={picture.index}>
              <button type="button" class="thumb" tabIndex={focusable ? 0 : -1} onClick={() => setOpen(i)}>
                <Image file={picture.file} alt="" />
                <span class="thumb-prompt cut">{picture.prompt}</span>
                <span class="thumb-reward">
                  {reward(picture.reward)}{' '}
                  {step !== steps[0] && !base && picture.reward !== null && before !== null && (
                    <Delta value={picture.reward - before} />
                  )}
                </span>
              </button>
            </li>
          );
        }}
      </PictureGrid>
      {checkpoint && step !== steps.at(-1) && (
        <GoBack id={detail.id} step={step} label={`Go on from step ${step}`} key={step} />
      )}
      {opened !== undefined && (
        <PictureDialog
          picture={opened}
          position={`step ${step}`}
          onClose={() => setOpen(null)}
          onMove={(by) => setOpen((open! + by + shown.length) % shown.length)}
        />
      )}
    </>
  );
}

/** The pictures of all steps, fetched one step after another, the newest first; images are loaded ahead, so that the slider does not wait. */
function usePictures(run: string, steps: number[], generation: number) {
  const [pictures, setPictures] = useState<Map<number, PictureInfo[]>>(new Map());
  const [error, setError] = useState<Error>();
  const known = useRef({ run, generation, asked: new Set<number>() });
  useEffect(() => {
    if (known.current.run !== run || known.current.generation !== generation)
      known.current = { run, generation, asked: new Set() };
    const { asked } = known.current;
    let ended = false;
    const order = [...new Set([steps.at(-1), steps[0], ...[...steps].reverse()])].filter(
      (step) => step !== undefined && !asked.has(step),
    ) as number[];
    void (async () => {
      for (const step of order) {
        if (ended) return;
        try {
          const answer = await get<PicturesAnswer>(
            `/api/runs/${encodeURIComponent(run)}/pictures?kind=validation&step=${step}&limit=64`,
          );
          if (ended) return;
          asked.add(step);
          for (const { file } of answer.pictures)
            if (file !== null) new globalThis.Image().src = `/api/files/${encodeURIComponent(file)}`;
          setPictures((last) => new Map(last).set(step, answer.pictures));
        } catch (caught) {
          if (!ended) setError(caught as Error);
          return;
        }
      }
    })();
    return () => {
      ended = true;
    };
  }, [run, generation, steps]);
  /** Of that step, or until they are there of the nearest one before. */
  const at = (step: number): PictureInfo[] | undefined =>
    pictures.get(step) ?? pictures.get(Math.max(...[...pictures.keys()].filter((known) => known <= step)));
  return { at, pictures, error };
}
