/** What a command names of a hub, and this machine has not, is downloaded first. Nothing here loads libtorch by itself. */

import { isRemote } from '@rldf/common/hub/id';
import type { DownloadPlan, FetchOptions } from '@rldf/common/hub/index';
import { UserError } from '@rldf/torch/errors';
import type { PublishedReward } from '../config/fields.js';
import { Estimate, Progress } from './progress.js';
import { byteWords } from './shared.js';

/** Downloads models given by ids of a hub. What is here, or is no such id, is left alone. */
export async function provideModels(names: readonly (string | undefined)[]): Promise<void> {
  const remote = names.filter((name) => name !== undefined && isRemote(name)) as string[];
  if (remote.length === 0) return;
  const { fetchModel } = await import('@rldf/common/hub/index');
  for (const name of new Set(remote)) await shown(name, (options) => fetchModel(name, options));
}

/** The same for the weights of published rewards, wherever in a recipe's `reward` they are named. */
export async function provideRewards(fields: unknown): Promise<void> {
  const sources = (await sourcesIn(fields)).filter(([name]) => isRemote(name));
  if (sources.length === 0) return;
  const { fetchFiles } = await import('@rldf/common/hub/index');
  for (const [name, wanted] of new Map(sources))
    await shown(name, (options) => fetchFiles(name, wanted, options));
}

/** Model cards alone, of which the licence is read; a repository without one has none. */
export async function provideCards(names: readonly string[]): Promise<void> {
  const remote = names.filter(isRemote);
  if (remote.length === 0) return;
  const { fetchFiles } = await import('@rldf/common/hub/index');
  for (const name of new Set(remote)) {
    const repository = /^(hf:\/\/)?[^/]+\/[^/@:]+/.exec(name)?.[0] ?? name;
    const card = { anyOf: ['README.md'], beside: [] };
    await shown(repository, (options) => fetchFiles(repository, card, options)).catch((error) => {
      if (!(error instanceof UserError)) throw error;
    });
  }
}

export async function provideRewardCards(fields: unknown): Promise<void> {
  await provideCards((await sourcesIn(fields)).map(([name]) => name));
}

/** What published rewards would read. */
async function sourcesIn(fields: unknown) {
  const { publishedRewardSchema } = await import('../config/fields.js');
  const { sourcesOf } = await import('../rewards/published-names.js');
  const { rewards } = await import('../rewards/index.js');
  const found: PublishedReward[] = [];
  const visit = (field: unknown): void => {
    if (typeof field === 'string' && rewards[field]?.needs === 'weights')
      found.push({ name: field as 'imagereward' });
    else if (Array.isArray(field)) field.forEach(visit);
    else if (field !== null && typeof field === 'object') {
      const { success, data } = publishedRewardSchema.safeParse(field);
      if (success) found.push(data);
      else if ('reward' in field) visit(field.reward);
    }
  };
  visit(fields);
  return found.flatMap(sourcesOf);
}

/** The same for adapters; ids are replaced by the paths of their files. */
export async function provideAdapters<Adapter extends { path: string }>(
  adapters: readonly Adapter[],
): Promise<Adapter[]> {
  const provided: Adapter[] = [];
  for (const adapter of adapters) {
    const { path } = adapter;
    if (!isRemote(path)) provided.push(adapter);
    else {
      const { fetchAdapter } = await import('@rldf/common/hub/index');
      provided.push({ ...adapter, path: await shown(path, (options) => fetchAdapter(path, options)) });
    }
  }
  return provided;
}

/** Says the size before, and how far it is while. Ctrl-C ends it; what came is kept. */
export async function shown(
  name: string,
  fetched: (options: FetchOptions) => Promise<string>,
  progress = new Progress(),
  now: () => number = () => performance.now(),
): Promise<string> {
  const controller = new AbortController();
  const stop = () => controller.abort();
  process.on('SIGINT', stop);
  process.on('SIGTERM', stop);
  let estimate = new Estimate(now);
  try {
    return await fetched({
      signal: controller.signal,
      onNotice: (text) => progress.print(text),
      onPlan: (plan) => {
        estimate = new Estimate(now);
        progress.print(planWords(name, plan));
      },
      onProgress: (bytes, plan, file) => {
        const share = plan.bytes === 0 ? 1 : bytes / plan.bytes;
        const left = estimate.left(share);
        progress.update(
          `${byteWords(bytes)} of ${byteWords(plan.bytes)}  ${Math.floor(100 * share)} %  ${left === '' ? '' : `${left}  `}${file}`,
        );
      },
    });
  } catch (error) {
    if (!controller.signal.aborted) throw error;
    throw new UserError(`${name}: stopped — what has come is kept. Run the command again: it goes on there`);
  } finally {
    progress.clear();
    process.off('SIGINT', stop);
    process.off('SIGTERM', stop);
  }
}

function planWords(name: string, { files, bytes, here, endpoint, cache }: DownloadPlan): string {
  const rest = here === 0 ? '' : `; ${byteWords(here)} of it are here`;
  return `downloading ${name}: ${byteWords(bytes)} in ${files} file${files === 1 ? '' : 's'} from ${endpoint} to ${cache}${rest}`;
}
