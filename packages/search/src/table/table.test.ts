import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { readProtocol } from '@rldf/common/base/protocol-file';
import { correlation } from '@rldf/common/base/stats';
import { expect, test } from 'vitest';
import { grammarsFolder, recipesFolder } from '../recipes.fixture.js';
import { toyEmbedder, toyRecogniser, toySource } from '../toy.fixture.js';
import { Encoding } from '../world/encoding.js';
import { semanticReward } from '../world/rewards.js';
import { verdictOf } from './claims.js';
import { landscapeOf, ranks } from './landscape.js';
import { estimateOf, quantileOf } from './numbers.js';
import { searchProtocol } from './protocol.js';
import { inputOf, observationsFor, readRecording } from './recording.js';
import { sceneries, tableArms } from './runs.js';
import { type SearchTableEvent, type SearchTableOptions, searchTable } from './table.js';
import { worldGrammar } from './worlds.js';

const GRAMMAR = `
counts: [Frequency]
objects: [Noun]
scenes: [Scene]
WINDOW
productions:
  S: Frequency Noun Scene
  Frequency: { 1: a, 3: three }
  Noun: [ant, cat, goose]
  Scene: { white: '', grass: on the grass, snow: in the snow, sea: at sea }
`;
const PROTOCOL = `version: 1
kind: search
question: Does it work?
paper: none
pictures: { model: toy, steps: 1, guidanceScale: 1, seeds: [1, 2] }
worlds: { few: few, all: all }
order: file
windows: {}
inputs: { art: noto, seed: 1, scenes: [a photo of a cat on the grass, a photo of a goose] }
agents: [q, sarsa, random]
rewards: [multi, partial, clip]
epsilons: ['0.1']
agentSeeds: [1, 2, 3]
settings:
  printed: { table: actions, initialQ: random, alpha: '0.5', gamma: 0.9 }
  axes: { table: afterstates, initialQ: axes, alpha: '1', gamma: 0.5 }
primary: { setting: axes, reward: multi, epsilon: '0.1' }
beside: [enumeration, gradient-spsa]
claims: { epsilons: ['0.1', '1'], dynamicSeeds: true, randomStarts: true }
statistic: shares
tuning: none
`;

function repository() {
  const folder = mkdtempSync(join(tmpdir(), 'rldf-search-table-'));
  const tables = join(folder, 'recipes', 'reproduce');
  const table = join(tables, 'toys');
  mkdirSync(table, { recursive: true });
  writeFileSync(join(table, 'few.yaml'), GRAMMAR.replace('WINDOW', 'window: { Noun: 2, Scene: 2 }'));
  writeFileSync(join(table, 'all.yaml'), GRAMMAR.replace('WINDOW', ''));
  const write = (text: string) => writeFileSync(join(table, 'protocol.yaml'), text);
  write(PROTOCOL);
  const git = (...words: string[]) => execFileSync('git', words, { cwd: folder, stdio: 'pipe' });
  git('init', '--quiet');
  const commit = () => {
    git('add', 'recipes');
    git('-c', 'user.name=t', '-c', 'user.email=t@t', 'commit', '--quiet', '-m', 'protocol');
  };
  const load = () => searchProtocol(readProtocol('toys', tables, ['toys']), grammarsFolder);
  return { folder, write, commit, load };
}

async function run(
  { folder, load }: ReturnType<typeof repository>,
  source = toySource(8),
  more: Partial<SearchTableOptions> = {},
) {
  const events: SearchTableEvent[] = [];
  const instruments = () => ({
    source,
    recogniser: toyRecogniser(),
    embedder: { ...toyEmbedder, scale: 1, pictures: () => [] },
  });
  const runs = join(folder, 'runs');
  for await (const event of searchTable({ protocol: load(), budget: 'full', runs, instruments, ...more }))
    events.push(event);
  const last = events.at(-1)!;
  if (last.kind !== 'table') throw new Error('no table');
  return {
    events,
    numbers: last.numbers,
    page: readFileSync(last.path, 'utf8'),
    folder: dirname(last.path),
  };
}

