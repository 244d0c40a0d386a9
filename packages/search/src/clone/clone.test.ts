import { spawnSync } from 'node:child_process';
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { encodePng } from '@rldf/common/drawing/png';
import { expect, test } from 'vitest';
import { toyEmbedder, toyGrammar, toyPicture, toyRecogniser, toySource } from '../toy.fixture.js';
import { type ClonedClass, type ClonedPicture, type CloneOptions, cloneDataset } from './clone.js';
import { tar } from './tar.js';

const root = mkdtempSync(join(tmpdir(), 'rldf-clone-'));
let folders = 0;
const fresh = () => join(root, String(folders++));

/** Three classes with misleading names; the second has no picture that can be read. */
async function images(): Promise<string> {
  const folder = fresh();
  const shown = { banana: 'three cats in the snow', n02123045: 'a goose at sea' };
  for (const [label, sentence] of Object.entries(shown)) {
    mkdirSync(join(folder, label), { recursive: true });
    writeFileSync(join(folder, label, '1.png'), await encodePng(toyPicture({ sentence, seed: 0 })));
    writeFileSync(join(folder, label, '2.png'), 'never looked at');
  }
  mkdirSync(join(folder, 'broken'));
  writeFileSync(join(folder, 'broken', '1.png'), 'no picture');
  return folder;
}

async function options(changes: Partial<CloneOptions> = {}) {
  return {
    images: await images(),
    perClass: 3,
    output: fresh(),
    format: 'folders',
    grammar: toyGrammar,
    source: toySource(),
    recogniser: toyRecogniser(),
    embedder: toyEmbedder,
    reward: 'multi',
    pictureSeed: 0,
    follow: { agent: 'q', seed: 0, steps: 2000 },
    ...changes,
  } as CloneOptions & { source: ReturnType<typeof toySource> };
}

async function run(settings: CloneOptions): Promise<ClonedClass[]> {
  const classes: ClonedClass[] = [];
  for await (const one of cloneDataset(settings)) classes.push(one);
  return classes;
}

const lines = (file: string): ClonedPicture[] =>
  readFileSync(file, 'utf8')
    .trimEnd()
    .split('\n')
    .map((line) => JSON.parse(line) as ClonedPicture);

test('each class is what its picture shows, whatever its folder is called; what cannot be read is left out and told', async () => {
  const all = await options();
  const classes = await run(all);
  expect(classes.map(({ label, sentence, reachedGoal }) => [label, sentence, reachedGoal])).toEqual([
    ['banana', 'three cats in the snow', true],
    ['broken', null, false],
    ['n02123045', 'a goose at sea', true],
  ]);
  expect(classes[1]!.failed).toMatch(/broken.1.png: cannot be read as a picture/);
  expect(readdirSync(join(all.output, 'banana'))).toEqual(['00000.png', '00001.png', '00002.png']);
  const told = lines(join(all.output, 'banana.jsonl'));
  expect(told[2]).toMatchObject({
    file: '00002.png',
    label: 'banana',
    sentence: 'three cats in the snow',
    source: 'toy',
  });
  expect(told[0]!.state).toEqual({ Frequency: '3', Noun: 'cat', Scene: 'snow' });
  expect(new Set(told.map(({ seed }) => seed)).size).toBe(3);
  expect(all.source.drawn.some((sentence) => /banana|n02123045/.test(sentence))).toBe(false);
});

