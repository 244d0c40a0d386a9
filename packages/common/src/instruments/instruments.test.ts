import { mkdtempSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { boxesOf, loadArt, renderScene } from '@rldf/emoji-world';
import { intersectionOverUnion, OneStageDetector } from '@rldf/models';
import { Parameters, setThreads, tensor } from '@rldf/torch';
import { expect, test } from 'vitest';
import {
  type InstrumentCard,
  instrumentCard,
  instrumentFile,
  instrumentsFolder,
  listInstruments,
  loadDetector,
  writeInstrument,
} from './instruments.js';

setThreads(1);

const cards = listInstruments().map((name) => instrumentCard(name));

test('every instrument has a card of its own name; all together stay below 10 MB', () => {
  expect(cards.map(({ name }) => name)).toEqual(listInstruments());
  const bytes = listInstruments().reduce((sum, name) => sum + statSync(instrumentFile(name)).size, 0);
  expect(bytes).toBeLessThan(10e6);
});

test('judges share no seed, no scenes and no ancestor with anything that gives feedback, nor with the base model', () => {
  // CLIP, autoencoder, U-Net and the latent basis of the base model: seed 0
  const feedback = [{ seed: 0, sceneSeed: 0 }, ...cards.filter(({ role }) => role === 'feedback')];
  const used = new Set(feedback.flatMap(({ seed, sceneSeed }) => [seed, sceneSeed]));
  const roles = new Map(cards.map(({ name, role }) => [name, role]));
  for (const { name, role, seed, sceneSeed, startedFrom, split } of cards) {
    expect(split, name).toBe('train');
    if (role !== 'judge') continue;
    expect(used.has(seed), `${name}: seed ${seed}`).toBe(false);
    expect(used.has(sceneSeed), `${name}: scene seed ${sceneSeed}`).toBe(false);
    if (startedFrom !== null) expect(roles.get(startedFrom), `${name}: started from`).toBe('judge');
  }
});

test.each(['detector', 'judge-detector'] as const)('%s finds a cat left of a sun', async (name) => {
  const art = await loadArt('noto');
  const scene = {
    objects: [
      { noun: 'cat', size: 32, x: 0, y: 16 },
      { noun: 'sun', size: 32, x: 32, y: 16 },
    ],
    background: 'white',
  } as const;
  const [found = []] = loadDetector(name).detect(tensor(renderScene(scene, art), { shape: [1, 64, 64, 3] }));
  const truths = boxesOf(scene, art);
  expect(found.map(({ label }) => label).sort()).toEqual(['cat', 'sun']);
  for (const { label, box } of found) {
    const { left, top, right, bottom } = truths[label === 'cat' ? 0 : 1] as (typeof truths)[number];
    expect(intersectionOverUnion(box, [left, top, right, bottom])).toBeGreaterThan(0.6);
  }
});

test('an instrument is written in half precision and read back; a wrong name, card or class is named', () => {
  const folder = mkdtempSync(join(tmpdir(), 'rldf-instruments-'));
  const card: InstrumentCard = {
    name: 'mine',
    class: 'SomethingElse',
    role: 'feedback',
    seed: 12,
    sceneSeed: 1012,
    split: 'train',
    startedFrom: null,
    metrics: { mAP50: 0.5 },
    description: 'A test.',
    licence: 'Apache-2.0',
  };
  const parameters = Parameters.random(1);
  new OneStageDetector(parameters.at(), ['cat']);
  writeInstrument(folder, card, parameters.state());
  expect(instrumentCard('mine', folder)).toEqual(card);
  expect(statSync(instrumentFile('mine', folder)).size).toBeLessThan(2.1 * parameters.count);
  expect(() => instrumentFile('nine', folder)).toThrow(/here are: mine\. Did you mean mine\?/);
  expect(() => loadDetector('mine', folder)).toThrow(/its class is SomethingElse/);
  writeInstrument(folder, { ...card, class: 'OneStageDetector' }, parameters.state());
  expect(() => loadDetector('mine', folder)).toThrow(/shape/); // one label instead of 124
  writeFileSync(join(folder, 'mine.json'), '{"name": "mine"}');
  expect(() => instrumentCard('mine', folder)).toThrow(/class, role, seed/);
});

test('the folder of the shipped instruments is that of the world', () => {
  expect(instrumentFile('detector')).toBe(join(instrumentsFolder, 'detector.safetensors'));
});