test('draws every state once a seed, searches in all of them, and regenerates the page from the recordings alone', async () => {
  const repo = repository();
  await expect(run(repo)).rejects.toThrow(/is not committed/);
  repo.commit();
  const source = toySource(8);
  const { numbers, page } = await run(repo, source);
  expect(source.drawn).toHaveLength(2 * 24);
  expect(numbers.missing).toEqual([]);
  const of = (arm: string, world: string) =>
    numbers.arms.find((one) => one.arm === arm && one.world === world)!;
  expect(of('random', 'all')).toMatchObject({ searches: 2 * 2 * 3, cap: 24 });
  expect(of('random', 'few').cap).toBe(2 * 2 * 2);
  expect(of('enumeration', 'all').reached.mean).toBe(1);
  expect(of('axes q multi 0.1', 'all').reachedMinusRandom!.ci95).not.toBeNull();
  expect(of('axes q multi 0.1 dynamic seeds', 'all').searches).toBe(2 * 3);
  expect(numbers.claims.every(({ verdict }) => verdict !== 'not measured')).toBe(true);
  expect(numbers.summary).toMatchObject({ cloneTop1: null, medianFirstHit480: expect.any(Number) });
  expect(page).toContain('| axes | sarsa | clip | 0.1 |');
  expect(page).not.toContain('undefined');

  const broken = () => {
    throw new Error('nothing is to be drawn');
  };
  const again = await run(repo, source, { instruments: broken });
  expect(again.page).toBe(page);

  const cloneTop1 = { mean: 0.62, ci95: [0.57, 0.671] };
  const summary = { cloneTop1, ceilingTop1: { mean: 0.75, ci95: null } };
  writeFileSync(join(again.folder, 'clone.json'), JSON.stringify({ summary }));
  const cloned = await run(repo, source, { instruments: broken });
  expect(cloned.numbers.summary).toMatchObject({ cloneTop1: 0.62, ceilingTop1: 0.75 });
  expect(cloned.page).toContain('`cloneTop1` 62.0 % [57.0, 67.1], `ceilingTop1` 75.0 %, on real');

  repo.write(PROTOCOL.replace('Does it work?', 'Did it work?'));
  repo.commit();
  await expect(run(repo)).rejects.toThrow(/changed after the first test picture/);
});

test('what was drawn before a source broke is searched in, the rest is named, and the next call goes on', async () => {
  const repo = repository();
  repo.commit();
  const source = toySource(8);
  source.failAt = 24 + 3;
  await expect(run(repo, source)).rejects.toThrow(/the source broke/);
  const { numbers, page } = await run(repo, source, { recordedOnly: true });
  expect(numbers.missing).toEqual(['few, picture seed 2', 'all, picture seed 2']);
  expect(page).toContain('**Not drawn yet:** few, picture seed 2; all, picture seed 2');
  source.failAt = -1;
  const whole = await run(repo, source);
  expect(source.drawn).toHaveLength(2 * 24);
  expect(whole.numbers.missing).toEqual([]);
});

test('a recording pays what the pictures paid', async () => {
  const repo = repository();
  repo.commit();
  await run(repo);
  const protocol = repo.load();
  const recorded = readRecording(join(repo.folder, 'docs', 'results', 'toys'), 1, protocol)!;
  const large = new Encoding(worldGrammar(protocol, 'all'), recorded.orders);
  const eye = toyRecogniser();
  const source = toySource(24);
  const sentences = Array.from({ length: large.size }, (_, state) => large.sentence(large.stateOf(state)));
  const input = inputOf(recorded, 0);
  const seen = observationsFor(recorded, large, 0);
  await source.draw(
    sentences.map((sentence) => ({ sentence, seed: 5 })), // the toy eye's scene and object depend on the sentence alone
    async (index, picture) => {
      const [direct] = await eye.recognise([picture]);
      const reward = semanticReward('multi', input, { scenes: ['Scene'] });
      expect(reward.of(seen.get(sentences[index]!)!)).toBe(reward.of(direct!));
    },
  );
  expect(seen.size).toBe(24);
});

