import type { Parameters } from '@rldf/torch';
import type { Pipeline } from './pipeline.js';

type Home = Pick<Pipeline, 'unet' | 'offloaded'>;

/** Runs `fn` with these weights on the device; those that are offloaded lie in the host's memory before and after. */
export function resident<T>(pipeline: Home, weights: readonly (Parameters | undefined)[], fn: () => T): T {
  const fetched = fetch(pipeline, weights);
  try {
    return fn();
  } finally {
    for (const parameters of fetched) parameters.moveTo('cpu');
  }
}

/** The same for what takes its time. */
export async function residentMeanwhile<T>(
  pipeline: Home,
  weights: readonly (Parameters | undefined)[],
  fn: () => Promise<T>,
): Promise<T> {
  const fetched = fetch(pipeline, weights);
  try {
    return await fn();
  } finally {
    for (const parameters of fetched) parameters.moveTo('cpu');
  }
}

/** Brings what is away to the device. @returns it, to be sent away again; a call around this one sends away what it brought */
function fetch({ unet, offloaded }: Home, weights: readonly (Parameters | undefined)[]): Parameters[] {
  const { device } = unet;
  const away = weights.filter(
    (one) => one !== undefined && offloaded?.has(one) && one.device !== device,
  ) as Parameters[];
  for (const parameters of away) parameters.moveTo(device);
  return away;
}
