/** A vision-language model as a judge: it answers a question about each picture, or says which of two is better. */

import { type Picture, picturesOf } from '@rldf/common/base/picture';
import { inTurn } from '@rldf/common/base/remote';
import { howToResume } from '@rldf/common/base/underway';
import { encodePng } from '@rldf/common/drawing/png';
import { shown, UserError } from '@rldf/torch/errors';
import { checkedFields, type VisionRewardField, visionRewardSchema } from '../../config/remote-fields.js';
import { pictureHash } from '../ratings.js';
import type { Reward, RewardBatch } from '../reward.js';
import { Answers, defaultAnswersFolder } from './answers.js';
import { Chat, type Question, readChoice, readNumber, type Said } from './chat.js';
import { connect, RewardUnavailable } from './connection.js';
import { filled, type JudgeTemplate, loadJudgeTemplate } from './judge-template.js';
import { remoteName } from './names.js';

export interface VisionJudge extends Reward {
  /** Calls made so far; answers from the cache cost none. */
  readonly calls: number;
  /** How probable it is that the first picture of each pair is the better one, asked in both orders. */
  compare(pairs: readonly Pair[]): Promise<number[]>;
  /** The same, each order by itself; undefined where an answer could not be read, if the recipe allows for that. */
  prefer(pairs: readonly Pair[]): Promise<(BothOrders | undefined)[]>;
}

/** How probable it is that the first picture of a pair is the better one, by where it is shown. */
export interface BothOrders {
  shownFirst: number;
  shownSecond: number;
}

/** Over both orders: a liking for the first place cancels. An answer that is not there says nothing. */
export const preferenceOf = (asked: BothOrders | undefined): number =>
  asked === undefined ? 0.5 : (asked.shownFirst + asked.shownSecond) / 2;

export interface Pair {
  prompt: string;
  pictures: readonly [Picture, Picture];
}

type Needed = Pick<VisionRewardField, 'vision' | 'endpoint' | 'model'>;

/**
 * @param options.waitSeconds before the first further try
 * @throws UserError when what it should ask is not there; when scoring, of class RewardUnavailable if the server fails
 */
