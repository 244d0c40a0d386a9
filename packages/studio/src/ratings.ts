/**
 * People's ratings. Every answer is one line of `SET.journal.jsonl`; from all of them `SET.jsonl` is written anew, which is what
 * `reward: { ratings: FILE }` reads: one line a rated picture, named by its hash.
 */

import { createHash, randomBytes } from 'node:crypto';
import { appendFile, mkdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { PictureInfo, RatingAnswer, RatingRequest, RatingSession } from './api.js';
import type { RunsFolder } from './folder.js';
import { badRequest, notFound } from './problem.js';

const mostItems = 500;
const mostPairs = 500;

export type Answer =
  | { kind: 'score'; picture: string; rating: number }
  | { kind: 'pair'; a: string; b: string; better: 'a' | 'b' | 'tie' };

interface Item {
  picture: string;
  prompt: string;
  path: string;
  /** SHA-256 of size and pixels, when it was asked for. */
  hash: string | undefined;
}

/** Ratings of one run's pictures. */
export class RatingSets {
  readonly #items = new Map<string, Map<string, Item>>();
  #turn: Promise<unknown> = Promise.resolve();

  constructor(
    readonly folder: RunsFolder,
    readonly hashPicture: (file: string) => Promise<string>,
  ) {}

  /** @param pictures all that may be rated; those without a file are passed over */
  async session(set: string, pictures: readonly PictureInfo[]): Promise<RatingSession> {
    const items = new Map<string, Item>();
    for (const { file, prompt } of pictures) {
      if (file === null) continue;
      const path = this.folder.pathOfFile(file);
      // opaque, the same at every visit, and in an order that says nothing of when it was drawn
      const picture = createHash('sha256')
        .update(`${set} ${this.folder.idOf(path)}`)
        .digest('base64url')
        .slice(0, 16);
      items.set(picture, { picture, prompt, path, hash: this.#items.get(set)?.get(picture)?.hash });
    }
    const shuffled = [...items.values()].sort((a, b) => (a.picture < b.picture ? -1 : 1)).slice(0, mostItems);
    this.#items.set(set, new Map(shuffled.map((item) => [item.picture, item])));
    const answers = await this.answers(set);
    const scores = scoresOf(answers);
    return {
      set,
      items: shuffled.map(({ picture, prompt, path }) => ({
        picture,
        prompt,
        file: this.folder.idOfFile(path),
        rating: scores.get(picture) ?? null,
      })),
      pairs: pairsOf(shuffled, answers),
      done: doneOf(answers),
    };
  }

  /** Takes one answer. One at a time. */
  answer(request: RatingRequest): Promise<RatingAnswer> {
    const next = this.#turn.then(() => this.#answer(request));
    this.#turn = next.catch(() => {});
    return next;
  }

  knows(set: string): boolean {
    return this.#items.has(set);
  }

  async answers(set: string): Promise<Answer[]> {
    const text = await readFile(this.#journal(set), 'utf8').catch(() => '');
    const answers: Answer[] = [];
    for (const line of text.split('\n')) {
      try {
        const { undo, ...answer } = JSON.parse(line) as Answer & { undo?: boolean };
        if (undo) answers.pop();
        else answers.push(answer);
      } catch {
        // a line that a crash cut off
      }
    }
    return answers;
  }

  #journal(set: string): string {
    return join(this.folder.path, 'ratings', `${set}.journal.jsonl`);
  }

  async #answer(request: RatingRequest): Promise<RatingAnswer> {
    const { set } = request;
    const items = this.#items.get(set);
    if (items === undefined) throw notFound(`${set}: nothing to rate — reload the page`);
    const known = (picture: unknown) => typeof picture === 'string' && items.has(picture);
    let line: object;
    if (request.kind === 'undo') line = { undo: true };
    else if (request.kind === 'score') {
      const { picture, rating } = request;
      if (!known(picture)) throw badRequest(`picture ${picture}: is not in ${set}`);
      if (!Number.isInteger(rating) || rating < 1 || rating > 5)
        throw badRequest(`rating ${rating}: must be 1, 2, 3, 4 or 5`);
      line = { kind: 'score', picture, rating };
    } else if (request.kind === 'pair') {
      const { a, b, better } = request;
      if (!known(a) || !known(b) || a === b)
        throw badRequest(`pictures ${a} and ${b}: are not two of ${set}`);
      if (!['a', 'b', 'tie'].includes(better)) throw badRequest(`better ${better}: must be a, b or tie`);
      line = { kind: 'pair', a, b, better };
    } else throw badRequest('kind must be score, pair or undo');
    await mkdir(join(this.folder.path, 'ratings'), { recursive: true });
    const before = await readFile(this.#journal(set), 'utf8').catch(() => '');
    const torn = before !== '' && !before.endsWith('\n'); // by a crash
    await appendFile(this.#journal(set), `${torn ? '\n' : ''}${JSON.stringify(line)}\n`);
    const answers = await this.answers(set);
    const path = await this.#write(set, items, answers);
    return { done: doneOf(answers), path, yaml: `reward: { ratings: ${JSON.stringify(path)} }` };
  }

  /** The file that a recipe reads. Written whole under another name first. */
  async #write(set: string, items: ReadonlyMap<string, Item>, answers: readonly Answer[]): Promise<string> {
    const ratings = ratingsOf(answers);
    const lines: string[] = [];
    for (const [picture, rating] of ratings) {
      const item = items.get(picture);
      if (item === undefined) continue; // of a picture that is gone
      item.hash ??= await this.hashPicture(await this.folder.inside(item.path));
      lines.push(JSON.stringify({ prompt: item.prompt, rating, picture: item.hash }));
    }
    const path = join(this.folder.path, 'ratings', `${set}.jsonl`);
    const temporary = `${path}.${randomBytes(4).toString('hex')}`;
    try {
      await writeFile(temporary, lines.map((one) => `${one}\n`).join(''));
      await rename(temporary, path);
    } finally {
      await rm(temporary, { force: true });
    }
    return this.folder.shown(path);
  }
}

const doneOf = (answers: readonly Answer[]) => ({
  scores: answers.filter(({ kind }) => kind === 'score').length,
  pairs: answers.filter(({ kind }) => kind === 'pair').length,
});

/** Mean of the scores of each picture. */
export function scoresOf(answers: readonly Answer[]): Map<string, number> {
  const sums = new Map<string, { sum: number; count: number }>();
  for (const answer of answers) {
    if (answer.kind !== 'score') continue;
    const { sum, count } = sums.get(answer.picture) ?? { sum: 0, count: 0 };
    sums.set(answer.picture, { sum: sum + answer.rating, count: count + 1 });
  }
  return new Map([...sums].map(([picture, { sum, count }]) => [picture, sum / count]));
}

/**
 * What is written of each picture: the mean of its scores; where pictures were compared only, how often such a picture would
 * be preferred: Bradley and Terry's strengths, centred, in nats, with one tie against a picture of average strength each, so
 * that one comparison is no certainty.
 */
export function ratingsOf(answers: readonly Answer[]): Map<string, number> {
  const scores = scoresOf(answers);
  const pairs = answers.filter((answer) => answer.kind === 'pair');
  const strengths = bradleyTerry(pairs);
  if (scores.size === 0) return strengths;
  return scores;
}

/** Hunter's minorise-maximise iteration (2004, equation 3). A tie is half a win each. */
export function bradleyTerry(pairs: readonly Extract<Answer, { kind: 'pair' }>[]): Map<string, number> {
  const names = [...new Set(pairs.flatMap(({ a, b }) => [a, b]))];
  const place = new Map(names.map((name, i) => [name, i]));
  const wins = new Array<number>(names.length).fill(0.5); // the tie with the average picture
  const met = pairs.map(({ a, b, better }) => {
    const [i, j] = [place.get(a) as number, place.get(b) as number];
    wins[i] = (wins[i] as number) + (better === 'a' ? 1 : better === 'tie' ? 0.5 : 0);
    wins[j] = (wins[j] as number) + (better === 'b' ? 1 : better === 'tie' ? 0.5 : 0);
    return [i, j] as const;
  });
  let strength = new Array<number>(names.length).fill(1);
  for (let round = 0; round < 500; round++) {
    const sums = strength.map((own) => 1 / (own + 1));
    for (const [i, j] of met) {
      const shared = 1 / ((strength[i] as number) + (strength[j] as number));
      sums[i] = (sums[i] as number) + shared;
      sums[j] = (sums[j] as number) + shared;
    }
    const next = wins.map((count, i) => count / (sums[i] as number));
    const moved = Math.max(...next.map((value, i) => Math.abs(Math.log(value / (strength[i] as number)))), 0);
    strength = next;
    if (moved < 1e-9) break;
  }
  return new Map(names.map((name, i) => [name, Math.log(strength[i] as number)]));
}

/** Pairs of one prompt, pictures that were compared least first. */
function pairsOf(items: readonly Item[], answers: readonly Answer[]): RatingSession['pairs'] {
  const seen = new Map<string, number>();
  const together = new Set<string>();
  for (const answer of answers) {
    if (answer.kind !== 'pair') continue;
    for (const one of [answer.a, answer.b]) seen.set(one, (seen.get(one) ?? 0) + 1);
    together.add([answer.a, answer.b].sort().join(' '));
  }
  const byPrompt = new Map<string, number[]>();
  items.forEach(({ prompt }, i) => {
    byPrompt.set(prompt, [...(byPrompt.get(prompt) ?? []), i]);
  });
  const pairs: { a: number; b: number; seen: number }[] = [];
  for (const group of byPrompt.values()) {
    for (let distance = 1; distance < Math.min(group.length, 6); distance++) {
      for (let i = 0; i + distance < group.length; i++) {
        const [a, b] = [group[i] as number, group[i + distance] as number];
        const names = [items[a] as Item, items[b] as Item].map(({ picture }) => picture);
        if (together.has([...names].sort().join(' '))) continue;
        pairs.push({
          a,
          b,
          seen: names.reduce((sum, name) => sum + (seen.get(name) ?? 0), 0) + distance / 10,
        });
      }
    }
  }
  return pairs
    .sort((one, other) => one.seen - other.seen)
    .slice(0, mostPairs)
    .map(({ a, b }) => ({ a, b }));
}
