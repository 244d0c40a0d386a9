// A reward behind HTTP in TypeScript: how red each picture is, 0 to 255. Put your own network into `score`.
// Run: npx tsx examples/reward-server.ts [PORT]    Use: reward: { http: http://localhost:8000/score }
// docs/guide-rewards.md has the protocol.
import { createServer } from 'node:http';
import type { HttpRewardRequest, HttpRewardResponse } from 'rldf';
import sharp from 'sharp';

/** One finite number a picture; higher is better. */
async function score({ pictures }: HttpRewardRequest): Promise<number[]> {
  const means = pictures.map(async ({ png }) => {
    const { channels } = await sharp(Buffer.from(png, 'base64')).stats();
    return channels[0]!.mean;
  });
  return Promise.all(means);
}

const server = createServer(async (request, response) => {
  const answer = (status: number, value: object) =>
    response.writeHead(status, { 'content-type': 'application/json' }).end(JSON.stringify(value));
  if (request.method !== 'POST') return answer(200, { protocol: 'rldf-reward/1' });
  try {
    const pieces: Buffer[] = [];
    for await (const piece of request) pieces.push(piece);
    const asked: HttpRewardRequest = JSON.parse(Buffer.concat(pieces).toString());
    return answer(200, { id: asked.id, scores: await score(asked) } satisfies HttpRewardResponse);
  } catch (error) {
    return answer(500, { error: String(error) }); // told to the training, which tries again
  }
});
server.listen(Number(process.argv[2] ?? 8000), '127.0.0.1');