export function visionReward(
  given: VisionRewardField | (Needed & Partial<VisionRewardField>),
  options: { signal?: AbortSignal | undefined; waitSeconds?: number } = {},
): VisionJudge {
  const field = checkedFields(visionRewardSchema, given, 'reward vision');
  const {
    vision,
    endpoint,
    model,
    budget,
    timeout: timeoutSeconds,
    retries,
    parallel,
    key,
    unreadable,
  } = field;
  const template = loadJudgeTemplate(vision);
  const name = remoteName(field);
  const where = `reward ${name}`;
  const url = new URL(endpoint);
  if (!url.pathname.endsWith('/chat/completions'))
    url.pathname = `${url.pathname.replace(/\/$/, '')}/chat/completions`;
  const connection = connect({ where, url, timeoutSeconds, retries, parallel, key, ...options });
  const folder = field.cache ?? defaultAnswersFolder();
  const answers = new Answers(folder, { endpoint: url.href, model, template });
  let calls = 0;
  /** Why the server is asked nothing more, until the next scores are wanted. */
  let failed: RewardUnavailable | undefined;
  const chat = new Chat(connection, model, () => {
    if (failed !== undefined) throw failed;
    if (calls >= budget)
      throw new RewardUnavailable(
        `${where}: the budget of ${budget} calls is spent — no more is asked. The answers are kept in ${answers.file}; raise budget, then ${howToResume() || 'run the command again'}`,
      );
    calls++;
  });
  /** Whether the server tells the probabilities of its words; unknown at first. */
  let tells: boolean | undefined;
  /** Pictures are asked about in their order, whichever file is ready first: a budget or a fault cuts off the last ones. */
  const turn = inTurn();
  /** What is being asked, so that nothing is asked twice at once. */
  const asking = new Map<string, Promise<number | undefined>>();

  /** A score that is known, or else asked for and kept; undefined for an answer that cannot be read. */
  function known(
    key: string,
    ask: () => Promise<{ score: number; words: string } | undefined>,
  ): Promise<number | undefined> {
    const there = answers.get(key);
    if (there !== undefined) return Promise.resolve(there);
    let score = asking.get(key);
    if (score === undefined) {
      score = ask()
        .then((answer) => {
          if (answer === undefined) return undefined;
          answers.put(key, answer.score, answer.words);
          return answer.score;
        })
        .finally(() => asking.delete(key));
      score.catch(() => {}); // whoever waits for it is told
      asking.set(key, score);
    }
    return score;
  }

  /** Asks, and once more where the answer cannot be read. @returns undefined where it cannot and that is allowed for */
  async function readable(
    question: Question,
    of: string,
    read: (said: Said) => number | undefined,
    told: string,
  ): Promise<{ score: number; words: string } | undefined> {
    let said = await chat.ask(question, of);
    let score = read(said);
    if (score === undefined) {
      said = await chat.ask({ ...question, again: { said: said.text, told } }, of);
      score = read(said);
    }
    if (score !== undefined) return { score, words: said.text };
    if (unreadable !== undefined) return undefined;
    throw new RewardUnavailable(
      `${where}: ${model} answered ${shown(said.text)} for ${of}, twice — ${told.replace('Answer with', 'expected')} Change the question, or set unreadable to the score of such pictures; then ${howToResume() || 'run the command again'}`,
    );
  }

  const common = { system: template.system };

  async function scoreOne(prompt: string, picture: Picture): Promise<number> {
    return (await scoreIfRead(prompt, picture)) ?? (unreadable as number);
  }

  function scoreIfRead(prompt: string, picture: Picture): Promise<number | undefined> {
    if (template.ask === 'pair')
      throw new UserError(`${where}: compares pictures — nothing to ask about one`);
    const file = turn(encodePng(picture));
    file.catch(() => {});
    const of = `a picture of "${prompt}"`;
    const keyOf = (ask: string) => JSON.stringify([ask, prompt, pictureHash(picture)]);
    const number = (question: string, scale: readonly [number, number], share: boolean) => async () => {
      const content = [await file, filled(question, prompt)];
      const told = `Answer with one number only, from ${scale[0]} to ${scale[1]}.`;
      const read = ({ text }: Said) => {
        const value = readNumber(text, scale);
        return value !== undefined && share ? (value - scale[0]) / (scale[1] - scale[0]) : value;
      };
      return readable({ ...common, content, maxTokens: template.maxTokens ?? 64 }, of, read, told);
    };
    if (template.ask === 'number')
      return known(keyOf('number'), number(template.question, template.scale, false));
    const { otherwise, question } = template;
    const instead = () => known(keyOf('otherwise'), number(otherwise!.question, otherwise!.scale, true));
    if (otherwise !== undefined && (tells === false || answers.get(keyOf('otherwise')) !== undefined))
      return instead();
    let without = false;
    const yesNo = known(keyOf('yes-no'), async () => {
      const content = [await file, filled(question, prompt)];
      const read = (said: Said) => {
        tells = said.tells;
        without = !tells && otherwise !== undefined;
        return without ? 0 : shareOf(said, YES_NO);
      };
      const asked = { ...common, content, maxTokens: template.maxTokens ?? 16, choices: YES_NO };
      const answer = await readable(asked, of, read, 'Answer with one word only, yes or no.');
      if (without) throw new Without();
      return answer;
    });
    return yesNo.catch((error) => {
      if (error instanceof Without) return instead();
      throw error;
    });
  }

  /** P(the first is better), in one order. */
  function prefers(prompt: string, [a, b]: readonly [Picture, Picture]): Promise<number | undefined> {
    const key = JSON.stringify(['pair', prompt, pictureHash(a), pictureHash(b)]);
    return known(key, async () => {
      const [first, second] = await turn(Promise.all([encodePng(a), encodePng(b)]));
      const content = ['Picture A:', first, 'Picture B:', second, filled(template.question, prompt)];
      const asked = { ...common, content, maxTokens: template.maxTokens ?? 16, choices: A_B };
      const told = 'Answer with one letter only, A or B.';
      return readable(asked, `two pictures of "${prompt}"`, (said) => shareOf(said, A_B), told);
    });
  }

  async function prefer(pairs: readonly Pair[]): ReturnType<VisionJudge['prefer']> {
    if (template.ask !== 'pair')
      throw new UserError(`${where}: asks about one picture (ask: ${template.ask}) — comparing needs ask: pair. Use vision: preference`); // biome-ignore format: one thought
    const both = await whole(() =>
      pairs.flatMap(({ prompt, pictures: [a, b] }) => [prefers(prompt, [a, b]), prefers(prompt, [b, a])]),
    );
    return pairs.map((_, i) => {
      const [there, back] = both.slice(2 * i, 2 * i + 2);
      return there === undefined || back === undefined
        ? undefined
        : { shownFirst: there, shownSecond: 1 - back };
    });
  }

  async function compare(pairs: readonly Pair[]): Promise<number[]> {
    const both = await prefer(pairs);
    return both.map(preferenceOf);
  }

  /** All answers. What was answered is kept before the first failure is told; after it, nothing more is asked. */
  async function whole<T>(ask: () => readonly Promise<T>[]): Promise<T[]> {
    failed = undefined;
    const settled = await Promise.allSettled(
      ask().map((answer) =>
        answer.catch((error) => {
          if (error instanceof RewardUnavailable) failed ??= error;
          throw error;
        }),
      ),
    );
    return settled.map((one) => {
      if (one.status === 'fulfilled') return one.value;
      throw failed ?? one.reason;
    });
  }

  return {
    name,
    unit: '',
    get calls() {
      return calls;
    },
    ...(field.licence !== undefined && { licence: field.licence }),
    compare,
    prefer,
    begin({ images, prompts }) {
      if (template.ask !== 'pair')
        picturesOf(images).forEach((picture, i) => void scoreOne(prompts[i]!, picture).catch(() => {}));
    },
    async ready() {
      await connection.describe();
    },
    async score(batch) {
      if (template.ask === 'pair') return scoresOfPairs(batch, template, where, compare);
      const pictures = picturesOf(batch.images);
      return whole(() => pictures.map((picture, i) => scoreOne(batch.prompts[i]!, picture)));
    },
  };
}

