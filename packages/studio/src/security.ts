/** Who may ask: a browser or program of this machine that knows the token, and no page of another origin. */

import { createHash, timingSafeEqual } from 'node:crypto';
import type { Context, MiddlewareHandler } from 'hono';
import { getCookie, setCookie } from 'hono/cookie';
import { Problem } from './problem.js';

const contentSecurityPolicy = [
  "default-src 'none'",
  "script-src 'self'",
  "style-src 'self' 'unsafe-inline'", // charts place their parts by style attributes
  "img-src 'self' data: blob:",
  "connect-src 'self'",
  "font-src 'self'",
  "base-uri 'none'",
  "form-action 'none'",
  "frame-ancestors 'none'",
].join('; ');

export interface Gate {
  token: string;
  /** Known when the server listens. */
  port(): number;
}

const hosts = ['127.0.0.1', 'localhost', '[::1]'];

/** Checks every request, in this order: Host, Origin, token. */
export function gate({ token, port }: Gate): MiddlewareHandler {
  return async (context, next) => {
    secure(context);
    const { method, url } = context.req;
    const names = hosts.map((host) => `${host}:${port()}`);
    const host = context.req.header('host') ?? '';
    if (!names.includes(host))
      throw new Problem(
        403,
        'forbidden',
        `Host ${shown(host)} is not this server — open http://127.0.0.1:${port()}/`,
      ); // DNS rebinding
    const origin = context.req.header('origin');
    if (origin !== undefined && origin !== `http://${host}`)
      throw new Problem(
        403,
        'forbidden',
        `Origin ${shown(origin)} is another page — only the studio's own may ask`,
      );
    const site = context.req.header('sec-fetch-site');
    const changing = method !== 'GET' && method !== 'HEAD';
    if (changing) {
      if (origin === undefined && site !== undefined && site !== 'same-origin')
        throw new Problem(
          403,
          'forbidden',
          'a request of another page — only the studio’s own may change something',
        );
      if (!/^application\/json\b/.test(context.req.header('content-type') ?? ''))
        throw new Problem(415, 'bad-request', 'content-type must be application/json');
    }
    const cookie = `rldf-studio-${port()}`;
    const asked = new URL(url);
    if (!changing && asked.pathname === '/' && asked.searchParams.has('token')) {
      if (!equal(asked.searchParams.get('token') ?? '', token)) throw unauthorised();
      setCookie(context, cookie, token, {
        httpOnly: true,
        sameSite: 'Strict',
        path: '/',
        maxAge: 30 * 24 * 3600,
      });
      return context.redirect('/');
    }
    const given =
      /^Bearer (.+)$/.exec(context.req.header('authorization') ?? '')?.[1] ?? getCookie(context, cookie);
    if (given === undefined || !equal(given, token)) throw unauthorised();
    await next();
  };
}

/** Headers of every answer. */
export function secure(context: Context): void {
  context.header('content-security-policy', contentSecurityPolicy);
  context.header('x-content-type-options', 'nosniff');
  context.header('referrer-policy', 'no-referrer'); // the token stands in the first address
  context.header('cross-origin-resource-policy', 'same-origin');
  context.header('cross-origin-opener-policy', 'same-origin');
  context.header('x-frame-options', 'DENY');
  context.header('cache-control', 'no-store');
}

const unauthorised = () =>
  new Problem(
    401,
    'unauthorised',
    'the token is missing or wrong — open the address that `rldf studio` printed',
  );

/** In constant time, whatever the lengths. */
function equal(a: string, b: string): boolean {
  const digest = (text: string) => createHash('sha256').update(text).digest();
  return timingSafeEqual(digest(a), digest(b));
}

const shown = (text: string) => JSON.stringify(text.slice(0, 80));
