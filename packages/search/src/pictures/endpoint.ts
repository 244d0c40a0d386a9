/** Pictures from a server that speaks the OpenAI images protocol: POST /images/generations with a prompt, base64 or a URL back. */

import { Failure, jsonOf, patiently, retryable, textOf } from '@rldf/common/base/remote';
import { UserError } from '@rldf/torch/errors';
import type { ImageSource, PictureRequest } from './image-source.js';
import { readPicture } from './image-source.js';

export interface EndpointOptions {
  /** Seconds for one answer, the picture included. Default 120. */
  timeoutSeconds?: number;
  /** Further tries after the first, for time-outs, broken connections, 429 and 5xx. Default 4. */
  retries?: number;
  /** Seconds before the first retry; doubles with each, unless the server says when. Default 1. */
  waitSeconds?: number;
  /** Requests under way at once. Default 2. */
  parallel?: number;
  /** Width and height asked for, such as "512x512". Default: the server's. */
  size?: string;
  /** Sent as a bearer token. Default: the variable OPENAI_API_KEY, if set. */
  key?: string;
}

/** @param address such as `http://localhost:8000/v1#model-name`; `/images/generations` is added if it is not there */
export function endpointSource(address: string, options: EndpointOptions = {}): ImageSource {
  let url: URL;
  try {
    url = new URL(address);
  } catch {
    throw new UserError(`--model ${address}: no address — write such as http://localhost:8000/v1#model-name`);
  }
  const model = decodeURIComponent(url.hash.slice(1));
  url.hash = '';
  if (!url.pathname.endsWith('/images/generations'))
    url.pathname = `${url.pathname.replace(/\/$/, '')}/images/generations`;
  const { timeoutSeconds = 120, retries = 4, waitSeconds = 1, parallel = 2, size } = options;
  const key = options.key ?? process.env.OPENAI_API_KEY;
  const where = `endpoint ${url.origin}${url.pathname}`;

  /** One try. @throws Failure */
  const ask = async ({ sentence, seed }: PictureRequest, signal: AbortSignal): Promise<Uint8Array> => {
    const response = await fetch(url, {
      method: 'POST',
      headers: {
        'content-type': 'application/json',
        ...(key === undefined ? {} : { authorization: `Bearer ${key}` }),
      },
      body: JSON.stringify({
        prompt: sentence,
        n: 1,
        response_format: 'b64_json',
        seed, // no part of OpenAI's protocol; local servers take it
        ...(model === '' ? {} : { model }),
        ...(size === undefined ? {} : { size }),
      }),
      signal,
    });
    const { data } = (jsonOf(await textOf(response)) ?? {}) as { data?: unknown };
    const [first] = (Array.isArray(data) ? data : []) as { b64_json?: unknown; url?: unknown }[];
    if (typeof first?.b64_json === 'string') return Buffer.from(first.b64_json, 'base64');
    if (typeof first?.url !== 'string')
      throw new Failure('answered without a picture (data[0].b64_json or data[0].url)', false);
    const picture = await fetch(first.url, { signal });
    if (!picture.ok)
      throw new Failure(`its picture ${first.url} answered ${picture.status}`, retryable(picture.status));
    return new Uint8Array(await picture.arrayBuffer());
  };

  const askUntilItComes = (request: PictureRequest, signal: AbortSignal | undefined): Promise<Uint8Array> =>
    patiently(
      (limited) => ask(request, limited),
      { timeoutSeconds, retries, waitSeconds },
      (reason, cause) =>
        new UserError(
          `${where}: ${reason}, for "${request.sentence}" — the pictures so far are kept. Look at the server, then give the same command again; rldf search goes on with --resume`,
          { cause },
        ),
      signal,
    );

  return {
    name: `${url.origin}${url.pathname}${model === '' ? '' : `, ${model}`}${size === undefined ? '' : `, ${size}`}`,
    batchSize: 1,
    async draw(requests, deliver, signal) {
      let next = 0;
      let failed = false;
      const work = async () => {
        while (next < requests.length && !failed) {
          const index = next++;
          try {
            const bytes = await askUntilItComes(requests[index]!, signal);
            const of = `${where}, picture of "${requests[index]!.sentence}"`;
            await deliver(index, await readPicture(bytes, of));
          } catch (error) {
            failed = true; // the others finish what they have begun
            throw error;
          }
        }
      };
      const workers = Array.from({ length: Math.min(parallel, requests.length) }, work);
      const outcomes = await Promise.allSettled(workers);
      const rejected = outcomes.find((outcome) => outcome.status === 'rejected');
      if (rejected !== undefined) throw rejected.reason;
    },
  };
}
