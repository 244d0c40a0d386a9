/**
 * The contract between the server and the page: routes, requests, answers.
 *
 * Security. The printed address is `http://127.0.0.1:PORT/?token=TOKEN`. That first visit sets the cookie `rldf-studio-PORT` (HttpOnly,
 * SameSite=Strict) and redirects to `/`; all else answers 401 without the cookie, or the header `authorization: Bearer TOKEN`. The token
 * stays the same while the runs folder does, so that a page outlives a restart of its server on the same port. Requests that change
 * something (POST, DELETE) must come from the page's own origin with `content-type: application/json`.
 *
 * Everything is JSON in UTF-8. Errors have a status from 400 up and the body `ApiError`. Times are milliseconds since 1970 (UTC), durations
 * are seconds, sizes bytes. Steps are the run's own (an epoch of DDPO), counted from 1; step 0 is before the training. Rewards are in the
 * unit of the run (`RunRow.unit`), higher is better. Numbers that are not finite are `null` in series, and the strings "NaN", "Infinity"
 * and "-Infinity" in metrics rows. Lists are never missing; what is not known is `null`.
 *
 * Ids. A run's, search's or table's id is its folder below the runs folder with "~" for "/"; it is safe in a path. A `FileId` is opaque,
 * made by the server, and good for `GET /api/files/ID` until the server ends or the file is gone (404): ask again then.
 *
 * | method, route | answer |
 * |---|---|
 * | GET /api/studio | StudioInfo |
 * | GET /api/runs | RunsAnswer |
 * | GET /api/events | server-sent events `StudioEvents`: the list has changed |
 * | GET /api/runs/ID | RunDetail |
 * | GET /api/runs/ID/metrics?names=a,b&points=1000&from=0 | MetricsAnswer |
 * | GET /api/runs/ID/events?offset=N | server-sent events `RunEvents`, by byte offset of metrics.jsonl |
 * | GET /api/runs/ID/prompts | PromptsAnswer |
 * | GET /api/runs/ID/histogram?kind=rollout | HistogramAnswer |
 * | GET /api/runs/ID/pictures?kind=rollout&step=N&offset=0&limit=64 | PicturesAnswer |
 * | GET /api/runs/ID/explain | Explanation |
 * | POST /api/runs/ID/stop | StopAnswer |
 * | POST /api/runs/ID/back (BackRequest) | BackAnswer |
 * | GET /api/compare?runs=A,B,C&names=a,b&points=500 | CompareAnswer |
 * | POST /api/draw (DrawRequest) | DrawAnswer |
 * | GET /api/jobs/ID/events | server-sent events `JobEvents` |
 * | DELETE /api/jobs/ID | {} |
 * | POST /api/export (ExportRequest) | ExportAnswer |
 * | GET /api/adapters | AdaptersAnswer |
 * | GET /api/searches/ID | SearchDetail |
 * | GET /api/tables/ID | TableDetail |
 * | GET /api/ratings?run=ID&kind=rollout | RatingSession |
 * | POST /api/ratings (RatingRequest) | RatingAnswer |
 * | GET /api/files/ID | the file; PNG, SVG, safetensors (as a download), JSON, text |
 */

import type { SearchRow, TableRow } from './api-more.js';

export type FileId = string;

/** The body of every answer with a status from 400 up. */
export interface ApiError {
  error: {
    /** For programs: `unauthorised`, `forbidden`, `not-found`, `gone`, `bad-request`, `conflict`, `unavailable`, `internal`. */
    code: string;
    /** For people: what is wrong, why, and what to do. */
    message: string;
  };
}

export interface StudioInfo {
  /** Of rldf. */
  version: string;
  /** The runs folder, as it was given. */
  runsFolder: string;
  /** Whether the worker that draws can be started (false when libtorch or models are missing). */
  canDraw: boolean;
}

// ---------------------------------------------------------------- runs

/**
 * `running`: a process holds the folder now. `finished`: its report is there. `stopped`: neither; `rldf resume` goes on.
 * `damaged`: the recipe cannot be read; `problem` says why.
 */
export type RunState = 'running' | 'finished' | 'stopped' | 'damaged';

