// Prints the bytes of small programs as JSON, on whichever backend RLDF_TORCH names. Run by shapes.test.ts.
import {
  allocatedBytes,
  Conv2d,
  F,
  GroupNorm,
  grad,
  LayerNorm,
  Linear,
  noGrad,
  Parameters,
  peakBytes,
  resetPeakBytes,
  scope,
  setThreads,
  type Tensor,
  zeros,
} from '../index.js';

setThreads(1);
const results: Record<string, { graph: number; peak: number; left: number }> = {};

/** `forward` from inputs to outputs; its gradients with respect to `inputs`. */
function measure(name: string, inputs: readonly Tensor[], forward: () => Tensor): void {
  const before = allocatedBytes();
  resetPeakBytes();
  let graph = 0;
  scope(() => {
    const loss = forward().square().sum();
    graph = allocatedBytes() - before;
    if (inputs.length > 0) grad(loss, inputs);
  });
  results[name] = { graph, peak: peakBytes() - before, left: allocatedBytes() - before };
}

const parameters = Parameters.random(0);
const [B, C, S, L] = [8, 32, 16, 64];
const convolutions = [0, 1].map((i) => new Conv2d(parameters.at('conv', i), C, C, 3, { padding: 1 }));
const norm = new GroupNorm(parameters.at('norm'), 8, C);
const layerNorm = new LayerNorm(parameters.at('layer'), C);
const [q, k, v, o, wide, narrow] = (
  [
    ['q', C, C],
    ['k', C, C],
    ['v', C, C],
    ['o', C, C],
    ['wide', C, 8 * C],
    ['narrow', 4 * C, C],
  ] as const
).map(([name, from, to]) => new Linear(parameters.at(name), from, to)) as [
  Linear,
  Linear,
  Linear,
  Linear,
  Linear,
  Linear,
];
const image = zeros([B, C, S, S]);
const sequence = zeros([B, L * 4, C]);

const block = () =>
  scope(() => {
    let hidden = convolutions[0]!.forward(norm.forward(image).silu());
    hidden = convolutions[1]!.forward(hidden.silu());
    return hidden.add(image);
  });
const attention = () =>
  scope(() => {
    const heads = (x: Tensor) => x.reshape([B, L * 4, 4, C / 4]).transpose(1, 2);
    const normed = layerNorm.forward(sequence);
    const mixed = F.scaledDotProductAttention(
      heads(q.forward(normed)),
      heads(k.forward(normed)),
      heads(v.forward(normed)),
    );
    return sequence.add(o.forward(mixed.transpose(1, 2).reshape([B, L * 4, C])));
  });
const feedForward = () =>
  scope(() => {
    const [hidden, gate] = wide.forward(layerNorm.forward(sequence)).chunk(2, -1) as [Tensor, Tensor];
    return narrow.forward(hidden.mul(gate.gelu()));
  });
const toSequence = () =>
  scope(() =>
    image
      .permute([0, 2, 3, 1])
      .reshape([B, S * S, C])
      .mul(2),
  );

// on shapes numbers that are read from tensors are 0, and what is computed with them may be NaN
const unknownFactor = () => scope(() => image.mul(Number.NaN));

const upsample = () => scope(() => F.interpolateNearest(block(), [2 * S, 2 * S]));

const programs = { block, attention, feedForward, upsample };
for (const [name, program] of Object.entries(programs))
  noGrad(() => measure(`${name}, no gradients`, [], program));
image.requiresGrad_();
sequence.requiresGrad_();
measure('block, input only', [image], block);
measure('attention, input only', [sequence], attention);
measure('feedForward, input only', [sequence], feedForward);
measure('copying views', [image], toSequence);
measure('times NaN', [image], unknownFactor);
parameters.trainable();
measure(
  'block, all',
  [image, ...convolutions.flatMap((c) => [c.weight, c.bias as Tensor]), norm.weight, norm.bias],
  block,
);
measure(
  'attention, all',
  [sequence, ...[q, k, v, o].flatMap((l) => [l.weight, l.bias as Tensor])],
  attention,
);
measure(
  'feedForward, all',
  [sequence, ...[wide, narrow].flatMap((l) => [l.weight, l.bias as Tensor])],
  feedForward,
);
process.stdout.write(JSON.stringify(results));
