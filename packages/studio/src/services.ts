/** What the server cannot do by reading folders. `rldf studio` gives it the means, so that this package imports nothing of rldf. */

import type { AdapterAt, DrawPoint, Explanation, MetricInfo, RecipeField } from './api.js';

export interface Services {
  /** Of rldf. */
  version: string;
  /** Why the reward rose, stalled or fell. @param folder of a run */
  explain(folder: string): Explanation;
  /** A recipe's fields with what they mean. @param recipe as in recipe.yaml */
  describeRecipe(recipe: unknown): RecipeField[];
  describeMetric(name: string): MetricInfo;
  /** Steps of the whole run; null where the recipe does not say. */
  stepsOf(recipe: unknown): number | null;
  /** What a hack-watch symptom means, by the statistic's name and whether it rose. */
  symptom(name: string, rose: boolean): string;
  /** Who works in a folder, as its lock says; undefined when nobody does. */
  holderOf(folder: string): Holder | undefined;
  /** Asks the process that holds the folder to save and end. @throws when there is none, or it cannot be reached from here */
  stop(folder: string): number;
  /** Writes a new run folder from a checkpoint. The old one is only read. */
  goBack(folder: string, step: number, name: string): void;
  /** SHA-256 of a picture's size and pixels, as the ratings file names it. */
  hashPicture(file: string): Promise<string>;
  /** Which networks a LoRA file adapts, and its model's name where that is known. */
  describeAdapter(file: string): { parts: ('unet' | 'textEncoder')[] };
  /** Writes the sum of adapters at these strengths as one file. */
  exportAdapters(
    adapters: readonly FileAt[],
    output: string,
  ): { rank: number; layers: { unet: number; textEncoder: number } };
  /** Starts the process that draws; undefined where it cannot be (no libtorch). */
  startWorker?: () => Worker;
}

export interface Holder {
  pid: number;
  host: string;
  /** Whether it runs on this machine and can be signalled from here. */
  here: boolean;
}

export type FileAt = Omit<AdapterAt, 'file'> & { path: string };

/** What the worker is asked, one message each. */
export interface WorkerRequest {
  id: number;
  /** Of the run whose model and sampling are used. */
  folder: string;
  pictures: { prompt: string; seed: number }[];
  /** One model a point; a checkpoint's folder is that of its run. */
  points: ({ kind: 'adapters'; adapters: FileAt[] } | { kind: 'checkpoint'; folder: string; step: number })[];
  /** Where each picture is written, one row a point; those that are there already are passed over. */
  files: string[][];
}

/** What it answers. */
export type WorkerAnswer = { id: number } & (
  | { kind: 'progress'; share: number; phase: string }
  | { kind: 'picture'; point: number; picture: number }
  | { kind: 'done' }
  | { kind: 'failed'; message: string }
);

/** A process that speaks this protocol. */
export interface Worker {
  send(request: WorkerRequest): void;
  /** @param ended called once, with what the process said last, when it ends */
  listen(answer: (answer: WorkerAnswer) => void, ended: (why: string) => void): void;
  /** Ends it; what it draws is lost. */
  end(): void;
}

export type { AdapterAt, DrawPoint };
