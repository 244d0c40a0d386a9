/** What rewards behind servers are called in metrics, reports and messages. */

import { basename } from 'node:path';
import type { HttpRewardField, VisionRewardField } from '../../config/remote-fields.js';

/** `as`, or the address without its scheme, or what a judge is asked. */
export function remoteName(
  field: Pick<HttpRewardField, 'http' | 'as'> | Pick<VisionRewardField, 'vision' | 'as'>,
): string {
  if (field.as !== undefined) return field.as;
  if ('vision' in field) return basename(field.vision).replace(/\.ya?ml$/, '');
  const { host, pathname } = new URL(field.http);
  return `${host}${pathname === '/' ? '' : pathname}`;
}