test('a landscape by hand', async () => {
  const repo = repository();
  repo.commit();
  await run(repo);
  const protocol = repo.load();
  const recorded = [1, 2].map(
    (seed) => readRecording(join(repo.folder, 'docs', 'results', 'toys'), seed, protocol)!,
  );
  const all = sceneries(protocol, recorded, 'all', 0);
  expect(all.map(({ pictureSeed }) => pictureSeed)).toEqual([1, 2, null]);
  // the toy eye sees what is asked: the scene pays 1 or -1, the object 1; 2 numbers x 3 nouns x 4 scenes
  const partial = landscapeOf(all[0]!, 'multi', 0.9);
  expect(partial).toMatchObject({ peaks: 0, goalPaysMost: true, optimumReaches: 1, zeroSearch: true });
  expect(ranks([5, 1, 5, 7])).toEqual([2.5, 1, 2.5, 4]);
  expect(correlation([1, 2, 3], [2, 4, 6])).toBeCloseTo(1);
  expect(correlation([1, 1, 1], [2, 4, 6])).toBe(0);
});

test('a search that did not arrive is slower than any that did', () => {
  expect(quantileOf([1, 2, 3, 4], 0.5)).toBe(2.5);
  expect(quantileOf([1, 2, 3, Number.POSITIVE_INFINITY], 0.5)).toBe(2);
  expect(quantileOf([1, Number.POSITIVE_INFINITY, Number.POSITIVE_INFINITY], 0.5)).toBe(
    Number.POSITIVE_INFINITY,
  );
});

test('verdicts follow the interval, not the mean', () => {
  expect(verdictOf({ mean: 0.5, ci95: [0.1, 0.9] })).toBe('holds');
  expect(verdictOf({ mean: 0.5, ci95: [-0.1, 0.9] })).toBe('not shown');
  expect(verdictOf({ mean: -0.5, ci95: [-0.9, -0.1] })).toBe('does not hold');
  expect(verdictOf({ mean: 3, ci95: [1.5, 4] }, 2)).toBe('not shown');
  expect(verdictOf({ mean: 3, ci95: null })).toBe('not shown');
  expect(verdictOf(null)).toBe('not measured');
  // one world only: no interval over worlds
  expect(estimateOf([[1, 0]], 'p')).toEqual({ mean: 0.5, ci95: null });
  expect(
    estimateOf(
      [
        [1, 1],
        [1, 1],
      ],
      'p',
    ).ci95,
  ).toEqual([1, 1]);
});

test('every arm has a name of its own; random selection and enumeration are run once', () => {
  const tables = join(recipesFolder, 'reproduce');
  const found = readdirSync(tables)
    .map((name) => readProtocol(name, tables, []))
    .filter(({ kind }) => kind === 'search');
  expect(found.map(({ table }) => table)).toContain('rldf');
  for (const read of found) {
    const protocol = searchProtocol(read, grammarsFolder);
    const arms = tableArms(protocol);
    expect(new Set(arms.map(({ name }) => name)).size).toBe(arms.length);
    expect(arms.filter(({ agent }) => agent === 'random' || agent === 'enumeration')).toHaveLength(2);
    const learners = arms.filter(
      ({ setting, sameStart, dynamicSeeds }) => setting in protocol.settings && sameStart && !dynamicSeeds,
    );
    const count = (agent: string) => learners.filter((arm) => arm.agent === agent).length;
    const cells = Object.keys(protocol.settings).length * protocol.rewards.length * protocol.epsilons.length;
    expect(count('sarsa')).toBe(cells);
  }
});

test.each([
  ['an agent that is none', PROTOCOL.replace('agents: [q', 'agents: [sarza'), /protocol.yaml {2}agents.0/],
  [
    'an ε that is no schedule',
    PROTOCOL.replace("epsilons: ['0.1']\nagentSeeds", "epsilons: ['7']\nagentSeeds"),
    /epsilons.0: no schedule/,
  ],
  ['a discount of 1', PROTOCOL.replace('gamma: 0.5', 'gamma: 1'), /settings.axes.gamma/],
])('%s is refused with its place', (_, text, message) => {
  const repo = repository();
  repo.write(text);
  expect(() => repo.load()).toThrow(message);
});

test('an input that no world holds, and a scene that is no caption, are refused', async () => {
  const repo = repository();
  repo.write(PROTOCOL.replace('a photo of a goose]', 'colourless green ideas]'));
  repo.commit();
  await expect(run(repo)).rejects.toThrow(/"colourless green ideas" is no caption/);
  repo.write(PROTOCOL.replace('windows: {}', 'windows: { Noun: unicorn }'));
  repo.commit();
  await expect(run(repo)).rejects.toThrow(/windows.Noun: no window of 3 values begins at "unicorn"/);
});
