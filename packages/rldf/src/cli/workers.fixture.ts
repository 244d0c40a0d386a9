// One worker of workers.test.ts: `size root model`. The first one starts the others, and runs what shares its drawing: generate, eval,
// the source of search and clone, and a table of reproduce.
import { execFileSync } from 'node:child_process';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { Crew, crew, setCrew } from '@rldf/common/workers/crew';
import { launchCrew } from '@rldf/common/workers/launch';
import { placeOf } from '@rldf/common/workers/place';
import { openSource } from '@rldf/search';
import { setThreads } from '@rldf/torch';
import { loadProtocol } from '../reproduce/protocol.js';
import { reproduce } from '../reproduce/reproduce.js';
import { follow } from '../train/follow.js';
import { drain } from '../train/tiny-run.fixture.js';
import { evalCommand } from './eval.js';
import { generateCommand } from './generate.js';

const [size, root, model] = process.argv.slice(2) as [string, string, string];
setThreads(1);
const place = placeOf();
if (place !== undefined) {
  setCrew(await Crew.join(place));
  process.exit(await follow());
}
if (Number(size) > 1) setCrew(await launchCrew(Number(size), process.argv.slice(2)));
mkdirSync(root, { recursive: true });
const drawing = ['--model', model, '--steps', '3', '--batch-size', '2'];
/** Five pictures: a batch of all, and one that does not come out even. */
const generate = ['a cat', 'a dog', 'a cow', 'an ant', 'a bee', ...drawing];
await generateCommand().parseAsync([...generate, '--output', join(root, 'float32')], { from: 'user' });
await generateCommand().parseAsync(
  [...generate, '--precision', 'bfloat16', '--output', join(root, 'bfloat16')],
  { from: 'user' },
);
const reward = join(root, '../bright.yaml');
await evalCommand().parseAsync(
  [
    ...[model, '--suite', 'reward', '--reward', reward, '--max-prompts', '3', '--pictures', '1'],
    ...['--steps', '3', '--batch-size', '2', '--output', join(root, 'evaluation')],
  ],
  { from: 'user' },
);

const source = openSource(model, { steps: 3, batchSize: 2 });
const requests = Array.from({ length: 5 }, (_, seed) => ({ sentence: `${seed + 1} cats`, seed }));
const drawn: number[][] = [];
await source.draw(requests, (index, { data }) => {
  drawn[index] = [...data];
});
const { ahead, batchSize } = source;
writeFileSync(join(root, 'source.json'), JSON.stringify({ ahead, batchSize, drawn }));

const table = join(root, 'recipes', 'reproduce', 'demo');
mkdirSync(table, { recursive: true });
const recipe = {
  ...{ method: 'ddpo', model, prompts: ['a cat', 'a dog'], reward: { module: join(root, '../bright.mjs') } },
  ...{ epochs: 1, sample: { steps: 3, picturesPerPrompt: 2, promptsPerEpoch: 2, guidanceScale: 2 } },
  train: { clipNats: 1.6, updatesPerEpoch: 1, learningRate: 0.003 },
};
writeFileSync(join(table, 'recipe.yaml'), JSON.stringify(recipe));
writeFileSync(
  join(table, 'protocol.yaml'),
  `version: 1
question: Does it work?
paper: none
recipe: recipe.yaml
arms: { low: {}, high: { train.learningRate: 0.01 } }
reference: low
seeds: [1]
judges: [jpeg-incompressibility]
budget: { full: {}, smoke: {} }
`,
);
const git = (...words: string[]) => execFileSync('git', words, { cwd: root, stdio: 'pipe' });
git('init', '--quiet');
git('add', 'recipes');
git('-c', 'user.name=t', '-c', 'user.email=t@t', 'commit', '--quiet', '-m', 'protocol');
await drain(
  reproduce({
    protocol: loadProtocol('demo', join(root, 'recipes', 'reproduce'), ['demo']),
    budget: 'full',
    shippedRecipe: (name) => name,
    runs: join(root, 'runs'),
  }),
);
await crew().end(0);
process.exit(0);
