// Published rewards beside their projects' own code: random weights in each published layout, hard prompts, pictures of all shapes.
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { noiseKey, normal, scope, type Tensor } from '@rldf/torch';
import { loadReward } from 'rldf';
import { pythonEnvironment } from '../shared/environments.js';
import { Peer } from '../shared/peer.js';
import { type Check, type Context, same, writeTensors } from './checks.js';
import { hardPrompts } from './prompts.js';

/** Of the largest score. */
const limit = 1e-4;

const sizes = [
  ...[64, 64, 200, 65, 140, 91, 97, 40, 30, 128],
  ...[64, 65, 113, 301, 70, 50, 512, 64, 29, 77],
];

/** Waves, edges and noise as bytes, none of the pictures square but the first. None is higher than twice its width: Pillow 13 resizes these vertically first. */
function pictures(): Map<string, Tensor> {
  const drawn = new Map<string, Tensor>();
  for (let i = 0; i < sizes.length / 2; i++) {
    const [height, width] = [sizes[i]!, sizes[i + sizes.length / 2]!];
    const key = [noiseKey(0, 'crosscheck rewards', i)];
    const image = scope(() => normal(key, [height, width, 3]).mul(70).add(128).clamp(0, 255).round().squeeze(0).to('uint8')); // biome-ignore format: one thought
    drawn.set(String(i), image);
  }
  return drawn;
}

export async function rewardChecks(context: Context): Promise<Check[]> {
  const python = pythonEnvironment('scorers', { python: context.scorersPython });
  const peer = new Peer(python, 'scorers_peer.py');
  try {
    const versions = await peer.ask({ ask: 'hello' });
    context.say(
      Object.entries(versions)
        .map(([name, version]) => `${name} ${version}`)
        .join(', '),
    );
    const shown = pictures();
    const prompts = hardPrompts(shown.size);
    const folder = join(context.folder, 'rewards');
    mkdirSync(folder);
    const file = writeTensors(context, 'reward-pictures.safetensors', shown);
    const answer = await peer.ask({ ask: 'score', folder, pictures: file, prompts });
    if (answer.error !== undefined) throw new Error(`crosscheck: score: ${answer.error}`);
    const checks: Check[] = [];
    for (const [name, expected] of Object.entries(answer as unknown as Record<string, number[]>)) {
      const weights = join(folder, name);
      const spec = name === 'laion-aesthetic' ? { name, weights, clip: join(folder, 'clip-score') } : { name, weights }; // biome-ignore format: one thought
      const reward = await loadReward(spec as Parameters<typeof loadReward>[0]);
      const scores: number[] = [];
      for (const [i, image] of [...shown.values()].entries()) {
        const images = image.unsqueeze(0);
        scores.push(...(await reward.score({ images, prompts: [prompts[i]!], meta: [null] })));
      }
      const largest = Math.max(...expected.map(Math.abs));
      const spoiled = context.planted.has('score') && name === 'imagereward' ? 1e-3 : 0;
      const error = Math.max(...expected.map((score, i) => Math.abs(score - scores[i]!))) / largest + spoiled;
      checks.push(same(`reward ${name}: ${scores.length} pictures`, error, limit, 'of the largest score'));
    }
    return checks;
  } finally {
    peer.end();
  }
}
