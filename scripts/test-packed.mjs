#!/usr/bin/env node
// npm run test:packed: packs the packages, installs them into an empty project as a user would, sets up, trains from the
// README's twenty lines and runs every command there.
import { spawnSync } from 'node:child_process';
import {
  copyFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';

const root = resolve(import.meta.dirname, '..');
const project = mkdtempSync(join(tmpdir(), 'rldf-packed-'));
const say = (text) => process.stdout.write(`${text}\n`);
let passed = 0;
const failures = [];

function run(command, args, cwd = project) {
  const { status, stdout, stderr, error } = spawnSync(command, args, { cwd, encoding: 'utf8' });
  return { good: status === 0, stdout: stdout ?? '', output: `${stdout}${stderr}${error ?? ''}` };
}

/** Runs one command line; it must end well, and leave what it promises. */
function check(line, { leaves, words = line.split(' ') } = {}) {
  const { good, stdout, output } = run(words[0], words.slice(1));
  const missing = leaves !== undefined && !existsSync(join(project, leaves));
  if (good && !missing) passed++;
  else failures.push(line);
  say(`${good && !missing ? 'ok    ' : 'FAILED'} ${line}${missing ? ` (no ${leaves})` : ''}`);
  if (!good) say(output.slice(-2000));
  return stdout;
}

const tried = new Set();
const rldf = (line, options) => {
  tried.add(line.split(' ')[0]);
  return check(`npx rldf ${line}`, options);
};

const packed = run('npm', ['pack', '--workspaces', '--silent', '--pack-destination', project], root);
if (!packed.good) throw new Error(`npm pack failed:\n${packed.output}`);
const files = readdirSync(project).filter((name) => name.endsWith('.tgz'));
say(`packed ${files.join(', ')} into ${project}`);
writeFileSync(
  join(project, 'package.json'),
  JSON.stringify({ name: 'an-empty-project', private: true, type: 'module' }),
);
check('npm install', { words: ['npm', 'install', '--no-audit', '--no-fund', ...files.map((f) => `./${f}`)] });

rldf('setup', { leaves: 'node_modules/@rldf/torch/build/torch.node' });
rldf('doctor --json');
copyFileSync(join(root, 'examples', 'train.ts'), join(project, 'train.ts'));
check('npx tsx train.ts 1 2 3');
rldf('models --json');
rldf('recipes');
rldf('recipes emoji/compressibility --copy mine.yaml', { leaves: 'mine.yaml' });
rldf('validate mine.yaml');
rldf('plan mine.yaml --json');
const small = [
  'epochs=2',
  'sample.steps=3',
  'sample.picturesPerPrompt=2',
  'sample.promptsPerEpoch=2',
  'train.updatesPerEpoch=1',
  'evaluate.every=1',
  'evaluate.maxPrompts=4',
  'report.maxPrompts=4',
]
  .map((pair) => `--set ${pair}`)
  .join(' ');
rldf(`train mine.yaml --name first ${small}`, { leaves: 'runs/first/report/index.html' });
rldf('resume first');
rldf('report first');
rldf('explain first');
rldf('redraw first validation-1-000 --output again.png', { leaves: 'again.png' });
tried.add('studio');
const studio = 'node_modules/rldf/bin/rldf.js studio --no-open --port 0 --json';
check(`timeout --preserve-status -s INT 20 node ${studio}`, {
  leaves: 'node_modules/@rldf/studio/dist/app/index.html',
});
const adapter = 'runs/first/adapters/pytorch_lora_weights.safetensors';
rldf(`export ${adapter} --format kohya --output kohya.safetensors`, { leaves: 'kohya.safetensors' });
rldf('generate cat --count 2 --output pictures', { leaves: 'pictures' });
rldf(`fuse ${adapter} ${adapter}:0.5 --output fused.safetensors`, { leaves: 'fused.safetensors' });
const searched = '--steps 2 --denoising-steps 1 --batch-size 4';
rldf(`search --image pictures/0000.png --pictures 1 ${searched} --output found`, { leaves: 'found' });
for (const [i, name] of ['one', 'two'].entries()) {
  mkdirSync(join(project, 'classes', name), { recursive: true });
  copyFileSync(join(project, 'pictures', `000${i}.png`), join(project, 'classes', name, 'a.png'));
}
rldf(`clone --images classes --per-class 5 --out cloned ${searched}`, { leaves: 'cloned/two/00004.png' });
rldf('clone evaluate cloned --real cloned --arms clone --epochs 1 --seeds 0 --size 32', {
  leaves: 'cloned/.evaluation/evaluation.json',
});
rldf('reproduce');
rldf(`eval emoji --adapter ${adapter} --suite single --pictures 4 --json`);
rldf('prompts --json');
rldf('rewards --json');
rldf('rewards torture jpeg-compressibility');
rldf('verify-seed --json');
rldf('verify-resume --json');
rldf('world --grid world.png', { leaves: 'world.png' });
rldf('pretrain judge --steps 3 --batch-size 4 --folder runs/pretrain', {
  leaves: 'runs/pretrain/judge/checkpoints',
});
rldf(`quickstart ${small}`, { leaves: 'runs/quickstart/report/report.json' });

const { stdout: help } = run('npx', ['rldf', '--help']);
const commands = [...help.matchAll(/^ {2}([a-z-]+) /gm)]
  .map(([, name]) => name)
  .filter((name) => name !== 'help');
const untried = commands.filter((name) => !tried.has(name));
if (commands.length > 0 && untried.length === 0) passed++;
else
  failures.push(`every command is tried here; not yet: ${untried.join(', ') || 'all, as --help lists none'}`);

say(`${passed} passed, ${failures.length} failed${failures.map((line) => `\n  ${line}`).join('')}`);
if (failures.length === 0) rmSync(project, { recursive: true });
else process.exitCode = 1;
