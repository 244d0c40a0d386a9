/** Licences of published weights. */

import { existsSync, readFileSync, statSync } from 'node:fs';
import { dirname, join } from 'node:path';
import type { Commercial } from '@rldf/common/base/licences';
import type { PublishedReward } from '../config/fields.js';
import type { RewardCard } from './cards.js';
import { publishedCards } from './published-cards.js';
import { sourcesOf } from './published-names.js';
import { findWeights } from './weights.js';

/** As the card of the weights says, where they are here and have one; else what is known of the published ones. */
export function statedLicence(spec: PublishedReward): { licence: string; commercial?: Commercial } {
  const [[given, wanted]] = sourcesOf(spec) as [ReturnType<typeof sourcesOf>[number]];
  const path = findWeights(given, wanted);
  if (path !== undefined) {
    const card = join(statSync(path).isDirectory() ? path : dirname(path), 'README.md');
    const stated = existsSync(card) && /^license:\s*["']?([^\s"']+)/m.exec(readFileSync(card, 'utf8'))?.[1];
    if (stated) return { licence: stated };
  }
  return (publishedCards as Record<string, RewardCard>)[spec.name] ?? { licence: 'unknown' };
}
