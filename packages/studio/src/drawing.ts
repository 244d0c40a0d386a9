/** Pictures that the page asks for: drawn by one worker process, kept on disk, drawn once. */

import { createHash } from 'node:crypto';
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import type { DrawAnswer, DrawPoint, DrawRequest, JobEvents } from './api.js';
import { type Catalogue, checkpointSteps } from './catalogue.js';
import { factsOf } from './folder.js';
import { badRequest, notFound, unavailable } from './problem.js';
import type { FileAt, Worker, WorkerRequest } from './services.js';

const mostPictures = 16;
const mostPoints = 64;
const strongest = 4;
/** A finished job's events are kept so long, for a browser that reconnects. */
const keptMs = 10 * 60_000;

export type JobEvent = { [Kind in keyof JobEvents]: { kind: Kind; data: JobEvents[Kind] } }[keyof JobEvents];

interface Job {
  id: string;
  request: WorkerRequest;
  events: JobEvent[];
  over: boolean;
  listeners: Set<() => void>;
}

/** The jobs of a server and the worker that does them, one after the other. */
export class Drawing {
  readonly #jobs = new Map<string, Job>();
  #worker: Worker | undefined;
  #next = 1;

  constructor(readonly catalogue: Catalogue) {}

  get possible(): boolean {
    return this.catalogue.services.startWorker !== undefined;
  }

