/** What the list of runs shows of a metrics file: kept while the file grows, so that 500 runs cost nothing when nothing happens. */

import type { RunsFolder } from './folder.js';
import { Follower, parseRow, type Row } from './lines.js';
import { numberOf } from './series.js';

export interface Point {
  step: number;
  value: number;
}

const validation = 'validation/reward';
const training = 'reward/mean';
const mostSpark = 40;

export class Tally {
  readonly #follower: Follower;
  rewardStart: number | null = null;
  rewardNow: number | null = null;
  best: Point | null = null;
  trainingReward: number | null = null;
  step = 0;
  pictures = 0;
  seconds = 0;
  alarm: { step: number; lastCleanStep: number; symptoms: { name: string; rose: boolean }[] } | null = null;
  #lastSeconds: number[] = [];
  #validation = new Spark();
  #training = new Spark();
  #lastWatched = 0;
  /** The first row with a validation: what symptoms are measured against. */
  #first: Row | undefined;
  #turn: Promise<unknown> = Promise.resolve();

  constructor(folder: RunsFolder, path: string) {
    this.#follower = new Follower(folder, path);
  }

  refresh(): Promise<void> {
    const next = this.#turn.then(async () => {
      await this.#follower.read(
        (lines) => {
          for (const line of lines) {
            const row = parseRow(line);
            if (row !== undefined) this.#take(row);
          }
        },
        () => this.#forget(),
      );
    });
    this.#turn = next.catch(() => {});
    return next;
  }

  get offset(): number {
    return this.#follower.offset;
  }

  /** Mean seconds of the last ten steps; null before the first. */
  get pace(): number | null {
    const { length } = this.#lastSeconds;
    return length === 0 ? null : this.#lastSeconds.reduce((sum, value) => sum + value, 0) / length;
  }

  get spark(): Point[] {
    const points = this.#validation.points;
    return points.length > 1 ? points : this.#training.points;
  }

  #take(row: Row): void {
    this.step = row.step;
    if (typeof row.pictures === 'number') this.pictures = row.pictures;
    const seconds = numberOf(row['time/step']);
    if (seconds !== undefined && Number.isFinite(seconds)) {
      this.seconds += seconds;
      this.#lastSeconds = [...this.#lastSeconds.slice(-9), seconds];
    }
    const trained = numberOf(row[training]);
    if (trained !== undefined && Number.isFinite(trained)) {
      this.trainingReward = trained;
      this.#training.add({ step: row.step, value: trained });
    }
    const reward = numberOf(row[validation]);
    if (reward !== undefined && Number.isFinite(reward)) {
      this.rewardStart ??= reward;
      this.rewardNow = reward;
      if (this.best === null || reward > this.best.value) this.best = { step: row.step, value: reward };
      this.#validation.add({ step: row.step, value: reward });
      this.#first ??= row;
      const symptoms = row['watch/alarm'];
      if (Array.isArray(symptoms) && this.alarm === null) {
        const rose = (name: unknown) => Number(row[`watch/${name}`]) > Number(this.#first?.[`watch/${name}`]);
        this.alarm = {
          step: row.step,
          lastCleanStep: this.#lastWatched,
          symptoms: symptoms.map((name) => ({ name: String(name), rose: rose(name) })),
        };
      }
      this.#lastWatched = row.step;
    }
  }

  #forget(): void {
    this.rewardStart = null;
    this.rewardNow = null;
    this.best = null;
    this.trainingReward = null;
    this.step = 0;
    this.pictures = 0;
    this.seconds = 0;
    this.alarm = null;
    this.#lastSeconds = [];
    this.#validation = new Spark();
    this.#training = new Spark();
    this.#lastWatched = 0;
    this.#first = undefined;
  }
}

/** A few points of a curve of any length: every k-th, where k doubles whenever there are too many; and the newest. */
class Spark {
  #kept: Point[] = [];
  #every = 1;
  #seen = 0;
  #newest: Point | undefined;

  add(point: Point): void {
    this.#newest = point;
    if (this.#seen++ % this.#every === 0) this.#kept.push(point);
    if (this.#kept.length < mostSpark) return;
    this.#kept = this.#kept.filter((_, index) => index % 2 === 0);
    this.#every *= 2;
  }

  get points(): Point[] {
    const last = this.#kept.at(-1);
    return this.#newest === undefined || last?.step === this.#newest.step
      ? this.#kept
      : [...this.#kept, this.#newest];
  }
}
