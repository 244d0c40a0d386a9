/** Servers of tests, on this machine. */

import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { limitsOfTests } from '@rldf/common/base/limits.fixture';
import { tensor } from '@rldf/torch';
import { afterEach } from 'vitest';
import type { RewardBatch } from '../reward.js';

/** Of the requests to them: none runs out by the clock; where a server stalls, it calls `limits.expire()`. */
export const limits = limitsOfTests();

const servers: { close(): void }[] = [];
afterEach(() => {
  for (const server of servers.splice(0)) server.close();
});

export interface Asked<Body> {
  method: string;
  path: string;
  headers: IncomingMessage['headers'];
  body: Body;
}

/** @param answer what a request gets, counted from 1: a value as JSON, or nothing where it has answered itself */
export async function serve<Body>(
  answer: (asked: Asked<Body>, count: number, response: ServerResponse) => unknown,
): Promise<{ address: string; asked: Asked<Body>[] }> {
  const asked: Asked<Body>[] = [];
  // a connection that waits for the next request is not closed in the middle of it
  const server = createServer({ keepAliveTimeout: 0 }, async (request, response) => {
    let text = '';
    for await (const piece of request) text += piece;
    const one = {
      method: request.method!,
      path: request.url!,
      headers: request.headers,
      body: (text === '' ? undefined : JSON.parse(text)) as Body,
    };
    if (request.method === 'POST') asked.push(one);
    const given = await answer(one, asked.length, response);
    if (given !== undefined) response.end(typeof given === 'string' ? given : JSON.stringify(given));
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  servers.push({ close: () => [server.closeAllConnections(), server.close()] });
  return { asked, address: `http://127.0.0.1:${(server.address() as AddressInfo).port}` };
}

/** Pictures of 2 x 1 pixels, of one colour each. */
export function batchOf(...pictures: [prompt: string, colour: number, meta?: unknown][]): RewardBatch {
  const data = Uint8Array.from(pictures.flatMap(([, colour]) => Array<number>(6).fill(colour)));
  return {
    images: tensor(data, { shape: [pictures.length, 1, 2, 3], dtype: 'uint8' }),
    prompts: pictures.map(([prompt]) => prompt),
    meta: pictures.map(([, , meta]) => meta ?? null),
  };
}

/** What a chat endpoint is asked. */
export interface ChatBody {
  model: string;
  messages: {
    role: string;
    content: string | { type: string; text?: string; image_url?: { url: string } }[];
  }[];
  logprobs?: boolean;
  temperature?: number;
  max_tokens?: number;
  max_completion_tokens?: number;
}

/** The answer of a chat endpoint; `top` are the probabilities of the first token. */
export const said = (content: string, top?: Record<string, number>) => ({
  choices: [
    {
      message: { content },
      ...(top && {
        logprobs: {
          content: [
            {
              token: content.split(' ')[0],
              top_logprobs: Object.entries(top).map(([token, p]) => ({ token, logprob: Math.log(p) })),
            },
          ],
        },
      }),
    },
  ],
});

/** The pictures that it is shown, as data URLs. */
export const pngsOf = ({ messages }: Pick<ChatBody, 'messages'>) =>
  messages.flatMap(({ content }) =>
    typeof content === 'string' ? [] : content.flatMap(({ image_url }) => image_url?.url ?? []),
  );
