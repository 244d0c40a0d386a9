import { liveTensors, Parameters, scope, type Tensor, tensor } from '@rldf/torch';
import { expect, test } from 'vitest';
import { BatchNorm2d, learnedParameters, ResNet18 } from './resnet-18.js';

test('the standard network: 11.69 million parameters under torchvision’s names', () => {
  const parameters = Parameters.random(0);
  new ResNet18(parameters.at(), { classes: 1000 });
  const learned = learnedParameters(parameters);
  expect(learned.reduce((sum, { numel }) => sum + numel, 0)).toBe(11_689_512);
  expect(learned).toHaveLength(62);
  const names = [...parameters.entries.keys()];
  expect(names).toHaveLength(122);
  expect(names).toEqual(
    expect.arrayContaining([
      'conv1.weight',
      'bn1.running_var',
      'layer1.1.bn2.num_batches_tracked',
      'layer2.0.downsample.0.weight',
      'layer4.0.downsample.1.running_mean',
      'fc.bias',
    ]),
  );
  parameters.free();
});

test('the stem divides by four, each later stage by two', () => {
  const parameters = Parameters.random(0);
  const network = new ResNet18(parameters.at(), { classes: 3, width: 2 });
  const before = liveTensors();
  scope(() => {
    const images = tensor(new Float32Array(2 * 3 * 32 * 32), { shape: [2, 3, 32, 32] });
    expect(network.forward(images, { training: false }).shape).toEqual([2, 3]);
  });
  expect(liveTensors()).toBe(before);
  parameters.free();
});

test('batch norm: by the batch in training, by the running statistics else', () => {
  const parameters = Parameters.random(0);
  const norm = new BatchNorm2d(parameters.at(), 1, 0.1, 0);
  const numbers = (x: Tensor) => x.toNumbers().map((value) => Number(value.toFixed(5)));
  const of = (name: string) => numbers(parameters.entries.get(name)!);
  scope(() => {
    const x = tensor([1, 3, 5, 7], { shape: [2, 1, 1, 2], dtype: 'float32' });
    // mean 4, variance 5 (with n - 1: 20/3)
    const standard = [-3, -1, 1, 3].map((value) => Number((value / Math.sqrt(5)).toFixed(5)));
    expect(numbers(norm.forward(x, { training: true }))).toEqual(standard);
    expect(of('running_mean')).toEqual([0.4]);
    expect(of('running_var')).toEqual([Number((0.9 + 0.1 * (20 / 3)).toFixed(5))]);
    expect(of('num_batches_tracked')).toEqual([1]);
    const variance = 0.9 + 0.1 * (20 / 3);
    const moved = [1, 3, 5, 7].map((value) => Number(((value - 0.4) / Math.sqrt(variance)).toFixed(5)));
    const evaluated = numbers(norm.forward(x, { training: false }));
    for (const [i, value] of evaluated.entries()) expect(value).toBeCloseTo(moved[i]!, 4);
    expect(of('num_batches_tracked')).toEqual([1]);
  });
  parameters.free();
});
