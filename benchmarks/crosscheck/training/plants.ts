// Faults in training, each an edit of the sources, and the trainings that must notice it.

export interface Plant {
  name: string;
  what: string;
  /** Edits of one file: what stands there, which occurs once in all sources, and what is put in its place. */
  edits: readonly (readonly [find: string, replace: string])[];
  /** Of `trainingCases`. */
  cases: readonly string[];
}

export const plants: readonly Plant[] = [
  {
    name: 'strides',
    what: 'a convolution’s gradient reaches the optimiser in another memory order than its weight',
    edits: [['const ordered = grads.map((gradient) => gradient.contiguous());', 'const ordered = grads;']],
    cases: ['resnet-18'],
  },
  {
    name: 'beta-order',
    what: 'AdamW’s two decay rates are swapped',
    edits: [['            betas[0],\n            betas[1],', '            betas[1],\n            betas[0],']],
    cases: ['aesthetic'],
  },
  {
    name: 'bias-correction',
    what: 'the bias correction counts one update too many',
    edits: [
      [
        'native.call(increment, handles(this.#steps), 1);',
        'native.call(increment, handles(this.#steps), (this as any).begun ? 1 : 2);\n        (this as any).begun = true;',
      ],
    ],
    cases: ['aesthetic'],
  },
  {
    name: 'decay-coupled',
    what: 'weight decay goes through the moments (L2 regularisation), not past them',
    edits: [
      [
        'const { betas, weightDecay, epsilon } = this.#options;',
        'const { betas, weightDecay: coupled, epsilon } = this.#options;\n    const weightDecay = 0;\n    grads = grads.map((g, i) => g.add((this.parameters[i] as Tensor).detach(), coupled));',
      ],
    ],
    cases: ['aesthetic'],
  },
  {
    name: 'clip-after',
    what: 'the gradient is clipped behind the optimiser’s step',
    edits: [
      [
        'const norm = clipGradNorm(gradients, maxGradNorm);\n      if (Number.isFinite(norm)) optimiser.step(gradients, rate);',
        'optimiser.step(gradients, rate);\n      const norm = clipGradNorm(gradients, maxGradNorm);',
      ],
    ],
    cases: ['aesthetic'],
  },
  {
    name: 'clip-by-largest',
    what: 'the norm that is clipped is the largest tensor’s, not that of all',
    edits: [['const total = all.norm().item();', 'const total = all.amax().item();']],
    cases: ['aesthetic'],
  },
  {
    name: 'ema-lag',
    what: 'the average takes the weights of before the update',
    edits: [
      ['const [loss, gradNorm] = scope(() => {', 'average.update();\n    const [loss, gradNorm] = scope(() => {'],
      ['    average.update();\n    step++;', '    step++;'],
    ],
    cases: ['aesthetic'],
  },
  {
    name: 'ema-warm-up',
    what: 'the average’s warm-up is one update ahead',
    edits: [
      [
        'const decay = Math.min(this.decay, (1 + this.#updates) / (10 + this.#updates));\n    this.#updates++;',
        'this.#updates++;\n    const decay = Math.min(this.decay, (1 + this.#updates) / (10 + this.#updates));',
      ],
    ],
    cases: ['aesthetic'],
  },
  {
    name: 'warm-up',
    what: 'the learning rate warms up one update late',
    edits: [['Math.min(1, (step + 1) / warmup)', 'Math.min(1, step / warmup)']],
    cases: ['aesthetic'],
  },
  {
    name: 'not-divided',
    what: 'micro-batches are added up, not averaged',
    edits: [['(policy.stepWeights[step] as number) / pairs', 'policy.stepWeights[step] as number']],
    cases: ['ddpo'],
  },
  {
    name: 'not-zeroed',
    what: 'an update’s gradient stays in the sums of the next',
    edits: [['for (const sum of this.#sums) sum.zero_();', '']],
    cases: ['ddpo'],
  },
  {
    name: 'dropout',
    what: 'dropout is on in the frozen encoder under a preference head',
    edits: [
      ['import { F, LayerNorm, Linear,', 'import { ops, F, LayerNorm, Linear,'],
      [
        'const hidden = x.add(this.#attention.forward(this.#norm1.forward(x)));',
        "const hidden = x.add(ops.aten('dropout')(this.#attention.forward(this.#norm1.forward(x)), 0.1, true) as Tensor);",
      ],
    ],
    cases: ['image-reward'],
  },
  {
    name: 'advantage-sign',
    what: 'one side of the clipped surrogate has the advantage’s sign turned',
    edits: [['const unclipped = advantage.mul(ratio).neg();', 'const unclipped = advantage.mul(ratio);']],
    cases: ['ddpo'],
  },
  {
    name: 'spread-of-a-sample',
    what: 'rewards are standardised with n - 1 in place of n',
    edits: [
      [
        '(value - average) ** 2, 0) / values.length;',
        '(value - average) ** 2, 0) / (values.length - 1);',
      ],
    ],
    cases: ['ddpo'],
  },
  {
    name: 'timestep',
    what: 'the network is told the next timestep',
    edits: [
      [
        "const prediction = unet.forward(noisy, tensor(timesteps, { dtype: 'int64' }), { hiddenStates });",
        "const prediction = unet.forward(noisy, tensor(timesteps.map((t) => t + 1), { dtype: 'int64' }), { hiddenStates });",
      ],
    ],
    cases: ['unet'],
  },
  {
    name: 'signal-to-noise',
    what: 'the loss’s weight has no lower bound',
    edits: [['Math.min(high, Math.max(low, snr))', 'Math.min(high, snr)']],
    cases: ['unet'],
  },
  {
    name: 'detached',
    what: 'no gradient reaches the first half of a low-rank branch',
    edits: [['y.add(F.linear(F.linear(x, down), up), scale)', 'y.add(F.linear(F.linear(x, down).detach().add(down.sum(), 0), up), scale)']],
    cases: ['text-lora'],
  },
  {
    name: 'lora-scale',
    what: 'low-rank branches are not scaled by alpha / rank',
    edits: [['branch.scale = (strength * alpha) / rank;', 'branch.scale = strength;']],
    cases: ['text-lora'],
  },
  {
    name: 'text-gradient',
    what: 'the gradient that reaches the text is lost',
    edits: [['features.gather(found.inputs.slice(0, features.leaves.length));', '']],
    cases: ['alignprop'],
  },
  {
    name: 'value-knows',
    what: 'DPOK’s baseline is asked after it was shown the rewards',
    edits: [
      ['const expected = value.values(pictures);', ''],
      ['await value.fit(pictures, rewards, epoch);', 'await value.fit(pictures, rewards, epoch);\n      const expected = value.values(pictures);'],
    ],
    cases: ['dpok'],
  },
  {
    name: 'kl-half',
    what: 'the KL lacks its factor of one half',
    edits: [['meanSquare(base, mean).mul(0.5 / std ** 2)', 'meanSquare(base, mean).mul(1 / std ** 2)']],
    cases: ['dpok'],
  },
  {
    name: 'reference',
    what: 'Diffusion-DPO compares with the model in training, not with the one of before',
    edits: [['for (const [adapter] of strengths) adapter.strength = 0;', '']],
    cases: ['dpo'],
  },
  {
    name: 'one-over-n',
    what: 'DRaFT-LV adds up its gradients',
    edits: [['const share = 1 / train.noisings;', 'const share = 1;']],
    cases: ['draft-lv'],
  },
  {
    name: 'running-statistics',
    what: 'batch statistics move ten times too slowly',
    edits: [['readonly momentum = 0.1,', 'readonly momentum = 0.01,']],
    cases: ['resnet-18'],
  },
  {
    name: 'oldest-rewards',
    what: 'a prompt remembers its first rewards, not its last ones',
    edits: [['buffer.slice(-this.bufferSize)', 'buffer.slice(0, this.bufferSize)']],
    cases: ['trl-ddpo'],
  },
  {
    name: 'minimum-count',
    what: 'a prompt needs one reward more than it should before it is judged by its own',
    edits: [['buffer.length < this.minimumCount', 'buffer.length <= this.minimumCount']],
    cases: ['trl-ddpo'],
  },
  {
    name: 'clip-above-only',
    what: 'the ratio is clipped above, not below',
    edits: [['const clipped = advantage.mul(ratio.clamp(1 - clipRange, 1 + clipRange)).neg();', 'const clipped = advantage.mul(ratio.clamp(0, 1 + clipRange)).neg();']],
    cases: ['trl-ddpo-twice'],
  },
  {
    name: 'same-steps',
    what: 'each pass over an epoch learns from the same denoising steps',
    edits: [['...path, ...(pass === 0 ? [] : [pass])', '...path']],
    cases: ['trl-ddpo-twice'],
  },
  {
    name: 'velocity',
    what: 'a predicted velocity becomes noise with the wrong sign of one part',
    edits: [['noise: modelOutput.mul(signal).add(sample.mul(scale))', 'noise: modelOutput.mul(signal).sub(sample.mul(scale))']],
    cases: ['trl-ddpo-full'],
  },
  {
    name: 'window',
    what: 'of a window of steps only the last is followed',
    edits: [['steps - count + i)', 'steps - 1)']],
    cases: ['trl-alignprop'],
  },
  {
    name: 'past-the-network',
    what: 'a gradient that a step does not follow passes by unscaled',
    edits: [['arriving.mul(this.#linearPart(step))', 'arriving.mul(1)']],
    cases: ['trl-alignprop-full'],
  },
  {
    name: 'layout-unheard',
    what: 'the layout head is asked about captions that were dropped',
    edits: [['table.told.indexSelect(0, rows).mul(heard)', 'table.told.indexSelect(0, rows).mul(heard.mul(0).add(1))']],
    cases: ['unet-layout'],
  },
  {
    name: 'layout-detached',
    what: 'what the layout head learns does not reach the text encoder',
    edits: [['states.gather(1, token)', 'states.detach().gather(1, token)']],
    cases: ['unet-layout'],
  },
]; // biome-ignore format: edits stand as they do in the sources
