// Teaches the shipped model to draw warm colours. Run: npx tsx examples/train.ts [EPOCHS PICTURES STEPS MODEL]
import { type RewardFunction, train } from 'rldf';

const [epochs = 10, picturesPerPrompt = 8, steps = 10] = process.argv.slice(2, 5).map(Number);
const model = process.argv[5] ?? 'emoji';
const prompts = ['a cat', 'a dog', 'a fox', 'a bear', 'a fish', 'a horse', 'a pig', 'a whale'];
const warmth: RewardFunction = ({ images }) =>
  images.map(({ data }) => {
    let sum = 0; // red minus blue, averaged over the pixels
    for (let i = 0; i < data.length; i += 3) sum += data[i]! - data[i + 2]!;
    return (3 * sum) / data.length;
  });
const sample = { steps, picturesPerPrompt, promptsPerEpoch: prompts.length };
const recipe = { method: 'ddpo', model, prompts, reward: 'warmth', epochs, sample, train: { clipNats: 1.6 } };
for await (const event of train(recipe, { name: `warmth-${Date.now()}`, reward: warmth })) {
  if (event.kind === 'step') console.log(event.step, event.row['reward/mean']);
  if (event.kind === 'finished') console.log(event.report.reward, event.adapters);
}