export interface RunRow {
  id: string;
  name: string;
  state: RunState;
  /** Only when damaged. */
  problem: string | null;
  /** Such as `ddpo`; '' when damaged. */
  method: string;
  model: string;
  device: string;
  seed: number | null;
  /** Name of the reward; a weighted sum names its parts, joined by " + ". */
  reward: string;
  /** Such as `kB`; '' when rewards have none, or it is not known before the report. */
  unit: string;
  /** Validation reward before the training, now, and the best so far with its step. */
  rewardStart: number | null;
  rewardNow: number | null;
  rewardBest: number | null;
  bestStep: number | null;
  /** Mean reward of the newest training pictures. */
  trainingReward: number | null;
  /** Steps done, and of the whole run. */
  step: number;
  steps: number | null;
  /** Pictures drawn for training. */
  pictures: number;
  /** Seconds spent in training steps. */
  seconds: number;
  /** Seconds left by the last ten steps' mean; null unless running. */
  etaSeconds: number | null;
  startedAt: number | null;
  /** When its metrics grew last. */
  changedAt: number;
  alarm: Alarm | null;
  /** Validation reward over time for a sparkline, at most 40 points; training reward where there are fewer than 2. */
  spark: { step: number; value: number }[];
  /** Runs whose recipes differ in nothing but seed and name have the same key: bands are drawn over them. */
  group: string;
}

/** Hack watch: statistics of the validation pictures parted from the reward. */
export interface Alarm {
  /** Where it was seen first. */
  step: number;
  /** The last step that was looked at without an alarm: where to go back to. */
  lastCleanStep: number;
  /** Newest step that has a checkpoint and is clean; null when none is kept. */
  cleanCheckpoint: number | null;
  symptoms: { name: string; meaning: string }[];
}

export interface RunsAnswer {
  /** The one changed last first. */
  runs: RunRow[];
  searches: SearchRow[];
  tables: TableRow[];
  /** Changes when anything above does. */
  version: string;
}

/** Server-sent events of /api/events. */
export interface StudioEvents {
  /** The list is another one now: fetch /api/runs. At most one a second. */
  changed: { version: string };
}

export interface RunDetail extends RunRow {
  /** As given on the command line, for commands. */
  folder: string;
  /** `recipe.yaml`. */
  recipeText: string;
  recipe: RecipeField[];
  /** `environment.json`, as it is. */
  environment: Record<string, unknown> | null;
  /** Oldest first. */
  checkpoints: { step: number; score: number | null; best: boolean; savedAt: number; bytes: number }[];
  /** Every metric that a row has, in the order of the file. */
  metrics: MetricInfo[];
  /** Steps that have pictures, by kind. */
  pictureSteps: Record<PictureKind, number[]>;
  /** What was learned, when finished. */
  adapters: { name: string; file: FileId; bytes: number; parts: ('unet' | 'textEncoder')[] }[];
  /** `report.json`, when finished. */
  report: {
    before: number;
    after: number;
    difference: number;
    ci95: [number, number] | null;
    prompts: number;
    note: string;
  } | null;
  /** Command lines to be copied. */
  commands: { title: string; command: string }[];
  /** The process that works here, when it can be stopped from this machine. `reason` says why not. */
  stop: { possible: boolean; reason: string | null; pid: number | null; host: string | null };
  /** Byte offset of the end of the last whole line of metrics.jsonl: where `events` goes on. */
  offset: number;
}

export interface RecipeField {
  /** Dotted, such as `train.learningRate`; leaves only, lists of plain values are leaves. */
  path: string;
  value: unknown;
  /** What it means, unit, range, the paper's value; '' for fields without a description (of a user's reward). */
  explanation: string;
  /** The default; undefined where there is none. */
  default?: unknown;
}

export interface MetricInfo {
  /** As in metrics.jsonl, such as `policy/clipFraction`. */
  name: string;
  /** In words. */
  label: string;
  /** `rewards`, `policy`, `optimiser`, `watch`, `speed`, `memory`, `other`: panels of the page, in this order. */
  group: 'rewards' | 'policy' | 'optimiser' | 'watch' | 'speed' | 'memory' | 'other';
  /** Such as `s`, `B`, `nats`; '' for none. */
  unit: string;
  /** A sentence; '' when nothing is known about it. */
  explanation: string;
}

// ---------------------------------------------------------------- metrics

/** A series: columns of equal length, steps strictly ascending. */
export interface Series {
  steps: number[];
  /** Means of the rows of a bucket; null: not finite, draw a gap. */
  values: (number | null)[];
  /** Least and greatest in each bucket; missing when every bucket is one row. */
  low?: (number | null)[];
  high?: (number | null)[];
  /** Rows behind the series. */
  rows: number;
}

export interface MetricsAnswer {
  /** By metric name; those asked for that have no number are missing. */
  series: Record<string, Series>;
  /** Where the read ended: give it to `events`. */
  offset: number;
  /** Whole rows read, and lines that could not be read. */
  rows: number;
  badLines: number;
}

