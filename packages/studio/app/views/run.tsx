/** One run: its head, what is wrong with it, and its tabs. */

import { useEffect, useMemo } from 'preact/hooks';
import type { RunDetail, RunRow } from '../../src/api.js';
import { duration, grouped, plural, reward } from '../lib/format.js';
import { useAnswer, useStore } from '../lib/hooks.js';
import { LiveMetrics } from '../lib/live-metrics.js';
import { address, type RunTab } from '../lib/route.js';
import { Delta, Loading, Problem, Share, StartToNow, StateMark, TabLinks } from '../ui/parts.js';
import { AlarmBanner } from './run/alarm.js';
import { CurvesTab } from './run/curves.js';
import { FindingsTab } from './run/findings.js';
import { PicturesTab } from './run/pictures.js';
import { RecipeTab } from './run/recipe.js';
import { StopButton } from './run/stop.js';
import { StrengthTab } from './run/strength.js';
import { TimeTab } from './run/time.js';

const tabs: { name: RunTab; label: string }[] = [
  { name: 'curves', label: 'Curves' },
  { name: 'pictures', label: 'Pictures' },
  { name: 'time', label: 'Through time' },
  { name: 'strength', label: 'Strength' },
  { name: 'findings', label: 'Why' },
  { name: 'recipe', label: 'Recipe' },
];

export function RunView({ id, tab, canDraw }: { id: string; tab: RunTab; canDraw: boolean }) {
  const live = useMemo(() => new LiveMetrics(id), [id]);
  useEffect(() => () => live.close(), [live]);
  const liveRow = useStore(live.row);
  const { gone } = useStore(live.state);
  const newPictures = useStore(live.pictures);
  // The detail lists checkpoints, metrics and steps with pictures: asked for again when one of them may be new.
  const version = `${liveRow?.state} ${liveRow?.alarm?.step} ${liveRow?.bestStep} ${JSON.stringify(newPictures)}`;
  const { data: detail, error, again } = useAnswer<RunDetail>(`/api/runs/${encodeURIComponent(id)}`, version);
  useEffect(() => {
    document.title = detail === undefined ? 'rldf studio' : `${detail.name} – rldf studio`;
    return () => {
      document.title = 'rldf studio';
    };
  }, [detail]);

  if (detail === undefined) {
    return error === undefined ? (
      <Loading what="the run" />
    ) : (
      <Problem error={error} again={again} what={`“${id}” cannot be shown.`} />
    );
  }
  const row: RunRow = liveRow ?? detail;
  return (
    <>
      <Head row={row} detail={detail} />
      {gone && (
        <p class="banner bad-banner" role="alert">
          <strong>The folder of this run is gone:</strong> removed, moved or renamed. What is shown is what
          was read before.
        </p>
      )}
      {row.state === 'damaged' && (
        <p class="banner bad-banner" role="alert">
          <strong>This run cannot be read.</strong> {row.problem}
        </p>
      )}
      {row.alarm !== null && <AlarmBanner id={id} alarm={row.alarm} />}
      <TabLinks
        label="Parts of the run"
        tabs={tabs}
        active={tab}
        to={(name) => address({ view: 'run', id, tab: name })}
      />
      {tab === 'curves' && <CurvesTab live={live} detail={detail} row={row} />}
      {tab === 'pictures' && <PicturesTab detail={detail} version={newPictures} />}
      {tab === 'time' && <TimeTab detail={detail} live={live} canDraw={canDraw} />}
      {tab === 'strength' && <StrengthTab detail={detail} canDraw={canDraw} />}
      {tab === 'findings' && <FindingsTab id={id} version={version} />}
      {tab === 'recipe' && <RecipeTab detail={detail} />}
    </>
  );
}

function Head({ row, detail }: { row: RunRow; detail: RunDetail }) {
  const change = row.rewardNow === null || row.rewardStart === null ? null : row.rewardNow - row.rewardStart;
  const { report } = detail;
  return (
    <header class="run-head">
      <div class="view-head">
        <h1>{row.name}</h1>
        <StateMark state={row.state} />
        {row.state === 'running' && (
          <span class="head-progress">
            <Share value={row.steps === null ? 0 : row.step / row.steps} label="Progress" />
          </span>
        )}
        <span class="muted">
          step {grouped(row.step)}
          {row.steps !== null && ` of ${grouped(row.steps)}`}
          {row.state === 'running' && row.etaSeconds !== null && `, ${duration(row.etaSeconds)} left`}
        </span>
        <span class="grow" />
        <StopButton detail={detail} state={row.state} />
      </div>
      <dl class="strip">
        <div>
          <dt>
            {row.reward}
            {row.unit !== '' && `, ${row.unit}`}
          </dt>
          <dd class="big-number">
            <StartToNow start={row.rewardStart} now={row.rewardNow} /> <Delta value={change} />
          </dd>
        </div>
        <div>
          <dt>best</dt>
          <dd>
            {reward(row.rewardBest)}
            {row.bestStep !== null && <span class="muted"> at step {grouped(row.bestStep)}</span>}
          </dd>
        </div>
        {report !== null && (
          <div>
            <dt>on {plural(report.prompts, 'test prompt')}</dt>
            <dd title={report.note}>
              <Delta value={report.difference} />
              {report.ci95 !== null && (
                <span class="muted">
                  {' '}
                  [{reward(report.ci95[0])}, {reward(report.ci95[1])}]
                </span>
              )}
            </dd>
          </div>
        )}
        <div>
          <dt>pictures</dt>
          <dd>{grouped(row.pictures)}</dd>
        </div>
        <div>
          <dt>training</dt>
          <dd>{duration(row.seconds)}</dd>
        </div>
        <div>
          <dt>method</dt>
          <dd>{row.method}</dd>
        </div>
        <div>
          <dt>model</dt>
          <dd>
            {row.model} <span class="muted">on {row.device}</span>
          </dd>
        </div>
        <div>
          <dt>seed</dt>
          <dd>{row.seed ?? '–'}</dd>
        </div>
      </dl>
    </header>
  );
}
