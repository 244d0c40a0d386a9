// Prints the resident bytes after 50 and 1,000 updates of a small network, as JSON. A process of its own: run by torch.ts.
import {
  AdamW,
  Conv2d,
  clipGradNorm,
  F,
  GroupNorm,
  grad,
  noiseKey,
  normal,
  Parameters,
  scope,
} from '@rldf/torch';

const updates = process.argv.slice(2).map(Number);
const parameters = Parameters.random(0);
const first = new Conv2d(parameters.at('first'), 4, 32, 3, { padding: 1 });
const norm = new GroupNorm(parameters.at('norm'), 8, 32);
const last = new Conv2d(parameters.at('last'), 32, 4, 3, { padding: 1 });
const trained = parameters.trainable();
const optimiser = new AdamW(trained, { learningRate: 1e-3 });
const x = normal([noiseKey(0, 'x')], [16, 4, 16, 16]).squeeze(0);
const rss: number[] = [];
for (let step = 1; step <= Math.max(...updates); step++) {
  scope(() => {
    const grads = grad(F.mseLoss(last.forward(norm.forward(first.forward(x)).silu()), x), trained);
    clipGradNorm(grads, 1);
    optimiser.step(grads);
  });
  if (updates.includes(step)) rss.push(process.memoryUsage().rss);
}
process.stdout.write(`${JSON.stringify({ rss })}\n`);