/** One line of metrics.jsonl. */
export type MetricsRow = { step: number } & Record<string, number | string | boolean | null | unknown[]>;

/**
 * Server-sent events of /api/runs/ID/events. Every `rows` has as its id the byte offset behind it: a browser that lost the
 * connection goes on there (Last-Event-ID). `?offset=N` begins there.
 */
export interface RunEvents {
  /** New whole lines, at most 500 an event. */
  rows: { rows: MetricsRow[]; offset: number };
  /** The file is shorter than the offset, or another one: the run was resumed at an earlier step. Fetch metrics again. */
  reset: { offset: number };
  /** The row of the list; sent first, and when state, ETA or alarm change. */
  run: RunRow;
  /** New pictures were written. */
  pictures: { kind: PictureKind; step: number };
  /** The folder is gone: removed, moved or renamed. The stream goes on, and sends `run` if it comes back. */
  gone: { id: string };
}

/** Mean reward of each prompt over time, of training pictures. */
export interface PromptsAnswer {
  /** Sorted by name; at most 500. */
  prompts: {
    prompt: string;
    /** At most 200 points, means of buckets of steps. */
    points: { step: number; mean: number; pictures: number }[];
    /** Means of the first and the last fifth of its pictures. */
    first: number;
    last: number;
    pictures: number;
  }[];
  /** More prompts than are listed. */
  more: number;
}

/** Rewards of single pictures over time. */
export interface HistogramAnswer {
  kind: PictureKind;
  /** 31 edges of 30 bins, the same at all steps; empty when there is nothing. */
  edges: number[];
  /** At most 200 steps. */
  columns: { step: number; counts: number[]; mean: number; pictures: number }[];
}

// ---------------------------------------------------------------- pictures

/**
 * `rollout`: drawn for training. `validation`: same prompts and seeds at every evaluation, the time scrubber's. `test`: at the end,
 * each with its `before`.
 */
export type PictureKind = 'rollout' | 'validation' | 'test';

export interface PictureInfo {
  /** Stable, such as `rollout-12-003`. */
  id: string;
  kind: PictureKind;
  step: number;
  /** Place in the step, from 0; the same place is the same prompt and seed in all validations. */
  index: number;
  prompt: string;
  seed: number | string;
  /** null: only its numbers were kept. */
  file: FileId | null;
  width: number;
  height: number;
  reward: number | null;
  /** Each reward by its name, before weighting. */
  rewards: Record<string, number>;
  /** Advantage, where the method has one. */
  advantage: number | null;
  /** How it was drawn. */
  behaviour: {
    steps: number;
    eta: number;
    /** One a denoising step, in order. */
    guidance: number[];
    /** Weighted words; empty when none. */
    wordWeights: { word: string; weight: number }[];
    negativePrompt: string;
  };
  /** Of test pictures: the one before the training. */
  before: { file: FileId; reward: number } | null;
  redraw: {
    command: string;
    /** Whether the command gives the very picture; else `note` says what differs. */
    exact: boolean;
    note: string;
  };
}

export interface PicturesAnswer {
  kind: PictureKind;
  step: number;
  /** All steps that have pictures of this kind, ascending. */
  steps: number[];
  /** From `offset` on, at most `limit` (<= 256). */
  pictures: PictureInfo[];
  total: number;
}

// ---------------------------------------------------------------- doing something

export interface Explanation {
  curve: 'reward' | 'training loss';
  outcome: 'rose' | 'stalled' | 'fell' | 'rose, then fell' | 'too short to tell';
  evidence: string;
  findings: { what: string; evidence: string; change: string }[];
}

export interface StopAnswer {
  /** The process that was asked to save and end. The state becomes `stopped` when it has. */
  pid: number;
}

export interface BackRequest {
  /** Of a checkpoint. */
  step: number;
  /** Of the new run; default: NAME-back-STEP, with a number if taken. */
  name?: string;
}

export interface BackAnswer {
  /** Id of the new run. The old one is untouched. */
  run: string;
  name: string;
  /** Goes on from there. */
  command: string;
}

export interface CompareAnswer {
  /** Runs with equal `group`, in the order asked for. */
  groups: {
    group: string;
    label: string;
    runs: string[];
    series: Record<
      string,
      {
        steps: number[];
        /** Mean over the runs that have this step; low and high: least and greatest run. */
        mean: (number | null)[];
        low: (number | null)[];
        high: (number | null)[];
        /** Runs behind each point. */
        runs: number[];
      }
    >;
  }[];
  /** Fields in which the recipes differ, with each run's value (undefined: not there). */
  differences: { path: string; values: Record<string, unknown> }[];
}

export type * from './api-more.js';