  async draw(request: DrawRequest): Promise<DrawAnswer> {
    const { folder } = this.catalogue;
    const pictures = checkedPictures(request.pictures);
    if (!Array.isArray(request.points) || request.points.length < 1 || request.points.length > mostPoints)
      throw badRequest(`points: expected 1 to ${mostPoints}`);
    const run = await this.catalogue.pathOf(request.run);
    const recipe = await this.catalogue.recipe(request.run);
    const points = await Promise.all(request.points.map((point) => this.#point(point)));
    const cache = folder.own('drawn');
    const { model, sample, negativePrompt, longPrompts, size, microConditioning } = recipe.value;
    const settings = [model, sample, negativePrompt, longPrompts, size, microConditioning];
    const files = await Promise.all(
      points.map(async (point) => {
        const identity = await identityOf(point);
        return pictures.map(({ prompt, seed }) => {
          const key = JSON.stringify([settings, identity, prompt, seed]);
          const name = createHash('sha256').update(key).digest('hex').slice(0, 40);
          return join(cache, name.slice(0, 2), `${name}.png`);
        });
      }),
    );
    const there = await Promise.all(
      files.map((row) => Promise.all(row.map(async (file) => (await factsOf(file)) !== undefined))),
    );
    const answered = files.map((row, i) =>
      row.map((file, j) => (there[i]?.[j] ? folder.idOfFile(file) : null)),
    );
    if (answered.every((row) => row.every((file) => file !== null))) return { job: null, files: answered };
    if (!this.possible)
      throw unavailable(
        'drawing: libtorch was not found — `rldf doctor` says what is missing. Pictures that were drawn before are still shown',
      );
    for (const parent of new Set(files.flat().map((file) => join(file, '..'))))
      mkdirSync(parent, { recursive: true });
    const id = this.#next++;
    const job: Job = {
      id: String(id),
      request: { id, folder: run, pictures, points, files },
      events: [],
      over: false,
      listeners: new Set(),
    };
    this.#jobs.set(job.id, job);
    this.#say(job, { kind: 'progress', data: { share: 0, phase: 'waiting' } });
    this.#send(job);
    return { job: job.id, files: answered };
  }

  /** What a job has said so far, and what it says from now on. @returns the function that ends listening */
  listen(id: string, onEvent: (event: JobEvent, last: boolean) => void): () => void {
    const job = this.#jobs.get(id);
    if (job === undefined) throw notFound(`job ${id}: is unknown or long over — draw again`);
    let said = 0;
    const tell = () => {
      while (said < job.events.length) {
        const event = job.events[said++] as JobEvent;
        onEvent(event, job.over && said === job.events.length);
      }
    };
    job.listeners.add(tell);
    queueMicrotask(tell);
    return () => job.listeners.delete(tell);
  }

  /** Nobody waits for it any more. The worker is ended, since it computes in one thread; the next job starts another. */
  cancel(id: string): void {
    const job = this.#jobs.get(id);
    if (job === undefined || job.over) return;
    this.#over(job, { kind: 'failed', data: { message: 'cancelled' } });
    this.#restart();
  }

  end(): void {
    this.#worker?.end();
    this.#worker = undefined;
  }

  #send(job: Job): void {
    if (this.#worker === undefined) {
      const worker = (this.catalogue.services.startWorker as () => Worker)();
      this.#worker = worker;
      worker.listen(
        (answer) => {
          const found = this.#jobs.get(String(answer.id));
          if (found === undefined || found.over) return;
          if (answer.kind === 'progress') {
            const { share, phase } = answer;
            this.#say(found, { kind: 'progress', data: { share, phase } });
          } else if (answer.kind === 'picture') {
            const { point, picture } = answer;
            const path = found.request.files[point]?.[picture];
            if (path === undefined) return;
            const file = this.catalogue.folder.idOfFile(path);
            this.#say(found, { kind: 'picture', data: { point, picture, file } });
          } else if (answer.kind === 'done') this.#over(found, { kind: 'done', data: {} });
          else this.#over(found, { kind: 'failed', data: { message: answer.message } });
        },
        (why) => {
          if (this.#worker !== worker) return;
          this.#worker = undefined;
          for (const one of this.#jobs.values())
            if (!one.over)
              this.#over(one, { kind: 'failed', data: { message: `the drawing process ended: ${why}` } });
        },
      );
    }
    this.#worker.send(job.request);
  }

  /** A new worker for what still waits. */
  #restart(): void {
    const waiting = [...this.#jobs.values()].filter(({ over }) => !over);
    this.end();
    for (const job of waiting) this.#send(job);
  }

  #over(job: Job, event: JobEvent): void {
    job.over = true;
    this.#say(job, event);
    setTimeout(() => this.#jobs.delete(job.id), keptMs).unref();
  }

  #say(job: Job, event: JobEvent): void {
    if (event.kind === 'progress' && job.events.at(-1)?.kind === 'progress') {
      // only the newest is kept for whoever comes late
      if (job.listeners.size === 0) job.events.pop();
    }
    job.events.push(event);
    for (const tell of job.listeners) tell();
  }

  async #point(point: DrawPoint): Promise<WorkerRequest['points'][number]> {
    if (point?.kind === 'checkpoint') {
      const folder = await this.catalogue.pathOf(String(point.run));
      const kept = await checkpointSteps(folder);
      if (!kept.includes(point.step))
        throw badRequest(
          `checkpoint ${point.step} of ${point.run}: is not kept — there are ${kept.join(', ') || 'none'}`,
        );
      return { kind: 'checkpoint', folder, step: point.step };
    }
    if (point?.kind === 'adapters')
      return { kind: 'adapters', adapters: await this.adapters(point.adapters) };
    throw badRequest('point: kind must be adapters or checkpoint');
  }

  /** Adapters by file id, as files that lie in the runs folder. */
  async adapters(given: unknown): Promise<FileAt[]> {
    if (!Array.isArray(given) || given.length > 8) throw badRequest('adapters: expected a list of at most 8');
    return Promise.all(
      given.map(async ({ file, unet, textEncoder }) => {
        for (const [name, value] of Object.entries({ unet, textEncoder }))
          if (typeof value !== 'number' || !(Math.abs(value) <= strongest))
            throw badRequest(`${name} ${value}: strengths lie between -${strongest} and ${strongest}`);
        const path = await this.catalogue.folder.inside(this.catalogue.folder.pathOfFile(String(file)));
        if (!path.endsWith('.safetensors')) throw badRequest('adapter: is no .safetensors file');
        return { path, unet, textEncoder };
      }),
    );
  }
}

function checkedPictures(pictures: unknown): DrawRequest['pictures'] {
  if (!Array.isArray(pictures) || pictures.length < 1 || pictures.length > mostPictures)
    throw badRequest(`pictures: expected 1 to ${mostPictures}`);
  return pictures.map(({ prompt, seed }) => {
    if (typeof prompt !== 'string' || prompt.length > 2000)
      throw badRequest('prompt: expected text of at most 2,000 letters');
    if (!Number.isSafeInteger(seed) || seed < 0)
      throw badRequest(`seed ${seed}: expected a whole number from 0 to 2^53 - 1`);
    return { prompt, seed };
  });
}

/** What a cached picture depends on besides the recipe: files by size and time of change. */
async function identityOf(point: WorkerRequest['points'][number]): Promise<unknown> {
  if (point.kind === 'checkpoint') {
    const facts = await factsOf(join(point.folder, 'checkpoints', `step-${point.step}`, 'checkpoint.json'));
    return ['checkpoint', point.folder, point.step, facts?.changed];
  }
  return Promise.all(
    point.adapters.map(async ({ path, unet, textEncoder }) => {
      const facts = await factsOf(path);
      return [path, facts?.size, facts?.changed, unet, textEncoder];
    }),
  );
}
