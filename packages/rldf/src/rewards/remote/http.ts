/** A reward behind HTTP: pictures go out as PNG bytes in JSON, numbers come back. docs/guide-rewards.md has the protocol. */

import { createHash, randomUUID } from 'node:crypto';
import { jsonText } from '@rldf/common/base/exact';
import { type Picture, picturesOf } from '@rldf/common/base/picture';
import { Failure, inTurn } from '@rldf/common/base/remote';
import { encodePng } from '@rldf/common/drawing/png';
import { shown, UserError } from '@rldf/torch/errors';
import { checkedFields, type HttpRewardField, httpRewardSchema } from '../../config/remote-fields.js';
import type { Reward, RewardBatch } from '../reward.js';
import { connect, objectOf } from './connection.js';
import { remoteName } from './names.js';

/** Name of the protocol, in every request and in the description that a server may give. */
export const httpRewardProtocol = 'rldf-reward/1';

/** What a server is sent by POST. */
export interface HttpRewardRequest {
  protocol: typeof httpRewardProtocol;
  /** Of this request; a server may answer it. */
  id: string;
  pictures: {
    /** A PNG file in base64. */
    png: string;
    prompt: string;
    /** What the prompt file says besides the text; null if nothing. */
    meta: unknown;
  }[];
}

/** What a server answers. */
export interface HttpRewardResponse {
  /** One finite number a picture, in their order; higher is better. */
  scores: number[];
  id?: string;
}

/** What a server may answer to a GET. */
export interface HttpRewardDescription {
  protocol: typeof httpRewardProtocol;
  unit?: string;
}

const wanted = '{ "scores": [one number a picture] }';

/**
 * @param options.waitSeconds before the first further try
 * @throws UserError when scoring, of class RewardUnavailable when the server does not give what is needed
 */
export function httpReward(
  given: HttpRewardField | { http: string },
  options: { signal?: AbortSignal | undefined; waitSeconds?: number } = {},
): Reward {
  const field = checkedFields(httpRewardSchema, given, 'reward http');
  const url = new URL(field.http);
  const name = remoteName(field);
  const where = `reward ${name}`;
  const { batch: size, timeout: timeoutSeconds, retries, parallel, key } = field;
  const connection = connect({ where, url, timeoutSeconds, retries, parallel, key, ...options });
  const turn = inTurn();
  /** Scores that are under way, by what they are of. */
  const asked = new Map<string, Promise<number>>();

  async function scoresOf(pictures: readonly Asked[]): Promise<number[]> {
    const id = randomUUID();
    const files = await turn(Promise.all(pictures.map(({ picture }) => encodePng(picture))));
    const request: HttpRewardRequest = {
      protocol: httpRewardProtocol,
      id,
      pictures: pictures.map(({ prompt, meta }, i) => ({
        png: files[i]!.toString('base64'),
        prompt,
        meta: meta ?? null,
      })),
    };
    const of = `${pictures.length} picture${pictures.length === 1 ? '' : 's'}, the first of "${pictures[0]!.prompt}"`;
    return connection.post(jsonText(request), of, (answer) => readScores(answer, id, pictures));
  }

  /** Asks for what is not under way yet. @returns what each picture's score is kept under */
  function ask({ images, prompts, meta }: RewardBatch): string[] {
    const all = picturesOf(images).map((picture, i): Asked => {
      const one = { picture, prompt: prompts[i]!, meta: meta[i] };
      return { ...one, key: keyOf(one) };
    });
    const fresh = [...new Map(all.map((one) => [one.key, one])).values()].filter(
      ({ key }) => !asked.has(key),
    );
    for (let start = 0; start < fresh.length; start += size) {
      const part = fresh.slice(start, start + size);
      const scores = scoresOf(part);
      part.forEach(({ key }, i) => {
        const score = scores.then((values) => values[i]!);
        score.catch(() => {}); // whoever waits for it is told
        asked.set(key, score);
      });
    }
    return all.map(({ key }) => key);
  }

  return {
    name,
    unit: '',
    ...(field.licence !== undefined && { licence: field.licence }),
    begin: (batch) => void ask(batch),
    async ready() {
      const said = await connection.describe();
      const { protocol } = (said ?? {}) as Partial<HttpRewardDescription>;
      if (protocol === undefined || protocol === httpRewardProtocol) return;
      throw new UserError(
        `${where}: ${field.http} speaks ${shown(protocol)} — this rldf speaks ${httpRewardProtocol}. Use a server or an rldf of the same version`,
      );
    },
    async score(batch) {
      const keys = ask(batch);
      try {
        return await Promise.all(keys.map((key) => asked.get(key)!));
      } finally {
        for (const key of keys) asked.delete(key);
      }
    },
  };
}

interface Asked {
  picture: Picture;
  prompt: string;
  meta: unknown;
  key: string;
}

function keyOf({ picture: { width, height, data }, prompt, meta }: Omit<Asked, 'key'>): string {
  return createHash('sha256')
    .update(`${width}x${height}\n`)
    .update(data)
    .update(jsonText([prompt, meta ?? null]))
    .digest('hex');
}

/** @throws Failure for everything but one finite number a picture */
function readScores(answer: unknown, id: string, pictures: readonly Asked[]): number[] {
  const { scores, id: echoed } = objectOf(answer, wanted);
  if (echoed !== undefined && echoed !== id)
    throw new Failure(`answered another request (id ${shown(echoed)}, not ${id})`, true);
  if (!Array.isArray(scores))
    throw new Failure(`answered without a list of scores — expected ${wanted}`, false);
  if (scores.length !== pictures.length)
    throw new Failure(
      `answered ${scores.length} scores for ${pictures.length} pictures — expected ${wanted}`,
      false,
    );
  scores.forEach((score: unknown, i) => {
    if (typeof score !== 'number' || !Number.isFinite(score))
      throw new Failure(
        `answered ${shown(score)} as score ${i} ("${pictures[i]!.prompt}") — it must be a finite number`,
        false,
      );
  });
  return scores as number[];
}
