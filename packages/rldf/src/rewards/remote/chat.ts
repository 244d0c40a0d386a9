/** Questions about pictures to a model behind an OpenAI-compatible chat endpoint, and how its answers are read. */

import { Failure } from '@rldf/common/base/remote';
import { shown } from '@rldf/torch/errors';
import { type Connection, objectOf, RewardUnavailable } from './connection.js';

export interface Question {
  system?: string | undefined;
  /** Text, and PNG files. */
  content: readonly (string | Uint8Array)[];
  maxTokens: number;
  /** Words whose probabilities tell the answer. */
  choices?: readonly [string, string];
  /** What it said before that could not be read, and what it is told then. */
  again?: { said: string; told: string };
}

export interface Said {
  text: string;
  /** Whether the server told the probabilities of its words. */
  tells: boolean;
  /** Of the first choice against the second, by these; undefined where it weighed neither. */
  probability?: number;
}

type Setting = 'logprobs' | 'temperature' | 'seed';

/** Asks one model; what its server refuses to be told is left out from then on. */
export class Chat {
  readonly #refused = new Set<Setting>();
  #limit: 'max_tokens' | 'max_completion_tokens' = 'max_tokens';

  constructor(
    readonly connection: Connection,
    readonly model: string,
    /** Called before each try. @throws UserError when there may be no more */
    readonly count: () => void,
  ) {}

  async ask(question: Question, of: string): Promise<Said> {
    for (;;) {
      const sent = this.#manner();
      try {
        const read = (answer: unknown) => readAnswer(answer, question.choices);
        return await this.connection.post(JSON.stringify(this.#body(question)), of, read, this.count);
      } catch (error) {
        if (!(error instanceof RewardUnavailable)) throw error;
        this.#learn(error);
        if (this.#manner() === sent) throw error; // another request may have learned meanwhile
      }
    }
  }

  #body({ system, content, maxTokens, choices, again }: Question): unknown {
    const parts = content.map((one) =>
      typeof one === 'string'
        ? { type: 'text', text: one }
        : {
            type: 'image_url',
            image_url: { url: `data:image/png;base64,${Buffer.from(one).toString('base64')}` },
          },
    );
    const allowed = (setting: Setting) => !this.#refused.has(setting);
    return {
      model: this.model,
      messages: [
        ...(system === undefined ? [] : [{ role: 'system', content: system }]),
        { role: 'user', content: parts },
        ...(again === undefined
          ? []
          : [
              { role: 'assistant', content: again.said },
              { role: 'user', content: again.told },
            ]),
      ],
      [this.#limit]: maxTokens,
      ...(allowed('temperature') && { temperature: 0 }),
      ...(allowed('seed') && { seed: 0 }),
      ...(choices !== undefined && allowed('logprobs') && { logprobs: true, top_logprobs: 20 }),
    };
  }

  /** How it asks at present. */
  #manner = () => [this.#limit, ...this.#refused].join();

  /** Takes from a refusal what not to say again. */
  #learn({ cause }: Error): void {
    const words =
      cause instanceof Failure && /^answered (400|404|422)\b/.test(cause.message) ? cause.message : '';
    if (/max_completion_tokens/.test(words) && this.#limit === 'max_tokens') {
      this.#limit = 'max_completion_tokens';
      return;
    }
    const settings = ['logprobs', 'temperature', 'seed'] as const;
    const refused = settings.find((setting) => words.includes(setting) && !this.#refused.has(setting));
    if (refused !== undefined) this.#refused.add(refused);
  }
}

const wanted = '{ choices: [{ message: { content: TEXT } }] }';

/** @throws Failure for what is no answer of the chat protocol */
function readAnswer(answer: unknown, choices: Question['choices']): Said {
  const { choices: said } = objectOf(answer, wanted);
  const [first] = (Array.isArray(said) ? said : []) as {
    message?: { content?: unknown };
    logprobs?: { content?: unknown };
  }[];
  const text = first?.message?.content;
  if (typeof text !== 'string') throw new Failure(`answered without words — expected ${wanted}`, false);
  const told = first?.logprobs?.content;
  const tells =
    Array.isArray(told) && told.some((place) => (place as { top_logprobs?: unknown[] }).top_logprobs?.length);
  const probability = choices && tells ? probabilityOf(told, choices) : undefined;
  return { text, tells, ...(probability !== undefined && { probability }) };
}

const normalised = (token: unknown) =>
  typeof token === 'string' ? token.toLowerCase().replace(/[^\p{L}\p{N}]/gu, '') : '';

/**
 * p(first) / (p(first) + p(second)), where the model says one of them: each word's ways of being written added up.
 * @throws Failure for a logarithm of a probability that is none
 */
function probabilityOf(
  places: { token?: unknown; top_logprobs?: unknown }[],
  [first, second]: readonly [string, string],
): number | undefined {
  const isChoice = ({ token }: { token?: unknown }) => [first, second].includes(normalised(token));
  const place = places.find(isChoice) ?? places[0];
  const entries = Array.isArray(place?.top_logprobs) ? place.top_logprobs : [];
  const sums = new Map<string, number>([[first, 0], [second, 0]]); // biome-ignore format: one thought
  for (const { token, logprob } of entries as { token?: unknown; logprob?: unknown }[]) {
    const word = normalised(token);
    const sum = sums.get(word);
    if (sum === undefined) continue;
    if (typeof logprob !== 'number' || !(logprob <= 1e-3))
      throw new Failure(
        `answered a log-probability of ${shown(logprob)} for ${shown(token)} — it must be a number of at most 0`,
        false,
      );
    sums.set(word, sum + Math.exp(logprob));
  }
  const [yes, no] = [sums.get(first)!, sums.get(second)!];
  return yes + no > 0 ? yes / (yes + no) : undefined;
}

/** What a model said, without the thoughts that some say before. */
const spoken = (text: string) => text.replace(/^[\s\S]*<\/think>/, '').trim();

/** Which of two words a text says: its first word, or the only one of them in it. */
export function readChoice(text: string, [first, second]: readonly [string, string]): 0 | 1 | undefined {
  const words =
    spoken(text)
      .toLowerCase()
      .match(/\p{L}+/gu) ?? [];
  if (words[0] === first) return 0;
  if (words[0] === second) return 1;
  const has = [first, second].map((one) => one.length > 1 && words.some((word) => word === one));
  return has[0] === has[1] ? undefined : has[0] ? 0 : 1;
}

/** The number in a text, within a scale: the one behind "score" or "rating", or else the only one. */
export function readNumber(text: string, [a, b]: readonly [number, number]): number | undefined {
  const clean = spoken(text).replace(/(?:\/|out of)\s*\d+(?:\.\d+)?/gi, '');
  const named = [...clean.matchAll(/(?:score|rating|answer)[^\d-]{0,16}(-?\d+(?:\.\d+)?)/gi)].at(-1)?.[1];
  const all = new Set(clean.match(/-?\d+(?:\.\d+)?/g) ?? []);
  const found = named ?? (all.size === 1 ? [...all][0] : undefined);
  const value = Number(found);
  return found !== undefined && value >= Math.min(a, b) && value <= Math.max(a, b) ? value : undefined;
}