const YES_NO = ['yes', 'no'] as const;
const A_B = ['a', 'b'] as const;

/** The server told no probabilities, and another question is asked of such. */
class Without extends Error {}

/** How far an answer is the first of two choices, in [0, 1]; undefined if it is neither. */
function shareOf({ probability, text }: Said, choices: readonly [string, string]): number | undefined {
  if (probability !== undefined) return probability;
  const choice = readChoice(text, choices);
  return choice === undefined ? undefined : 1 - choice;
}

/** Each picture's mean of how probably it is better than others of its prompt: the next ones in their order, around. */
async function scoresOfPairs(
  { images, prompts }: RewardBatch,
  { opponents }: Extract<JudgeTemplate, { ask: 'pair' }>,
  where: string,
  compare: VisionJudge['compare'],
): Promise<number[]> {
  const pictures = picturesOf(images);
  const groups = new Map<string, number[]>();
  for (const [i, prompt] of prompts.entries()) groups.set(prompt, [...(groups.get(prompt) ?? []), i]);
  const meetings = [...groups].flatMap(([prompt, group]) => {
    if (group.length < 2)
      throw new UserError(
        `${where}: one picture of "${prompt}" — it compares pictures of one prompt, at least two. Set sample.picturesPerPrompt, evaluate.picturesPerPrompt and report.picturesPerPrompt to 2 or more`,
      );
    return meetingsOf(group, opponents).map((meeting) => ({ prompt, meeting }));
  });
  const wins = await compare(
    meetings.map(({ prompt, meeting: [a, b] }) => ({ prompt, pictures: [pictures[a]!, pictures[b]!] })),
  );
  const sums = prompts.map(() => ({ won: 0, met: 0 }));
  for (const [i, { meeting }] of meetings.entries()) {
    for (const [place, picture] of meeting.entries()) {
      sums[picture]!.won += place === 0 ? wins[i]! : 1 - wins[i]!;
      sums[picture]!.met++;
    }
  }
  return sums.map(({ won, met }) => won / met);
}

/** Who meets whom: each the next `most` in the circle, nobody twice. */
export function meetingsOf(group: readonly number[], most: number): [number, number][] {
  const seen = new Set<string>();
  const meetings: [number, number][] = [];
  for (const [i, a] of group.entries()) {
    for (let step = 1; step <= Math.min(most, group.length - 1); step++) {
      const b = group[(i + step) % group.length]!;
      const name = [a, b].sort((x, y) => x - y).join();
      if (seen.has(name)) continue;
      seen.add(name);
      meetings.push([a, b]);
    }
  }
  return meetings;
}
