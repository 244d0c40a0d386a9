/** What logged metrics mean, in a sentence; docs/methods has the formulas. */

import type { MetricInfo } from '@rldf/studio';

type Words = Omit<MetricInfo, 'name'>;
type Group = MetricInfo['group'];

const of = (group: Group, label: string, explanation: string, unit = ''): Words => ({
  group,
  label,
  unit,
  explanation,
});

const known: Record<string, Words> = {
  pictures: of('other', 'pictures drawn', 'Pictures drawn for training so far.'),
  'reward/mean': of('rewards', 'reward, training', 'Mean reward of the pictures that were learned from.'),
  'reward/std': of(
    'rewards',
    'spread of rewards',
    'Standard deviation over the pictures that were learned from.',
  ),
  'reward/reached': of(
    'rewards',
    'at the target',
    'Share of pictures at or above rewardTarget, which teach nothing.',
  ),
  'validation/reward': of(
    'rewards',
    'reward, validation',
    'Mean reward of the validation prompts, always with the same seeds. It chooses the best checkpoint.',
  ),
  'advantage/meanAbsolute': of(
    'policy',
    'mean advantage',
    'Mean of |A|. Near 0.8 when rewards spread normally; far below, pictures of a prompt hardly differ.',
  ),
  'loss/policy': of(
    'policy',
    'policy loss',
    'Near 0 at ratio 1, since advantages average to 0; its size says little.',
  ),
  'policy/approxKl': of(
    'policy',
    'KL from the drawing policy',
    'Estimated; a sudden rise says that the step was too large.',
  ),
  'policy/clipFraction': of(
    'policy',
    'clipped',
    'Share of (picture, step) pairs whose ratio left the clip range.',
  ),
  'policy/firstRatioError': of(
    'policy',
    'ratio error',
    'Largest |ratio - 1| before the first update, where it must be rounding error.',
  ),
  'policy/baseKl': of(
    'policy',
    'KL from the base model',
    'How far the policy is from the one that training began with.',
    'nats an element',
  ),
  'value/meanSquareError': of('policy', 'value error', 'Mean square error of the value network.'),
  'loss/denoising': of(
    'optimiser',
    'denoising loss',
    'Its size depends on the timesteps drawn; it need not fall.',
  ),
  'loss/weighted': of(
    'optimiser',
    'weighted loss',
    'Mean over the updates of the weighted denoising errors.',
  ),
  'loss/reward': of(
    'optimiser',
    'reward loss',
    'What the gradient follows: minus the reward, or a hinge of it.',
  ),
  'loss/pretraining': of(
    'optimiser',
    'pre-training loss',
    'Denoising loss on pictures of the model before training.',
  ),
  'loss/better': of('optimiser', 'error of the better', 'Denoising error of preferred pictures.'),
  'loss/worse': of(
    'optimiser',
    'error of the worse',
    'Denoising error of the others. It should rise more than the better one’s.',
  ),
  'dpo/accuracy': of(
    'policy',
    'pairs in order',
    'Share of pairs whose better picture the model prefers now.',
  ),
  'dpo/margin': of('policy', 'margin', 'Mean implicit reward of the better minus the worse picture.'),
  'gradient/norm': of('optimiser', 'gradient norm', 'Euclidean norm before clipping, mean over updates.'),
  'gradient/agreement': of(
    'optimiser',
    'gradient agreement',
    'Cosine with the mean of the gradients before; around 0 they are noise.',
  ),
  'gradient/steps': of(
    'optimiser',
    'steps with gradient',
    'Denoising steps that the reward’s gradient goes through.',
  ),
  'optimiser/learningRate': of('optimiser', 'learning rate', 'Mean over the updates.'),
  'refl/step': of('policy', 'step judged', 'Mean denoising step that ReFL judges at.'),
  'relabel/differs': of('other', 'captions changed', 'Share of pictures whose caption was changed.'),
  'relabel/dropped': of('other', 'pictures dropped', 'Share of pictures that nothing true could be said of.'),
  'relabel/matches': of('other', 'prompts obeyed', 'Share of pictures that show their prompt.'),
  'lessons/count': of('other', 'lessons', 'Examples that are learned from.'),
  'lessons/effective': of(
    'other',
    'effective lessons',
    'Examples, weighted: (sum of weights)² over sum of squares.',
  ),
  'watch/edgeDensity': of(
    'watch',
    'edges',
    'Rises when pictures fill with texture, falls when they become smooth or empty.',
  ),
  'watch/colourEntropy': of(
    'watch',
    'colours',
    'Entropy of the colours; falls when they collapse to few.',
    'nats',
  ),
  'watch/saturation': of('watch', 'saturation', 'Mean saturation.'),
  'watch/gridPeak': of('watch', 'grid', 'Strength of regular patterns.'),
  'watch/diversity': of(
    'watch',
    'diversity',
    'How much pictures of different noise differ; falls when they look alike.',
  ),
  'watch/judge': of('watch', 'judge', 'Score of watch.judge, which nothing is trained on.'),
  'time/step': of('speed', 'time a step', 'Wall clock, without evaluation and saving.', 's'),
  'time/cpu': of('speed', 'CPU time a step', 'Of all threads.', 's'),
  'memory/liveTensors': of('memory', 'tensors', 'Tensors alive after the step; must not grow.'),
  'memory/liveBytes': of('memory', 'memory', 'Bytes of their storages; must not grow.', 'B'),
};

const byNamespace: Record<string, Group> = {
  reward: 'rewards',
  validation: 'rewards',
  policy: 'policy',
  advantage: 'policy',
  dpo: 'policy',
  value: 'policy',
  loss: 'optimiser',
  gradient: 'optimiser',
  optimiser: 'optimiser',
  watch: 'watch',
  time: 'speed',
  memory: 'memory',
};

export function describeMetric(name: string): MetricInfo {
  const words = Object.hasOwn(known, name) ? known[name] : undefined;
  if (words !== undefined) return { name, ...words };
  const [namespace = '', ...rest] = name.split('/');
  const group = (Object.hasOwn(byNamespace, namespace) ? byNamespace[namespace] : undefined) ?? 'other';
  const label = rest.length > 0 ? rest.join('/') : name;
  const explanation = namespace === 'reward' ? `Mean score of ${label}, before weighting.` : '';
  return { name, label: namespace === 'reward' ? `reward: ${label}` : label, group, unit: '', explanation };
}