test('a picture in which its object is not recognised is drawn again, so often and no oftener', async () => {
  /** Sees nothing in pictures whose seed leaves an even rest, the inputs aside. */
  const eye = toyRecogniser();
  const half: typeof eye = {
    ...eye,
    recognise: async (pictures) =>
      (await eye.recognise(pictures)).map((seen, i) => {
        const rest = pictures[i]!.data[10]!;
        return rest % 2 === 0 && rest !== 0 ? { ...seen, objects: {} } : seen;
      }),
  };
  const told = async (redraws: number) => {
    const all = await options({ perClass: 6, redraws, recogniser: half });
    await run(all);
    return lines(join(all.output, 'banana.jsonl'));
  };
  const [never, once, often] = [await told(0), await told(1), await told(20)];
  expect(never.every((line) => line.redrawn === undefined && line.recognised === undefined)).toBe(true);
  expect(Math.max(...once.map(({ redrawn }) => redrawn!))).toBe(1);
  expect(once.some(({ recognised }) => recognised === false)).toBe(true);
  expect(often.every(({ recognised }) => recognised)).toBe(true);
  const first = often.filter(({ redrawn }) => redrawn === 0);
  expect(first.length).toBeGreaterThan(0);
  expect(first.length).toBeLessThan(6);
  for (const [i, { seed, redrawn, sentence }] of often.entries()) {
    expect(seed === never[i]!.seed).toBe(redrawn === 0);
    expect(sentence).toBe(never[i]!.sentence); // the controls keep their balance
    expect(seed % 251 === 0 || (seed % 251) % 2 === 1).toBe(true);
  }
});

test('what a failing source interrupts is gone on with, and finished classes are kept', async () => {
  const straight = await options();
  await run(straight);
  const broken = await options({ images: straight.images });
  broken.source.failAt = straight.source.drawn.length - 2;
  await expect(run(broken)).rejects.toThrow('the source broke');
  expect(existsSync(join(broken.output, 'banana.jsonl'))).toBe(true);
  expect(existsSync(join(broken.output, 'n02123045.jsonl'))).toBe(false);
  broken.source.failAt = -1;
  const classes = await run(broken);
  expect(classes.map(({ kept }) => kept)).toEqual([true, false, false]);
  expect(broken.source.drawn).toHaveLength(straight.source.drawn.length);
  for (const file of ['banana.jsonl', 'n02123045.jsonl', 'n02123045/00002.png'])
    expect(readFileSync(join(broken.output, file))).toEqual(readFileSync(join(straight.output, file)));
});

test('shards together make the same clone', async () => {
  const whole = await options();
  await run(whole);
  const output = fresh();
  for (const index of [1, 0])
    await run(await options({ images: whole.images, output, shard: { index, count: 2 } }));
  expect(readdirSync(output)).toEqual(readdirSync(whole.output));
  for (const label of ['banana', 'n02123045'])
    expect(lines(join(output, `${label}.jsonl`))).toEqual(lines(join(whole.output, `${label}.jsonl`)));
});

test('a WebDataset shard holds picture, class and metadata under one key', async () => {
  const all = await options({ format: 'webdataset' });
  await run(all);
  const shard = join(all.output, 'banana.tar');
  const listed = spawnSync('tar', ['-tf', shard], { encoding: 'utf8' });
  expect(listed.stdout.trim().split('\n').slice(0, 3)).toEqual(['00000.png', '00000.cls', '00000.json']);
  const taken = spawnSync('tar', ['-xOf', shard, '00001.json'], { encoding: 'utf8' });
  expect(JSON.parse(taken.stdout)).toEqual(lines(join(all.output, 'banana.jsonl'))[1]);
  expect(spawnSync('tar', ['-xOf', shard, '00001.cls'], { encoding: 'utf8' }).stdout).toBe('banana');
  rmSync(shard);
});

test('tar by hand: header fields, padding, the end', () => {
  const bytes = tar([{ name: 'a.txt', data: Buffer.from('hello') }]);
  expect(bytes).toHaveLength(512 + 512 + 1024);
  expect(bytes.toString('latin1', 0, 5)).toBe('a.txt');
  expect(bytes.toString('latin1', 124, 135)).toBe('00000000005');
  expect(bytes.toString('latin1', 512, 517)).toBe('hello');
  const sum = bytes.subarray(0, 512).reduce((total, byte, i) => total + (i >= 148 && i < 156 ? 32 : byte), 0);
  expect(Number.parseInt(bytes.toString('latin1', 148, 154), 8)).toBe(sum);
  expect(() => tar([{ name: 'x'.repeat(101), data: Buffer.alloc(0) }])).toThrow(/more than 100 bytes/);
});

test('a folder without classes is refused', async () => {
  const empty = fresh();
  mkdirSync(empty);
  await expect(run(await options({ images: empty }))).rejects.toThrow(/no folders in it/);
});
