/** The contract, continued: drawing, searches, tables, ratings. What routes there are stands in api.ts. */

import type { FileId } from './api.js';

// ---------------------------------------------------------------- drawing: scrubber and strength dial

export interface AdapterAt {
  file: FileId;
  /** Strength of the U-Net's and of the text encoder's part, each in [-4, 4]; 1 as trained, 0 without. */
  unet: number;
  textEncoder: number;
}

/** A model to draw with. `checkpoint`: the run's weights at a kept checkpoint. */
export type DrawPoint =
  | { kind: 'adapters'; adapters: AdapterAt[] }
  | { kind: 'checkpoint'; run: string; step: number };

export interface DrawRequest {
  /** Whose model, steps, guidance and negative prompt: a run's. */
  run: string;
  /** At most 16; seeds are integers in [0, 2^53). */
  pictures: { prompt: string; seed: number }[];
  /** At most 64. Each draws all pictures; a 2 x 2 pad asks for its corners and the place of the finger. */
  points: DrawPoint[];
}

export interface DrawAnswer {
  /** null when all pictures were on disk. */
  job: string | null;
  /** One row a point, one entry a picture; null: follows by the job's events. */
  files: (FileId | null)[][];
}

/** Server-sent events of /api/jobs/ID/events; they are sent again from the beginning on reconnecting. */
export interface JobEvents {
  /** Share of the whole job in [0, 1]; `phase` such as `waiting`, `loading the model`, `drawing`. */
  progress: { share: number; phase: string };
  picture: { point: number; picture: number; file: FileId };
  /** The last one is either of these. */
  done: Record<string, never>;
  failed: { message: string };
}

export interface ExportRequest {
  run: string;
  adapters: AdapterAt[];
  /** File name without ending: letters, digits, ".", "_", "-". */
  name: string;
}

export interface ExportAnswer {
  file: FileId;
  /** Where it lies, for `--adapter`. */
  path: string;
  bytes: number;
  rank: number;
  layers: { unet: number; textEncoder: number };
  /** Draws with it. */
  command: string;
}

export interface AdaptersAnswer {
  /** Of finished runs and of exports, the newest first. */
  adapters: {
    file: FileId;
    /** Run's name and file name. */
    label: string;
    run: string | null;
    model: string | null;
    parts: ('unet' | 'textEncoder')[];
    bytes: number;
  }[];
}

// ---------------------------------------------------------------- searches and tables

export interface SearchRow {
  id: string;
  name: string;
  state: 'running' | 'finished' | 'stopped';
  agent: string;
  /** What the input was recognised as. */
  goal: string;
  /** Best sentence so far. */
  found: string;
  steps: number;
  isGoal: boolean;
  changedAt: number;
}

export interface SearchDetail extends SearchRow {
  input: FileId | null;
  rewardName: string;
  gamma: number;
  /** The world: a grid with one axis a meaning. A state's index is mixed radix over the axes, the LAST axis fastest. */
  axes: { name: string; values: string[] }[];
  states: number;
  start: number;
  goalState: number | null;
  /** Every look in order: state, and reward of its picture. At most 20,000, the newest. */
  trace: { state: number; reward: number }[];
  /** Best Q of each state (max over actions), length `states`; null: never updated. Empty when the agent learns none. */
  q: (number | null)[];
  visits: number[];
  /** The way that was found, from the start. */
  path: { sentence: string; reward: number; file: FileId | null }[];
  /** Pictures of states that were drawn, by state index; at most 2,000. */
  pictures: Record<number, { file: FileId; sentence: string }>;
  /** Along an axis from the found sentence; the page's sliders. Pictures in the order of values, null: not drawn. */
  slides: { axis: string; values: string[]; files: (FileId | null)[]; sheet: FileId | null }[];
  finals: { file: FileId; sentence: string }[];
  /** `search.json` without its lists, when finished. */
  measures: Record<string, unknown> | null;
  /** Ready-made drawings, when finished: world, trajectory, q-values, pictures. */
  sheets: { name: string; file: FileId }[];
}

export interface TableRow {
  id: string;
  name: string;
  question: string;
  arms: number;
  /** Finished (arm, seed) and all. */
  done: number;
  wanted: number;
  changedAt: number;
}

export interface TableDetail extends TableRow {
  paper: string;
  /** SHA-256 of the protocol. */
  protocol: string;
  /** Names of the scores, in order. */
  scores: string[];
  rows: {
    arm: string;
    seeds: number;
    /** Change of each score by training, with its 95 % interval. */
    change: Record<string, Estimate>;
    /** Final scores minus the reference arm's; null for the reference. */
    againstReference: Record<string, Estimate> | null;
    cost: { pictures: number; unetForwards: number; seconds: number; cpuHours: number } | null;
    /** Arms that this one adds up, of fused arms. */
    sumOf: string[];
  }[];
  /** Validation reward by training pictures, one curve an (arm, seed). */
  curves: { arm: string; seed: number; points: { pictures: number; reward: number }[] }[];
  /** (arm, seed) that are missing, such as `ddpo-seed501`. */
  missing: string[];
  /** The page as Markdown, where it was written. */
  markdown: string;
}

export interface Estimate {
  mean: number;
  ci95: [number, number] | null;
  seeds: number;
}

// ---------------------------------------------------------------- ratings

/** What is to be rated: pictures in an order that tells nothing, without step, reward or run. */
export interface RatingSession {
  /** Names the file; of the run. */
  set: string;
  items: {
    /** Opaque. */
    picture: string;
    prompt: string;
    file: FileId;
    /** Mean of what was given so far, null: none yet. */
    rating: number | null;
  }[];
  /** Pairs of the same prompt, by index into `items`, least compared first; at most 500. */
  pairs: { a: number; b: number }[];
  done: { scores: number; pairs: number };
}

/** `score`: 1 to 5. `pair`: which is better; `tie` when neither. */
export type RatingRequest = { set: string } & (
  | { kind: 'score'; picture: string; rating: number }
  | { kind: 'pair'; a: string; b: string; better: 'a' | 'b' | 'tie' }
  /** Takes the last one back. */
  | { kind: 'undo' }
);

export interface RatingAnswer {
  done: { scores: number; pairs: number };
  /** The file that `reward: { ratings: FILE }` reads; written anew with each answer. */
  path: string;
  /** For a recipe. */
  yaml: string;
}
