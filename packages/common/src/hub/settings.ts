/** How a hub is reached: the variables of Hugging Face's own tools, with their meaning. */

import { homedir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { readTextIfThere } from '../base/files.js';

export interface HubSettings {
  /** Without a slash at its end. */
  endpoint: string;
  /** A token and where it is from. */
  token?: { value: string; from: string };
  /** Nothing is asked of any hub. */
  offline: boolean;
  /** Folder of all repositories. */
  cache: string;
  /** Large files may come by the hub's own protocol instead of HTTP. */
  xet: boolean;
  /** Waits before a request is made again. */
  wait: (seconds: number, signal?: AbortSignal) => Promise<void>;
}

type Environment = { readonly [name: string]: string | undefined };

const isOn = (value: string | undefined) => /^(1|on|yes|true)$/i.test(value ?? '');

/** Of `HF_ENDPOINT`, `HF_TOKEN`, `HF_HUB_OFFLINE`, `HF_HOME`, `HF_HUB_CACHE` and their older names. */
export function hubSettings(env: Environment = process.env): HubSettings {
  const expanded = (path: string) => path.replace(/^~(?=$|[/\\])/, homedir());
  const home = expanded(env.HF_HOME ?? join(env.XDG_CACHE_HOME ?? join(homedir(), '.cache'), 'huggingface'));
  const token = tokenOf(env, home);
  return {
    endpoint: (env.HF_ENDPOINT || 'https://huggingface.co').replace(/\/+$/, ''),
    ...(token && { token }),
    offline: isOn(env.HF_HUB_OFFLINE || env.TRANSFORMERS_OFFLINE),
    cache: expanded(env.HF_HUB_CACHE ?? env.HUGGINGFACE_HUB_CACHE ?? join(home, 'hub')),
    xet: !isOn(env.HF_HUB_DISABLE_XET),
    wait: async (seconds, signal) => void (await sleep(1000 * seconds, undefined, signal && { signal })),
  };
}

function tokenOf(env: Environment, home: string): HubSettings['token'] {
  if (isOn(env.HF_HUB_DISABLE_IMPLICIT_TOKEN)) return undefined;
  for (const name of ['HF_TOKEN', 'HUGGING_FACE_HUB_TOKEN']) {
    const value = env[name]?.trim();
    if (value) return { value, from: name };
  }
  const file = env.HF_TOKEN_PATH ?? join(home, 'token');
  const value = readTextIfThere(file)?.trim();
  return value ? { value, from: file } : undefined;
}
